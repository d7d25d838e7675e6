"""How far a network's patches are from the truth of a simulated scan, beside what it started from.

    python benchmarks/patch_error.py results/models/pinn.ckpt results/datasets/star results/datasets/photograph

Prints, for each scan, the mean over groups of ``1 - |<wO,T>|^2 / (<w|O|^2> <w|T|^2>)`` for a flat object, for the
back-projection alone and after each pass of the network, and the time of the network on this machine.
"""

import argparse
import time
from pathlib import Path

import torch

from ptychoflow.config import Runtime
from ptychoflow.data.datamodule import PredictionData
from ptychoflow.data.packing import open_dataset
from ptychoflow.data.reading import read_batch
from ptychoflow.learning.checkpoints import read_model
from ptychoflow.learning.losses import patch_error
from ptychoflow.learning.task import solve

BATCH = 64


@torch.no_grad()
def measure(model: Path, dataset: Path, every: int) -> dict[str, float]:
    """Errors by name, and milliseconds per group."""
    network, scan = read_model(model).network, open_dataset(dataset)
    rows = PredictionData(scan, network.settings.group_size, Runtime()).rows[::every]
    totals, seconds = {}, 0.0
    for first in range(0, len(rows), BATCH):
        batch = read_batch([scan], rows[first : first + BATCH])
        began = time.perf_counter()
        solution = solve(network, batch)
        seconds += time.perf_counter() - began
        found = {"flat": torch.ones_like(solution.canvas)}
        if solution.estimate is not None:
            found["back-projection"] = solution.estimate.canvas
        found |= {f"pass {number}": canvas for number, canvas in enumerate(solution.canvases, 1)}
        for name, canvas in found.items():
            error = patch_error(canvas, batch.truth, solution.light).sum()
            totals[name] = totals.get(name, 0.0) + float(error) / len(rows)
    return totals | {"ms/group": 1e3 * seconds / len(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1, help="measure every n-th group only")
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        measures = measure(arguments.model, dataset, arguments.every)
        print(f"{dataset.name:16}" + "  ".join(f"{name} {value:.4f}" for name, value in measures.items()), flush=True)


if __name__ == "__main__":
    main()
