"""Resource estimates of steps from the sizes of their inputs, for schedulers; they change no result."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..config import Runtime

MORE_MEMORY, MORE_TIME = 1.5, 2.0
"""Factors on memory and time of each further attempt."""


@dataclass(frozen=True)
class ResourceEstimate:
    """Memory and time of a step: a base amount, and an amount for each MB of its inputs.

    The numbers are about twice those that ``results/benchmarks`` showed on scans of 64 px, two cores and no GPU. Steps
    that keep counts in memory where they fit, and leave them on disk where not, need a bounded amount for them.

    Attributes:
        memory_mb: base memory, MB.
        memory_per_mb: memory for each MB of inputs, MB.
        minutes: base time, min.
        minutes_per_mb: time for each MB of inputs, min.
        resident_per_mb: memory for counts that are kept, for each MB of inputs, MB.
        resident_mb: most memory for counts that are kept, MB.
    """

    memory_mb: float
    memory_per_mb: float
    minutes: float
    minutes_per_mb: float
    resident_per_mb: float = 0.0
    resident_mb: float = 0.0


RESOURCES = {
    "simulate": ResourceEstimate(1500, 3, 15, 0.1),
    "convert": ResourceEstimate(2000, 3, 30, 0.1),
    "pack": ResourceEstimate(800, 0.5, 5, 0.01),
    "train": ResourceEstimate(3000, 4, 60, 4),
    "infer": ResourceEstimate(2000, 2, 20, 0.5),
    "reconstruct": ResourceEstimate(2500, 1, 30, 0.2, resident_per_mb=8, resident_mb=2500),
    "stitch": ResourceEstimate(1500, 6, 20, 0.5),
    "refine": ResourceEstimate(1000, 0.25, 20, 0.1, resident_per_mb=8, resident_mb=2000),
    "evaluate": ResourceEstimate(1500, 0.8, 15, 0.05),
    "export": ResourceEstimate(1500, 6, 15, 0.2),
    "sweep": ResourceEstimate(1500, 1, 10, 0.1),
    "report": ResourceEstimate(1500, 3, 15, 0.1),
}


def memory_mb(step: str, inputs: Iterable[str | Path], attempt: int = 1) -> int:
    """Return the memory to request, MB, rounded up to hundreds; each further attempt requests half as much again.

    Raises:
        FileNotFoundError: if an input does not exist yet: the estimate is made when it does.
    """
    estimate = RESOURCES[step]
    size = size_mb(inputs)
    resident = min(estimate.resident_per_mb * size, estimate.resident_mb)
    megabytes = estimate.memory_mb + estimate.memory_per_mb * size + resident
    return math.ceil(megabytes * MORE_MEMORY ** (attempt - 1) / 100) * 100


def minutes(step: str, inputs: Iterable[str | Path], attempt: int = 1) -> int:
    """Return the time to request, min; each further attempt requests twice as much.

    Raises:
        FileNotFoundError: if an input does not exist yet: the estimate is made when it does.
    """
    estimate = RESOURCES[step]
    return round((estimate.minutes + estimate.minutes_per_mb * size_mb(inputs)) * MORE_TIME ** (attempt - 1))


def srun(runtime: Runtime) -> str:
    """Return the command that starts a training on several nodes, a process per device; empty on one node."""
    if runtime.nodes == 1:
        return ""
    processes = runtime.nodes * runtime.devices
    return f"srun --nodes={runtime.nodes} --ntasks={processes} --ntasks-per-node={runtime.devices} --kill-on-bad-exit"


def size_mb(paths: Iterable[str | Path]) -> float:
    """Return the total size of files and folders, MB."""
    return sum(_bytes(Path(path)) for path in paths) / 1e6


def _bytes(path: Path) -> int:
    if not path.is_dir():
        return os.stat(path).st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
