"""How fast groups are loaded, against a plain gather of the same bytes and against the reference's memory map.

    pip install --no-deps tensordict orjson pyvers
    python benchmarks/load.py [--patterns 16384] [--folder SOMEWHERE] [--workers 2]

Groups of four patterns of 64 px, uint16, 64 groups a batch, all warm in the page cache:

- ``gather``: ``counts[members]`` in NumPy, nothing else; what a memory bus gives.
- ``loader``: our ``DataLoader`` as a training has it, without loader processes and with as many as ``--workers``; and
  what it is made into, ``batches``: float32, zero frequency at the corner, with probes and places.
- ``prediction``: the same loader as ``infer`` has it, every pattern the anchor of one group.
- ``tensordict``: a miniature of PtychoPINN's map: a ``TensorDict`` of memory-mapped tensors with the fields, shapes and
  dtypes of its torch backend (October 2025), every group stored whole as float32 beside labels that are always
  allocated, seven groups to an anchor, so each pattern 28 times; batches are its rows in a shuffled order, as its own
  loader reads them, past the workers. Probes are left out, in its favour. It has 1024 patterns, 1.4 GB, or more where
  ``--patterns`` are fewer.

``ratio_to_gather`` is the loader over the gather (target 0.6), ``ratio_to_tensordict`` over the map (target 5), in
groups per second, the best of several turns. Prints JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from large import large_scan
from tensordict import MemoryMappedTensor, TensorDict

from ptychoflow.commands.pack import pack
from ptychoflow.config import Runtime, Training, Validation
from ptychoflow.core.scan import Scan
from ptychoflow.data.datamodule import PredictionData, TrainingData
from ptychoflow.io.dataset import open_dataset

MEMBERS, BATCH, SIZE = 4, 64, 64
SUBSAMPLES, MINIATURE = 7, 1024
FIELDS = {
    **dict.fromkeys(("images", "label_amp", "label_phase"), ((MEMBERS, SIZE, SIZE), torch.float32)),
    **dict.fromkeys(("coords_global", "coords_relative", "coords_start_relative"), ((MEMBERS, 1, 2), torch.float32)),
    **dict.fromkeys(("coords_center", "coords_start_center"), ((1, 1, 2), torch.float32)),
    **dict.fromkeys(("rms_scaling_constant", "physics_scaling_constant"), ((1, 1, 1), torch.float32)),
    "nn_indices": ((MEMBERS,), torch.int64),
    "experiment_id": ((), torch.int32),
}
"""What the reference stores of each group."""


def training_data(scan: Scan, workers: int) -> TrainingData:
    training = Training(batch_size=BATCH, supervision="amplitude", validation=Validation(fraction=0))
    data = TrainingData([scan], MEMBERS, training, Runtime(accelerator="cpu", workers=workers))
    data.trainer = _Trainer()
    return data


class _Trainer:
    """As much of a trainer as a loader asks for: with one, it hands over what it has read."""

    global_rank, world_size, current_epoch = 0, 1, 0

    class strategy:
        root_device = torch.device("cpu")

    class fit_loop:
        class epoch_loop:
            class batch_progress:
                class current:
                    processed = 0


def gather(scan: Scan, rows: np.ndarray) -> Iterable[int]:
    counts = np.asarray(scan.counts)
    for first in range(0, len(rows), BATCH):
        yield len(counts[rows[first : first + BATCH, 1:]])


def load(data: TrainingData | PredictionData, ready: bool = False) -> Iterable[int]:
    loader = data.train_dataloader() if isinstance(data, TrainingData) else data.predict_dataloader()
    for reading in loader:
        yield len((data.on_after_batch_transfer(reading) if ready else reading).counts)


def tensordict_of(folder: Path, scan: Scan, patterns: int) -> TensorDict:
    """The reference's map of the first patterns of a scan."""
    length = patterns * SUBSAMPLES
    tensors = {
        name: MemoryMappedTensor.empty((length, *shape), dtype=dtype, filename=str(folder / f"{name}.memmap"))
        for name, (shape, dtype) in FIELDS.items()
    }
    rng = np.random.default_rng(0)
    for first in range(0, length, 512):
        anchors = np.arange(first, min(first + 512, length)) // SUBSAMPLES
        members = (anchors[:, None] + np.insert(rng.integers(1, 7, (len(anchors), 3)), 0, 0, axis=1)) % patterns
        here = slice(first, first + len(anchors))
        tensors["images"][here] = torch.from_numpy(scan.counts[members].astype(np.float32))
        for label in ("label_amp", "label_phase"):  # written, as any file is that has been filled
            tensors[label][here] = 1.0
        tensors["nn_indices"][here] = torch.from_numpy(members)
    return TensorDict(tensors, batch_size=[length])


def read_map(stored: TensorDict, groups: int) -> Iterable[int]:
    for rows in torch.randperm(len(stored))[:groups].split(BATCH):
        yield len(stored[rows]["images"])


def best_rates(runs: dict[str, Callable[[], Iterable[int]]], turns: int) -> dict[str, float]:
    """Groups per second of each, the best of several turns; what comes before the first batch is not counted."""
    best = dict.fromkeys(runs, 0.0)
    for _ in range(turns):
        for name, run in runs.items():
            began, done = None, 0
            for count in run():
                done, began = (0, time.perf_counter()) if began is None else (done + count, began)
            best[name] = max(best[name], done / (time.perf_counter() - began))
    return best


def measure(folder: Path, patterns: int, workers: int, turns: int) -> dict:
    large_scan(folder / "scan.cxi", patterns, SIZE)
    pack(folder / "scan.cxi", folder / "dataset")
    scan = open_dataset(folder / "dataset")
    plain, parallel = training_data(scan, 0), training_data(scan, workers)
    prediction = PredictionData(scan, MEMBERS, Runtime(accelerator="cpu", inference_batch_size=BATCH))
    prediction.trainer = _Trainer()
    stored = tensordict_of(folder, scan, min(MINIATURE, len(scan)))
    rows = plain.sampler().rows()
    runs = {
        "gather": lambda: gather(scan, rows),
        "loader": lambda: load(plain),
        f"loader_with_{workers}_workers": lambda: load(parallel),
        "batches": lambda: load(plain, ready=True),
        "gather_in_order": lambda: gather(scan, prediction.rows),
        "prediction": lambda: load(prediction),
        "tensordict": lambda: read_map(stored, 2048),
    }
    rates = best_rates(runs, turns)
    return {
        "patterns": len(scan),
        "groups_per_s": {name: round(rate) for name, rate in rates.items()},
        "gb_per_s_of_the_loader": round(rates["loader"] * scan.counts[:MEMBERS].nbytes / 1e9, 2),
        "ratio_to_gather": round(rates["loader"] / rates["gather"], 3),
        "ratio_of_prediction_to_gather": round(rates["prediction"] / rates["gather_in_order"], 3),
        "ratio_to_tensordict": round(rates["loader"] / rates["tensordict"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patterns", type=int, default=16384)
    parser.add_argument("--folder", type=Path, help="where to work; the system's temporary folder without it")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(measure(Path(folder), options.patterns, options.workers, options.turns), indent=1))


if __name__ == "__main__":
    main()
