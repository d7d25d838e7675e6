"""Peak memory of packing a scan, of epochs of training and refinement, of predicting and evaluating, under a limit.

    python benchmarks/memory.py [--gib 8] [--limit-gib 1.5] [--folder SOMEWHERE]

Each runs in a process of its own, whose private memory the system limits: beyond it allocations fail, and so does the
benchmark. What is printed is the greatest resident memory that is not page cache (``RssAnon`` and ``RssShmem``),
seen a thousand times a second, and how long it took. Needs twice ``--gib`` on the disk, and Linux. Prints JSON.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from large import large_scan

from ptychoflow.commands.pack import pack
from ptychoflow.commands.refine import refine
from ptychoflow.config import Refinement, Runtime, Training
from ptychoflow.data.datamodule import PredictionData, TrainingData
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.metrics.data_consistency import compare_counts, expected_by


def resident_bytes() -> int:
    """Memory of this process that is in RAM and no copy of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


def epoch(folder: Path) -> None:
    """Every batch of one epoch, as a training has them."""
    for _ in TrainingData([open_dataset(folder)], 4, Training(supervision="amplitude"), Runtime()).train_dataloader():
        pass


def prediction(folder: Path) -> None:
    """Every batch of a prediction."""
    for _ in PredictionData(open_dataset(folder), 4, Runtime()).predict_dataloader():
        pass


def refinement(folder: Path) -> None:
    """Refine for one epoch, from reading to writing."""
    refine(folder, folder.parent / "refined.h5", Refinement(epochs=1))


def evaluation(folder: Path) -> None:
    """Compare the counts with those that the refined object leads to."""
    found, scan = read_reconstruction(folder.parent / "refined.h5"), open_dataset(folder)
    compare_counts(expected_by(found), scan.counts, scan.mask)


def limited(run: Callable[..., None], arguments: tuple, limit: int, results: multiprocessing.Queue) -> None:
    """Run something within a limit of memory and tell its peak and its time."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    peak, done = [resident_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(1e-3):
            peak[0] = max(peak[0], resident_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    run(*arguments)
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    results.put({"peak_gib": round(peak[0] / 2**30, 3), "seconds": round(seconds, 1)})


def measure(folder: Path, gib: float, limit_gib: float) -> dict:
    scan, dataset = folder / "scan.cxi", folder / "dataset"
    large_scan(scan, int(gib * 2**30) // (64 * 64 * 2))
    context, found = multiprocessing.get_context("spawn"), {}
    for name, run, arguments in (
        ("pack", pack, (scan, dataset)),
        ("epoch", epoch, (dataset,)),
        ("prediction", prediction, (dataset,)),
        ("refinement", refinement, (dataset,)),
        ("evaluation", evaluation, (dataset,)),
    ):
        results = context.Queue()
        child = context.Process(target=limited, args=(run, arguments, int(limit_gib * 2**30), results))
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit(f"{name} did not get by with {limit_gib} GiB")
        found[name] = results.get()
    return {"dataset_gib": round((dataset / "counts.npy").stat().st_size / 2**30, 2), "limit_gib": limit_gib, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=8.0)
    parser.add_argument("--limit-gib", type=float, default=1.5)
    parser.add_argument("--folder", type=Path, help="where to work; the system's temporary folder without it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(measure(Path(folder), options.gib, options.limit_gib), indent=1))


if __name__ == "__main__":
    main()
