"""Error of networks' patches against the ground truth of simulated scans, beside that of their initial object.

    python benchmarks/patch_error.py results/networks/pinn.ckpt results/datasets/star results/datasets/photograph

Prints, for each model and scan, the mean over groups of ``1 - |<wO,T>|^2 / (<w|O|^2> <w|T|^2>)`` for a uniform object,
for the back-projection alone and after each cascade of the network, and the time of the network on this machine. For
several networks, such as those of five seeds, it ends with the median and the range after the last cascade.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from ptychoflow.config import Runtime
from ptychoflow.data.datamodule import PredictionData
from ptychoflow.data.torch_dataset import read_batch
from ptychoflow.io.dataset import open_dataset
from ptychoflow.models.checkpoint import read_model
from ptychoflow.training.lightning_module import predict_groups
from ptychoflow.training.losses import patch_error

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
        solution = predict_groups(network, batch)
        seconds += time.perf_counter() - began
        canvases = {"uniform": torch.ones_like(solution.canvas)}
        if solution.estimate is not None:
            canvases["back-projection"] = solution.estimate
        canvases |= {f"cascade {number}": canvas for number, canvas in enumerate(solution.canvases, 1)}
        for name, canvas in canvases.items():
            error = patch_error(canvas, batch.truth, solution.light).sum()
            totals[name] = totals.get(name, 0.0) + float(error) / len(rows)
    return totals | {"ms/group": 1e3 * seconds / len(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", metavar="MODEL.ckpt... DATASET...")
    parser.add_argument("--every", type=int, default=1, help="measure every n-th group only")
    arguments = parser.parse_args()
    models = [path for path in arguments.paths if path.suffix == ".ckpt"]
    datasets = [path for path in arguments.paths if path not in models]
    if not (models and datasets):
        parser.error("expected one model or more, and one dataset or more")
    for dataset in datasets:
        errors = []
        for model in models:
            errors_by_name = measure(model, dataset, arguments.every)
            errors.append([value for name, value in errors_by_name.items() if name.startswith("cascade")][-1])
            row = "  ".join(f"{name} {value:.4f}" for name, value in errors_by_name.items())
            print(f"{dataset.name:16} {model.stem:24} {row}", flush=True)
        if len(errors) > 1:
            summary = f"{statistics.median(errors):.4f} ({min(errors):.4f} to {max(errors):.4f})"
            print(f"{dataset.name:16} {'median (range)':24} {summary}")


if __name__ == "__main__":
    main()
