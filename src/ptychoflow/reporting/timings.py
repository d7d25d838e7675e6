"""How long steps took: from the benchmarks that Snakemake keeps, or from what the steps say themselves."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .results import Result

STEPS = ("simulate", "convert", "pack", "train", "infer", "stitch", "reconstruct", "refine", "evaluate")


@dataclass(frozen=True)
class Timing:
    """One run of a step.

    Attributes:
        step: its command.
        of: what it made: a scan, a method, or ``method/scan``.
        seconds: wall clock.
        cpu_seconds: of all its processes; None where not measured.
        memory_mb: the most it held; None where not measured.
    """

    step: str
    of: str
    seconds: float
    cpu_seconds: float | None = None
    memory_mb: float | None = None


def read_benchmarks(folder: Path, results: Sequence[Result], records: Sequence[dict]) -> list[Timing]:
    """The benchmarks of the steps that these results come from; none where the folder is missing.

    The folder may hold other runs': only scans and methods that the report is about are taken.
    """
    methods = {result.method for result in results} | {record["method"] for record in records}
    scans = {result.scan for result in results} | {scan for record in records for scan in record.get("groups", {})}
    found = []
    for step in STEPS:
        for path in sorted((folder / step).rglob("*.tsv")):
            parts = path.relative_to(folder / step).with_suffix("").parts
            scan_parts = parts[1:] if len(parts) > 1 or step == "train" else parts
            model_parts = parts[:1] if len(parts) > 1 or step == "train" else ()
            ours = {part.partition(".")[0] for part in scan_parts} <= scans and set(model_parts) <= methods
            timing = _read(path, step, "/".join(parts)) if ours else None
            found += [timing] if timing else []
    return found


def told_by_steps(results: Sequence[Result], records: Sequence[dict]) -> list[Timing]:
    """What the products say about the time they took, where there are no benchmarks."""
    found = [Timing("train", record["method"], record["seconds"]) for record in records]
    for stage, step in (("network", "reconstruct"), ("refined", "refine")):
        for result in results:
            seconds = result.seconds(stage) if stage in result.stages else None
            found += [] if seconds is None else [Timing(step, f"{result.method}/{result.scan}", seconds)]
    return found


PARTS = (
    "refinement",
    "load",
    "host_to_device",
    "first_batch",
    "inference",
    "device_to_host",
    "write",
    "synchronise",
    "assembly",
)


@dataclass(frozen=True)
class Parts:
    """Where the time of one prediction and its stitching went.

    Attributes:
        of: ``method/scan``.
        seconds: of each of ``PARTS`` that was measured.
        rates: patterns per second of those, and ``end_to_end`` of the prediction.
        metadata: device, processes, patterns and, where it was made from them, groups.
    """

    of: str
    seconds: dict[str, float]
    rates: dict[str, float]
    metadata: dict


def parts_of_prediction(results: Sequence[Result]) -> list[Parts]:
    """The times that ``infer``, ``stitch`` and ``reconstruct`` keep, of each result that came from a network."""
    found = []
    for result in results:
        told = result.metrics["reconstructions"].get("network", {})
        timing = told.get("inference")
        if timing:
            seconds = timing["seconds"] | told["seconds"]
            stitching = {part: timing["patterns"] / told["seconds"][part] for part in told["seconds"]}
            metadata = {name: timing[name] for name in ("device", "processes", "patterns", "groups") if name in timing}
            name = f"{result.method}/{result.scan}"
            found.append(Parts(name, seconds, timing["patterns_per_second"] | stitching, metadata))
    return found


def _read(path: Path, step: str, of: str) -> Timing | None:
    """A benchmark file; None where it is not one, which is no reason to have no report."""
    try:
        with path.open(newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        return Timing(step, of, float(row["s"]), _number(row.get("cpu_time")), _number(row.get("max_rss")))
    except (StopIteration, KeyError, ValueError, TypeError, OSError):
        return None


def _number(text: str | None) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
