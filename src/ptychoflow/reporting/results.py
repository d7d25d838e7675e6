"""Results that a report is made from: metrics of reconstructions and training logs, read from disk."""

import csv
import io
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.doubt import Doubt, from_data
from ..io.json_file import check_schema, read_json
from ..io.provenance import sha256
from ..io.regular_file import check_regular
from .result_schema import Metrics, TrainingLog

EVALUATE = "run `ptychoflow evaluate` again"
FORMAT = 3
"""Version of the metrics files that this code writes and reads."""
ATTEMPTS = 5
"""Times that metrics and arrays are read anew, 0.1 s apart, while they do not belong together."""


@dataclass(frozen=True)
class Result:
    """Metrics of one method's reconstruction of one scan, as ``evaluate`` wrote them.

    Attributes:
        metrics: contents of the JSON file.
        arrays: file that the images are drawn from.
    """

    metrics: dict
    arrays: Path

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.metrics["method"]

    @property
    def scan(self) -> str:
        """Name of the scan."""
        return self.metrics["scan"]["name"]

    @property
    def has_truth(self) -> bool:
        """True if the scan has a ground truth."""
        return self.metrics["scan"]["has_truth"]

    @property
    def from_network(self) -> bool:
        """True if the initial object of refinement came from a network, False if it was uniform."""
        return "network" in self.metrics["stages"]

    @property
    def stages(self) -> list[str]:
        """Stages of the reconstruction, in the order in which they were made."""
        return [stage for stage in ("network", "refined") if stage in self.metrics["stages"]]

    @property
    def refined(self) -> dict:
        """Metrics of the refined object."""
        return self.metrics["stages"]["refined"]

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Doubts about the scan and the refined object, the serious ones first."""
        return from_data(self.metrics.get("doubts"))

    def against_truth(self, stage: str, metric: str) -> float | None:
        """Return a metric against the ground truth; None without one."""
        against_truth = self.metrics["stages"][stage]["against_truth"]
        return None if against_truth is None else against_truth[metric]

    def seconds(self, stage: str) -> float | None:
        """Return the wall-clock time of a stage, s: inference and stitching, or refinement; None where unknown."""
        metadata = self.metrics["reconstructions"].get(stage, {})
        seconds, inference = metadata.get("seconds"), (metadata.get("inference") or {}).get("seconds", {})
        if not isinstance(seconds, dict):
            return seconds
        includes_stitching = seconds.keys() <= inference.keys()
        return inference.get("total", 0.0) + (0.0 if includes_stitching else sum(seconds.values()))

    def history(self) -> tuple[str, list[float], list[float]]:
        """Return the progress of refinement: name of the metric, processor times in s, and its values.

        The metric is the phase PSNR of the snapshots where there is a ground truth, else the R-factor of every epoch.
        """
        progress = self.metrics["progress"]
        snapshots = progress["snapshots"]
        if snapshots["phase_psnr"]:
            return "phase PSNR", *_paired(snapshots["cpu_seconds"], snapshots["phase_psnr"])
        return "R-factor", *_paired(progress["cpu_seconds"], progress["r_factor"])


@dataclass(frozen=True)
class Column:
    """A metric as a table column: key, heading, meaning, number format, better direction (``low``, ``high``)."""

    key: str
    heading: str
    meaning: str
    digits: str
    better: str = ""


BASELINE = "uniform object (baseline)"

COLUMNS = (
    Column(
        "r_factor",
        "R-factor",
        "sum (sqrt(I) - sqrt(n))^2 / sum n over expected intensities I and measured counts n",
        ".4f",
        "low",
    ),
    Column("noise_floor", "noise floor", "R-factor of a perfect model, from counting statistics alone", ".4f"),
    Column("phase_psnr", "phase PSNR (dB)", "peak: range of the ground truth", ".1f", "high"),
    Column("phase_mae", "phase MAE (rad)", "mean absolute phase error", ".3f", "low"),
    Column(
        "phase_low_frequency_rms",
        "low-frequency phase RMS (rad)",
        "RMS phase error below N/8 cycles across the field of view",
        ".3f",
        "low",
    ),
    Column("phase_ssim", "phase SSIM", "structural similarity, data range of the ground truth", ".3f", "high"),
    Column("amplitude_psnr", "amplitude PSNR (dB)", "peak: range of the ground truth", ".1f", "high"),
    Column(
        "correlation",
        "correlation",
        "complex Pearson correlation with the ground truth; 0 for a uniform object",
        ".3f",
        "high",
    ),
    Column(
        "frc_truth",
        "FRC resolution (px)",
        "half period at which the FRC with the ground truth falls below 1/2",
        ".2f",
        "low",
    ),
    Column(
        "frc_halves",
        "half-set FRC resolution (px)",
        "half period at which the FRC between even and odd patterns falls below 1/2",
        ".2f",
        "low",
    ),
    Column(
        "raster_artifact_ratio",
        "raster artefacts",
        "mean squared change across borders of scan cells over that within cells; 1 without artefacts",
        ".2f",
    ),
    Column("seconds", "time (s)", "wall clock of inference and stitching, or of refinement", ".1f"),
)


def read_results(paths: Sequence[Path]) -> list[Result]:
    """Read the metrics of reconstructions, in the order given.

    Raises:
        FileNotFoundError: if a metrics file or its arrays are missing.
        ValueError: if one is damaged or of another version.
    """
    return [_read_result(Path(path)) for path in paths]


def read_metrics(path: Path) -> dict:
    """Read a metrics file that ``evaluate`` wrote.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged or of another version.
    """
    metrics = _read(path, "metrics file")
    if metrics.get("format") != FORMAT or not {"method", "scan", "stages", "progress"} <= set(metrics):
        raise ValueError(f"{path} is not a metrics file of format {FORMAT}: {EVALUATE}")
    check_schema(metrics, Metrics, str(path), EVALUATE)
    return metrics


def read_records(paths: Sequence[Path]) -> list[dict]:
    """Read training logs.

    Raises:
        FileNotFoundError: if one is missing.
        ValueError: if one is not a training log.
    """
    records = [_read(Path(path), "training log") for path in paths]
    for path, record in zip(paths, records, strict=True):
        if not {"method", "curves", "config", "seconds"} <= set(record):
            raise ValueError(
                f"{path} is not a training log: give the JSON file that `ptychoflow train` wrote beside the checkpoint"
            )
        check_schema(record, TrainingLog, str(path), "run `ptychoflow train` again")
    return records


def by_scan(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group results by scan: networks first, and first the scans that a network reconstructed."""
    ordered = sorted(results, key=lambda result: not result.from_network)
    names = list(dict.fromkeys(result.scan for result in ordered))
    return {name: [result for result in ordered if result.scan == name] for name in names}


