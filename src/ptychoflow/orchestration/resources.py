"""What a step needs of a machine, estimated from the sizes of its inputs: for schedulers; it changes no result."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..config import Runtime

MORE_MEMORY, MORE_TIME = 1.5, 2.0
"""Factors of each further attempt."""


@dataclass(frozen=True)
class ResourceEstimate:
    """Memory and time of a step: what any run takes, and what each MB of its inputs adds.

    The numbers are about twice what ``results/benchmarks`` showed on scans of 64 px, two cores and no GPU.
    """

    memory_mb: float
    memory_per_mb: float
    minutes: float
    minutes_per_mb: float


RESOURCES = {
    "simulate": ResourceEstimate(1500, 3, 15, 0.1),
    "convert": ResourceEstimate(2000, 3, 30, 0.1),
    "pack": ResourceEstimate(800, 0.5, 5, 0.01),
    "train": ResourceEstimate(3000, 4, 60, 4),
    "infer": ResourceEstimate(2000, 2, 20, 0.5),
    "reconstruct": ResourceEstimate(2500, 8, 30, 1),
    "stitch": ResourceEstimate(1500, 6, 20, 0.5),
    "refine": ResourceEstimate(1500, 30, 20, 1),
    "evaluate": ResourceEstimate(1500, 20, 15, 0.5),
    "export": ResourceEstimate(1500, 6, 15, 0.2),
    "sweep": ResourceEstimate(1500, 1, 10, 0.1),
    "report": ResourceEstimate(1500, 3, 15, 0.1),
}


def memory_mb(step: str, inputs: Iterable[str | Path], attempt: int = 1) -> int:
    """Memory to ask for, MB, in hundreds; each further attempt asks for half as much again.

    Raises:
        FileNotFoundError: if an input does not exist yet: the estimate is made when it does.
    """
    need = RESOURCES[step]
    megabytes = need.memory_mb + need.memory_per_mb * size_mb(inputs)
    return math.ceil(megabytes * MORE_MEMORY ** (attempt - 1) / 100) * 100


def minutes(step: str, inputs: Iterable[str | Path], attempt: int = 1) -> int:
    """Time to ask for, minutes; each further attempt asks for twice as much.

    Raises:
        FileNotFoundError: if an input does not exist yet: the estimate is made when it does.
    """
    need = RESOURCES[step]
    return round((need.minutes + need.minutes_per_mb * size_mb(inputs)) * MORE_TIME ** (attempt - 1))


def srun(runtime: Runtime) -> str:
    """The command that starts a training on several nodes, a process for each device; empty on one node."""
    if runtime.nodes == 1:
        return ""
    processes = runtime.nodes * runtime.devices
    return f"srun --nodes={runtime.nodes} --ntasks={processes} --ntasks-per-node={runtime.devices} --kill-on-bad-exit"


def size_mb(paths: Iterable[str | Path]) -> float:
    """What files and folders hold together, MB."""
    return sum(_bytes(Path(path)) for path in paths) / 1e6


def _bytes(path: Path) -> int:
    if not path.is_dir():
        return os.stat(path).st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
