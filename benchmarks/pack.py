"""How fast a scan is packed, against copying the same bytes on the same disk.

    python benchmarks/pack.py [--mib 1024] [--folder SOMEWHERE]

Everything is warm: the scan lies in the page cache, and written files are removed between turns. Both the copy and the
packing end when all is on the disk; with ``--folder /dev/shm`` there is none to wait for. The copy is the faster of
``shutil.copyfile``, which copies within the system, and reading and writing 4 MiB at a time. ``ratio`` is the rate of
packing over that of copying; the target is 0.7. The best of several turns counts, for all of them. Prints JSON.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from large import large_scan

from ptychoflow.commands.pack import pack
from ptychoflow.io.dataset import PIECE


def copy(source: Path, target: Path) -> None:
    """Copy a file within the system, to the disk."""
    shutil.copyfile(source, target)
    with target.open("rb") as new:
        os.fsync(new)


def read_and_write(source: Path, target: Path) -> None:
    """Copy a file through memory, to the disk."""
    buffer = memoryview(bytearray(PIECE))
    with source.open("rb", buffering=0) as old, target.open("wb", buffering=0) as new:
        while count := old.readinto(buffer):
            new.write(buffer[:count])
        os.fsync(new)


def best_of(runs: dict[str, Callable[[Path], None]], folder: Path, turns: int) -> dict[str, float]:
    """The shortest time of each, s, in turns; what each makes is removed before the next."""
    best = dict.fromkeys(runs, np.inf)
    for _ in range(turns):
        for name, run in runs.items():
            began = time.perf_counter()
            run(folder / "made")
            best[name] = min(best[name], time.perf_counter() - began)
            shutil.rmtree(folder / "made") if (folder / "made").is_dir() else (folder / "made").unlink()
    return best


def measure(folder: Path, mib: int, turns: int) -> dict:
    """Rates in GB/s."""
    path = folder / "scan.cxi"
    large_scan(path, (mib << 20) // (64 * 64 * 2))
    runs = {
        "copyfile": lambda target: copy(path, target),
        "read_and_write": lambda target: read_and_write(path, target),
        "pack": lambda target: pack(path, target),
    }
    times, size = best_of(runs, folder, turns), path.stat().st_size
    rates = {f"{name}_gb_per_s": round(size / seconds / 1e9, 2) for name, seconds in times.items()}
    return {
        "mib": size >> 20,
        **rates,
        "ratio": round(min(times["copyfile"], times["read_and_write"]) / times["pack"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; the system's temporary folder without it")
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(measure(Path(folder), options.mib, options.turns), indent=1))


if __name__ == "__main__":
    main()
