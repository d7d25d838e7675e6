"""What a step took, where Snakemake cannot measure it: rules whose products may come from a cache."""

import csv
import resource
import sys
import time
from pathlib import Path

import psutil

from ..io.atomic import atomic_file

RSS_PER_MB = 2**20 if sys.platform == "darwin" else 2**10
"""Of the unit in which the system tells the most memory a process held."""


def write_benchmark(path: Path) -> None:
    """Write what this process took since it started, in the columns that Snakemake's benchmarks have.

    ``s`` by the clock, ``cpu_time`` of the processor, s, ``max_rss``, MB; start-up included.
    """
    spent = resource.getrusage(resource.RUSAGE_SELF)
    row = {
        "s": f"{time.time() - psutil.Process().create_time():.4f}",
        "max_rss": f"{spent.ru_maxrss / RSS_PER_MB:.2f}",
        "cpu_time": f"{spent.ru_utime + spent.ru_stime:.2f}",
    }
    with atomic_file(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
