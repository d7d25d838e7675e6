"""Readers of a dataset that is replaced again and again: each must see the old or the new one, never neither or a mix.

python benchmarks/replacement.py [--opens 5000]

One process replaces the dataset as fast as it can; another one opens it. Printed are the opens that saw each of the
two datasets, and those that failed or saw a mix, which must be 0.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.io.dataset import open_dataset, write_dataset


def make_scan(value: int) -> Scan:
    """Return a scan whose counts, positions and name all tell which of the two it is."""
    counts = np.full((8, 16, 16), value, np.uint16)
    probe = np.full((1, 16, 16), np.sqrt(value), np.complex64)
    positions = np.arange(16.0).reshape(8, 2) + value
    return Scan(counts, positions, probe, Geometry(1e-8, 1e-10, 1.0), name=f"scan{value}")


def replace_for_ever(folder: Path) -> None:
    """Write the two scans in turn."""
    while True:
        for value in (1, 2):
            write_dataset(folder, make_scan(value))


def look(folder: Path) -> str:
    """Open the dataset once and return what was seen."""
    try:
        scan = open_dataset(folder)
    except (OSError, ValueError) as error:
        return f"FAILED: {type(error).__name__}"
    value = int(scan.counts[0, 0, 0])
    whole = (scan.counts == value).all() and scan.positions[0, 0] == value and scan.name == f"scan{value}"
    return scan.name if whole else "MIXED"


def main() -> None:
    """Print how often each dataset was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opens", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "dataset"
        write_dataset(folder, make_scan(1))
        writer = multiprocessing.get_context("spawn").Process(target=replace_for_ever, args=(folder,), daemon=True)
        writer.start()
        began = time.perf_counter()
        seen = Counter(look(folder) for _ in range(arguments.opens))
        writer.kill()
        writer.join()
    print(f"{arguments.opens} opens in {time.perf_counter() - began:.1f} s:", dict(sorted(seen.items())))


if __name__ == "__main__":
    main()
