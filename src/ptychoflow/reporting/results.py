"""What a report is made from: measures of reconstructions and records of trainings, as they lie on disk."""

import csv
import io
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..io.atomic import read_json

FORMAT = 3
"""Of the measures that this version reads."""


@dataclass(frozen=True)
class Result:
    """What ``evaluate`` found out about one method's reconstruction of one scan.

    Attributes:
        metrics: its JSON file.
        arrays: the file that its pictures are made from.
    """

    metrics: dict
    arrays: Path

    @property
    def method(self) -> str:
        return self.metrics["method"]

    @property
    def scan(self) -> str:
        return self.metrics["scan"]["name"]

    @property
    def has_truth(self) -> bool:
        return self.metrics["scan"]["has_truth"]

    @property
    def from_network(self) -> bool:
        """Whether refinement began from a network's object, not from a flat one."""
        return "network" in self.metrics["stages"]

    @property
    def stages(self) -> list[str]:
        """What was reconstructed, in the order it was made."""
        return [stage for stage in ("network", "refined") if stage in self.metrics["stages"]]

    @property
    def refined(self) -> dict:
        """Measures of the last stage."""
        return self.metrics["stages"]["refined"]

    def against_truth(self, stage: str, measure: str) -> float | None:
        """A measure against the truth, None where there is none."""
        found = self.metrics["stages"][stage]["against_truth"]
        return None if found is None else found[measure]

    def seconds(self, stage: str) -> float | None:
        """What a stage took, s, where it says so: prediction and stitching, or refinement."""
        told = self.metrics["reconstructions"].get(stage, {})
        seconds, predicted = told.get("seconds"), (told.get("inference") or {}).get("seconds", {})
        if not isinstance(seconds, dict):
            return seconds
        in_one_go = seconds.keys() <= predicted.keys()
        return predicted.get("total", 0.0) + (0.0 if in_one_go else sum(seconds.values()))

    def history(self) -> tuple[str, list[float], list[float]]:
        """How refinement went: what was measured, at how many seconds of processor time, and its values.

        The phase PSNR of the snapshots where there is a truth, else the R-factor of every epoch.
        """
        progress = self.metrics["progress"]
        snapshots = progress["snapshots"]
        if snapshots["phase_psnr"]:
            return "phase PSNR", *_paired(snapshots["cpu_seconds"], snapshots["phase_psnr"])
        return "R-factor", *_paired(progress["cpu_seconds"], progress["r_factor"])


@dataclass(frozen=True)
class Column:
    """A measure in a table: its key, heading, meaning, how many digits, and whether less or more is better."""

    key: str
    heading: str
    meaning: str
    digits: str
    better: str = ""


COLUMNS = (
    Column("r_factor", "R-factor", "misfit of amplitudes, sum of squares over counts", ".4f", "low"),
    Column("noise_floor", "noise alone", "what counting statistics leave of the R-factor for a perfect model", ".4f"),
    Column("phase_psnr", "phase PSNR (dB)", "peak: the truth's range", ".1f", "high"),
    Column("phase_mae", "phase MAE (rad)", "mean absolute phase error", ".3f", "low"),
    Column("phase_slow", "slow phase error (rad)", "rms below N/8 cycles across the field of view", ".3f", "low"),
    Column("phase_ssim", "phase SSIM", "structural similarity, range of the truth", ".3f", "high"),
    Column("amplitude_psnr", "amplitude PSNR (dB)", "peak: the truth's range", ".1f", "high"),
    Column(
        "correlation", "correlation", "complex Pearson correlation with the truth; 0 for a flat image", ".3f", "high"
    ),
    Column("frc_truth", "FRC ½ (px)", "half period at which correlation with the truth falls below 1/2", ".2f", "low"),
    Column("frc_halves", "split-half ½ (px)", "half period at which even and odd patterns agree to 1/2", ".2f", "low"),
    Column("raster_artifact_ratio", "seams", "change across borders of scan cells over that within; 1 is none", ".2f"),
    Column("seconds", "time (s)", "wall clock of prediction and stitching, or of refinement", ".1f"),
)


def read_results(paths: Sequence[Path]) -> list[Result]:
    """Read measures, in the order given.

    Raises:
        FileNotFoundError: if a file, or the arrays that belong to it, are missing.
        ValueError: if one is damaged or another version's.
    """
    return [_read_result(Path(path)) for path in paths]