def rows(results: Sequence[Result], records: Sequence[dict] = ()) -> list[dict]:
    """Return the rows of the table: each stage of each result, mean and std over seeds, uniform object of each scan."""
    table = []
    for scan, found in by_scan(results).items():
        table += [stage_row(result, stage) for result in found for stage in result.stages]
        table += _over_seeds(found, records)
        table.append(stage_row(found[0], "uniform") | {"method": BASELINE, "scan": scan, "seconds": None})
    return table


def stage_row(result: Result, stage: str) -> dict:
    """Return the table row of one stage; None where a metric is undefined."""
    found = result.metrics["stages"][stage]
    truth = found["against_truth"] or {}
    halves = result.metrics["split_half"].get(stage)
    return {
        "scan": result.scan,
        "method": result.method,
        "stage": stage,
        "r_factor": found["r_factor"],
        "noise_floor": found["noise_floor"] if stage == "refined" else None,
        "phase_psnr": truth.get("phase_psnr_truth_range"),
        "phase_mae": truth.get("phase_mae_rad"),
        "phase_low_frequency_rms": truth.get("phase_low_frequency_rms_rad"),
        "phase_ssim": truth.get("phase_ssim_truth_range"),
        "amplitude_psnr": truth.get("amplitude_psnr_truth_range"),
        "correlation": truth.get("correlation"),
        "frc_truth": _half_period(truth) if stage != "uniform" else None,
        "frc_halves": _half_period(halves),
        "raster_artifact_ratio": found["raster_artifact_ratio"] if stage != "uniform" else None,
        "seconds": result.seconds(stage),
    }


