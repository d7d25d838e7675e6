"""Run times of the steps, from Snakemake's benchmarks or from the metadata of the products."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..io.regular_file import read_text
from .results import Result

LONGEST_BENCHMARK = 1 << 16
"""Greatest length of a benchmark file, bytes."""

STEPS = ("simulate", "convert", "pack", "train", "infer", "stitch", "reconstruct", "refine", "evaluate")


@dataclass(frozen=True)
class Timing:
    """Run time of one step.

    Attributes:
        step: name of the command.
        of: the product: a scan, a method, or ``method/scan``.
        seconds: wall clock, s.
        cpu_seconds: processor time of all its processes, s; None where not measured.
        memory_mb: peak resident memory, MB; None where not measured.
    """

    step: str
    of: str
    seconds: float
    cpu_seconds: float | None = None
    memory_mb: float | None = None


def read_benchmarks(folder: Path, results: Sequence[Result], records: Sequence[dict]) -> list[Timing]:
    """Read the benchmarks of the steps behind these results; an empty list where the folder is missing.

    Benchmarks of scans and methods outside the report, which other runs may have left, are ignored.

    Args:
        folder: ``benchmarks/`` of the run.
        results: results of the report.
        records: training logs of the report.
    """
    methods = {result.method for result in results} | {record["method"] for record in records}
    scans = {result.scan for result in results} | {scan for record in records for scan in record.get("groups", {})}
    found = []
    for step in STEPS:
        for path in sorted((folder / step).rglob("*.tsv")):
            parts = path.relative_to(folder / step).with_suffix("").parts
            scan_parts = parts[1:] if len(parts) > 1 or step == "train" else parts
            method_parts = parts[:1] if len(parts) > 1 or step == "train" else ()
            belongs = {part.partition(".")[0] for part in scan_parts} <= scans and set(method_parts) <= methods
            timing = _read_benchmark(path, step, "/".join(parts)) if belongs else None
            found += [timing] if timing else []
    return found


def times_of_products(results: Sequence[Result], records: Sequence[dict]) -> list[Timing]:
    """Return the run times that the products hold, for a report without benchmarks."""
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
    """Run times of the parts of one inference and its stitching.

    Attributes:
        of: ``method/scan``.
        seconds: by name of the part, those of ``PARTS`` that were measured, s.
        rates: patterns per second of each part, and ``end_to_end`` of inference.
        metadata: device, number of processes, patterns and, where there are any, groups.
    """

    of: str
    seconds: dict[str, float]
    rates: dict[str, float]
    metadata: dict


def parts_of_prediction(results: Sequence[Result]) -> list[Parts]:
    """Return the run times by part of ``infer``, ``stitch`` and ``reconstruct``, for each result of a network."""
    found = []
    for result in results:
        network = result.metrics["reconstructions"].get("network", {})
        timing, parts = network.get("inference"), network.get("seconds")
        if timing and isinstance(parts, dict):
            seconds = timing["seconds"] | parts
            stitching = {part: timing["patterns"] / parts[part] for part in parts if parts[part] > 0}
            metadata = {name: timing[name] for name in ("device", "processes", "patterns", "groups") if name in timing}
            name = f"{result.method}/{result.scan}"
            found.append(Parts(name, seconds, timing["patterns_per_second"] | stitching, metadata))
    return found


def _read_benchmark(path: Path, step: str, of: str) -> Timing | None:
    """Read a benchmark file; None where it is damaged, which must not prevent a report."""
    try:
        row = next(csv.DictReader(read_text(path, LONGEST_BENCHMARK).splitlines(), delimiter="\t"))
        return Timing(step, of, _finite(float(row["s"])), _number(row.get("cpu_time")), _number(row.get("max_rss")))
    except (StopIteration, KeyError, ValueError, TypeError, OSError, csv.Error):
        return None


def _number(text: str | None) -> float | None:
    try:
        return _finite(float(text or ""))
    except ValueError:
        return None


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number