def read_metrics(path: Path) -> dict:
    """The measures in a file that ``evaluate`` wrote.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged or another version's.
    """
    metrics = _read(path, "file of measures")
    if metrics.get("format") != FORMAT or not {"method", "scan", "stages", "progress"} <= set(metrics):
        raise ValueError(f"{path} is no file of measures that this version reads: evaluate again")
    return metrics


def read_records(paths: Sequence[Path]) -> list[dict]:
    """Read records of trainings.

    Raises:
        FileNotFoundError: if one is missing.
        ValueError: if one is no record.
    """
    records = [_read(Path(path), "record of a training") for path in paths]
    for path, record in zip(paths, records, strict=True):
        if not {"method", "curves", "config", "seconds"} <= set(record):
            raise ValueError(
                f"{path} is no record of a training: give the JSON file that train wrote beside the checkpoint"
            )
    return records


def by_scan(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of each scan, networks first, and scans first that a network reconstructed."""
    ordered = sorted(results, key=lambda result: not result.from_network)
    names = list(dict.fromkeys(result.scan for result in ordered))
    return {name: [result for result in ordered if result.scan == name] for name in names}


def rows(results: Sequence[Result], records: Sequence[dict] = ()) -> list[dict]:
    """The table: a row for each stage of each result, mean and spread over seeds, and the empty object of each scan."""
    table = []
    for scan, found in by_scan(results).items():
        table += [stage_row(result, stage) for result in found for stage in result.stages]
        table += _over_seeds(found, records)
        table.append(stage_row(found[0], "uniform") | {"method": "an empty image", "scan": scan, "seconds": None})
    return table


def stage_row(result: Result, stage: str) -> dict:
    """What the columns say of one stage; None where they have nothing to say."""
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
        "phase_slow": truth.get("phase_low_frequency_rms_rad"),
        "phase_ssim": truth.get("phase_ssim_truth_range"),
        "amplitude_psnr": truth.get("amplitude_psnr_truth_range"),
        "correlation": truth.get("correlation"),
        "frc_truth": _half_period(truth) if stage != "uniform" else None,
        "frc_halves": _half_period(halves),
        "raster_artifact_ratio": found["raster_artifact_ratio"] if stage != "uniform" else None,
        "seconds": result.seconds(stage),
    }


def table_text(results: Sequence[Result]) -> str:
    """The table for other programs: every measure of every stage, comma-separated."""
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
    """Names of methods that differ in nothing but the seed of their training."""
    groups: dict[str, list[str]] = {}
    for record in records:
        training = {key: value for key, value in record["config"]["training"].items() if key != "seed"}
        inputs = record.get("provenance", {}).get("inputs")
        key = json.dumps([record["config"] | {"training": training}, inputs], sort_keys=True)
        groups.setdefault(key, []).append(record["method"])
    return [names for names in groups.values() if len(names) > 1]


def _read_result(path: Path) -> Result:
    metrics = read_metrics(path)
    arrays = path.with_suffix("") / "arrays.npz"
    if not arrays.is_file():
        raise FileNotFoundError(f"{path} has no {arrays.name} in the folder beside it: evaluate again")
    return Result(metrics, arrays)


def _read(path: Path, what: str) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {what} {path}")
    return read_json(path)


def _paired(first: Sequence, second: Sequence) -> tuple[list[float], list[float]]:
    """Two columns without the rows that lack a number."""
    pairs = [(a, b) for a, b in zip(first, second, strict=False) if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _half_period(curve_of: dict | None) -> float | None:
    return curve_of["frc"]["crossings"]["1/2"]["half_period_px"] if curve_of else None


def _over_seeds(found: Sequence[Result], records: Sequence[dict]) -> Iterator[dict]:
    """Mean and standard deviation of methods that differ in the seed only."""
    for names in seed_groups(records):
        same = [result for result in found if result.method in names]
        for stage in ("network", "refined") if len(same) > 1 else ():
            each = [stage_row(result, stage) for result in same]
            row = {"scan": same[0].scan, "method": f"{len(same)} seeds of {names[0]}", "stage": stage}
            for column in COLUMNS:
                values = [r[column.key] for r in each]
                whole = None not in values
                row[column.key] = statistics.mean(values) if whole else None
                row[f"{column.key}_spread"] = statistics.stdev(values) if whole else None
            yield row


def _flatten(result: Result, stage: str) -> Iterator[tuple[str, float | None]]:
    """Every plain number of a stage, by a name that says where it stood."""
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
