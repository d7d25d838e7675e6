"""Benchmark files of steps that Snakemake cannot time: rules whose products may come from a cache."""

import csv
import resource
import sys
import time
from pathlib import Path

import psutil

from ..io.atomic import atomic_file

RSS_PER_MB = 2**20 if sys.platform == "darwin" else 2**10
"""Units per MB of the peak memory that the system reports, bytes on macOS and KiB elsewhere."""


def write_benchmark(path: Path) -> None:
    """Write time and memory of this process since its start, in columns of Snakemake's benchmark files.

    ``s`` is wall time, s; ``cpu_time`` processor time, s; ``max_rss`` peak memory, MB.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    row = {
        "s": f"{time.time() - psutil.Process().create_time():.4f}",
        "max_rss": f"{usage.ru_maxrss / RSS_PER_MB:.2f}",
        "cpu_time": f"{usage.ru_utime + usage.ru_stime:.2f}",
    }
    with atomic_file(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