def table_text(results: Sequence[Result]) -> str:
    """Return every metric of every stage as comma-separated text, for other programs."""
    flat = [
        {"scan": result.scan, "method": result.method, "stage": stage} | dict(_flatten(result, stage))
        for result in results
        for stage in [*result.stages, "uniform"]
    ]
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def seed_groups(records: Sequence[dict]) -> list[list[str]]:
    """Group the names of methods that differ only in the seed of their training."""
    groups: dict[str, list[str]] = {}
    for record in records:
        training = {key: value for key, value in record["config"]["training"].items() if key != "seed"}
        inputs = record.get("provenance", {}).get("inputs")
        key = json.dumps([record["config"] | {"training": training}, inputs], sort_keys=True)
        groups.setdefault(key, []).append(record["method"])
    return [names for names in groups.values() if len(names) > 1]


def _read_result(path: Path) -> Result:
    """Read metrics and their arrays; an evaluation that is replacing them right now is waited for."""
    arrays = path.with_suffix("") / "arrays.npz"
    check_regular(arrays)
    for _ in range(ATTEMPTS):
        metrics = read_metrics(path)
        if not arrays.is_file():
            raise FileNotFoundError(f"{arrays} not found, which belongs to {path}: run `ptychoflow evaluate` again")
        if metrics.get("arrays_sha256") in (None, sha256(arrays)):
            return Result(metrics, arrays)
        time.sleep(0.1)
    raise ValueError(f"{arrays} is damaged or of another evaluation than {path}: run `ptychoflow evaluate` again")


def _read(path: Path, kind: str) -> dict:
    check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"{kind} not found: {path}")
    return read_json(path)


def _paired(first: Sequence, second: Sequence) -> tuple[list[float], list[float]]:
    """Return two columns without the rows that lack a number."""
    pairs = [(a, b) for a, b in zip(first, second, strict=False) if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _half_period(curve_of: dict | None) -> float | None:
    return curve_of["frc"]["crossings"]["1/2"]["half_period_px"] if curve_of else None


def _over_seeds(found: Sequence[Result], records: Sequence[dict]) -> Iterator[dict]:
    """Yield mean and standard deviation over methods that differ only in the seed."""
    for names in seed_groups(records):
        same = [result for result in found if result.method in names]
        for stage in ("network", "refined") if len(same) > 1 else ():
            table = [stage_row(result, stage) for result in same]
            row: dict[str, str | float | None] = {
                "scan": same[0].scan,
                "method": f"{len(same)} seeds of {names[0]}",
                "stage": stage,
            }
            for column in COLUMNS:
                values = [r[column.key] for r in table]
                complete = None not in values
                row[column.key] = statistics.mean(values) if complete else None
                row[f"{column.key}_std"] = statistics.stdev(values) if complete else None
            yield row


def _flatten(result: Result, stage: str) -> Iterator[tuple[str, float | None]]:
    """Yield every number of a stage with its column name."""
    found = result.metrics["stages"][stage]
    yield "seconds", result.seconds(stage)
    yield from _numbers(found)
    yield from _numbers(found["against_truth"] or {})
    curves = {"frc_truth": (found["against_truth"] or {}).get("frc")}
    if stage in result.metrics["split_half"]:
        curves["frc_halves"] = result.metrics["split_half"][stage]["frc"]
    for name, curve in curves.items():
        if curve:
            yield f"{name}_area", curve["area"]
            for threshold, crossing in curve["crossings"].items():
                yield f"{name}_{threshold.replace('/', '_')}_half_period_px", crossing["half_period_px"]
                yield f"{name}_{threshold.replace('/', '_')}_half_period_m", crossing["half_period_m"]


def _numbers(found: dict) -> Iterator[tuple[str, float | None]]:
    return (
        (name, value)
        for name, value in found.items()
        if value is None or (isinstance(value, int | float) and math.isfinite(value))
        if name != "against_truth"
    )
