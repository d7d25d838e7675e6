"""The data modules: the same batches with and without workers, on one process and on two, stopped or not."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from ptychoflow.config import Grouping, Runtime, Training, Validation
from ptychoflow.data.batch import Batch
from ptychoflow.data.datamodule import PREFETCH, PredictionData, TrainingData
from ptychoflow.data.torch_dataset import read_batch
from ptychoflow.io.dataset import open_dataset, write_dataset

TRAINING = Training(batch_size=8, supervision="amplitude", validation=Validation(fraction=0.2))
CPU = Runtime(accelerator="cpu")


class BatchRecorder(lightning.LightningModule):
    """Learns nothing and records every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained, self.validated, self.predicted = [], [], []

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self.trained.append(self._record(batch))
        return self.weight * 0

    def validation_step(self, batch: Batch, index: int) -> None:
        self.validated.append(self._record(batch))

    def predict_step(self, batch: Batch, index: int) -> None:
        self.predicted.append(self._record(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    @staticmethod
    def _record(batch: Batch) -> list:
        rows = torch.cat([batch.scan[:, None], batch.members], dim=1)
        return [*rows.flatten().tolist(), float(batch.counts.double().sum())]


def _trainer(epochs: int = 2, **settings) -> lightning.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **(quiet | {"enable_checkpointing": False} | settings),
    )


@pytest.fixture
def scans(scan, tmp_path):
    """Two datasets on disk, of different probes and dtypes."""
    folders = []
    for name, counts in (("a", np.minimum(scan.counts, 255)), ("b", scan.counts + 1000)):
        write_dataset(tmp_path / name, replace(scan, counts=counts, probe=scan.probe[:, ::-1], name=name))
        folders.append(tmp_path / name)
    return [open_dataset(folder) for folder in folders]


def _fit(scans, runtime: Runtime, training: Training = TRAINING, epochs: int = 2) -> BatchRecorder:
    recorder = BatchRecorder()
    _trainer(epochs).fit(recorder, TrainingData(scans, 4, training, runtime))
    return recorder


RUNTIMES = {
    "workers": Runtime(accelerator="cpu", workers=2),
    "on the device": Runtime(accelerator="cpu", counts_on_device="always"),
    "on the device although there are workers": Runtime(accelerator="cpu", counts_on_device="always", workers=2),
}


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_batches_do_not_depend_on_how_they_are_read(scans, runtime):
    expected, actual = _fit(scans, CPU), _fit(scans, runtime)
    # one scan ordered after the other within a batch where the loader reads, as drawn where the device does
    for name in ("trained", "validated"):
        assert len(getattr(actual, name)) == len(getattr(expected, name)) > 0
        for one, other in zip(getattr(actual, name), getattr(expected, name), strict=True):
            assert one[-1] == other[-1]
            assert _rows(one) == _rows(other)


def _rows(note: list) -> list[tuple]:
    return sorted(map(tuple, np.reshape(note[:-1], (-1, 5)).astype(int).tolist()))


def test_epochs_differ_and_runs_do_not(scans):
    once, again = _fit(scans, CPU), _fit(scans, CPU)
    assert once.trained == again.trained
    half = len(once.trained) // 2
    assert once.trained[:half] != once.trained[half:]


class Stop(lightning.Callback):
    """Keeps the state after some steps and ends data."""

    def __init__(self, step: int, path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [3, 7, 11])
def test_an_interrupted_epoch_resumes_sample_for_sample(scans, tmp_path, step, workers):
    """Also with workers, which have read ahead when it stops."""
    runtime = Runtime(accelerator="cpu", workers=workers)
    whole = _fit(scans, runtime)
    stopped = BatchRecorder()
    with pytest.raises(SystemExit):
        data = TrainingData(scans, 4, TRAINING, runtime)
        _trainer(callbacks=[Stop(step, tmp_path / "c.ckpt")]).fit(stopped, data)
    resumed = BatchRecorder()
    data = TrainingData(scans, 4, TRAINING, runtime)
    _trainer().fit(resumed, data, ckpt_path=tmp_path / "c.ckpt", weights_only=True)
    assert len(stopped.trained) == step
    assert stopped.trained + resumed.trained == whole.trained


@pytest.mark.parametrize("runtime", [CPU, *RUNTIMES.values()], ids=["plain", *RUNTIMES])
def test_prediction_covers_every_pattern_once_in_order(scans, runtime):
    recorder = BatchRecorder()
    data = PredictionData(scans[0], 4, runtime.model_copy(update={"inference_batch_size": 7}))
    _trainer().predict(recorder, data, return_predictions=False)
    anchors = [row[1] for note in recorder.predicted for row in np.reshape(note[:-1], (-1, 5)).astype(int).tolist()]
    assert anchors == list(range(40))


def test_without_a_trainer_a_loader_gives_batches_that_are_ready(scans):
    data = TrainingData(scans, 4, TRAINING, Runtime(workers=1))
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, Batch) and batch.counts.shape == (8, 4, 32, 32) and batch.probe.shape == (8, 1, 32, 32)
    assert sum(len(batch.counts) for batch in data.val_dataloader()) == len(data.validation_rows)


def test_held_out_neighbours_come_after_the_members_of_each_group(scans):
    data = TrainingData(scans, 4, TRAINING.model_copy(update={"held_out_neighbours": 3}), CPU)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batch = next(iter(loader))
        assert batch.counts.shape[1] == batch.members.shape[1] == 7
        assert batch.relative[:, :4].mean(1).abs().max() <= 0.5 + 1e-9  # in the middle of what the network sees
        assert all(len(set(members)) == 7 for members in batch.members.tolist())


def test_a_loader_passes_on_the_dtype_of_the_disk(scans):
    data = TrainingData(scans[:1], 4, TRAINING, CPU)
    data.trainer = _trainer()
    reading = next(iter(data.val_dataloader()))
    assert reading.counts.dtype == torch.uint8


def test_rejected_anchors_are_counted_and_logged(scan, caplog):
    bounded = TRAINING.model_copy(
        update={"grouping": Grouping(x_bounds=(0.3, 0.7)), "validation": Validation(fraction=0)}
    )
    with caplog.at_level("INFO"):
        data = TrainingData([scan], 4, bounded, CPU)
    counts = data.counts_of_groups()["sample"]
    assert counts["training"] + counts["rejected"]["outside the bounds"] == 40 == counts["patterns"]
    assert (
        f"sample: {counts['training']} anchors, rejected {counts['rejected']['outside the bounds']} outside"
        in caplog.text
    )
    assert data.val_dataloader() == []


def test_a_scan_too_small_to_train_on_is_named(scan):
    few = replace(scan, counts=scan.counts[:9], positions=scan.positions[:9])
    with pytest.raises(ValueError, match=r"sample: expected at least \d+ patterns .*, got 1: .*training\.validation"):
        TrainingData([few], 4, Training(), CPU)


@pytest.mark.parametrize(("device", "resident"), [("cuda", False), ("cuda", True), ("cpu", False)])
def test_counts_for_a_gpu_are_pinned_and_read_ahead_unless_they_lie_there(scans, monkeypatch, device, resident):
    monkeypatch.setattr(TrainingData, "_device", torch.device(device))
    monkeypatch.setattr(TrainingData, "_keep_counts_on", lambda self, device: resident)
    loader = TrainingData(scans, 4, TRAINING, Runtime(workers=2)).train_dataloader()
    assert loader.pin_memory == (device == "cuda" and not resident)
    assert (loader.num_workers, loader.prefetch_factor) == ((0, None) if resident else (2, PREFETCH))


@pytest.mark.parametrize("where", ["auto", "never"])
def test_a_gpu_gets_the_same_batches(gpu, scans, where):
    rows = TrainingData(scans, 4, TRAINING, CPU).sampler().rows()[:8]
    data = TrainingData(scans, 4, TRAINING, Runtime(accelerator="gpu", counts_on_device=where, workers=2))
    data.trainer = lightning.Trainer(accelerator="gpu", devices=1, logger=False, enable_checkpointing=False)
    reading = next(iter(data.train_dataloader()))
    batch = data.on_after_batch_transfer(data.transfer_batch_to_device(reading, torch.device("cuda"), 0))
    expected = read_batch(scans, rows)
    order = [groups.members[:, 0].argsort().cpu() for groups in (batch, expected)]
    assert batch.counts.is_cuda
    torch.testing.assert_close(batch.counts.cpu()[order[0]], expected.counts[order[1]])


def test_the_memory_of_a_device_is_freed(scans):
    data = TrainingData(scans, 4, TRAINING, RUNTIMES["on the device"])
    _trainer(1).fit(BatchRecorder(), data)
    assert data._resident is None and not data._tables


TWO_PROCESSES = """
import json, sys
from pathlib import Path
import torch.distributed as distributed
from ptychoflow.config import Runtime, Training, Validation
from ptychoflow.data.datamodule import PredictionData, TrainingData
from ptychoflow.io.dataset import open_dataset

folder, rank, rendezvous = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
scan = open_dataset(folder)
training = Training(batch_size=8, supervision="amplitude", validation=Validation(fraction=0.2), groups_per_epoch=30)
data = TrainingData([scan], 4, training, Runtime())
parts = {
    "trained": data.sampler(rank, 2).table(),
    "predicted": PredictionData(scan, 4, Runtime()).local_shard(rank, 2).table(),
}
gathered = [None, None]
distributed.all_gather_object(gathered, {name: table.tolist() for name, table in parts.items()})
if rank == 0:
    print(json.dumps({"shares": gathered, "epoch": data.sampler().rows().tolist()}))
distributed.destroy_process_group()
"""


def test_two_processes_see_disjoint_shards_whose_union_is_everything(scan, tmp_path):
    write_dataset(tmp_path / "d", scan)
    script = [sys.executable, "-c", TWO_PROCESSES, tmp_path / "d"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*script, str(rank), tmp_path / "meet"], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in range(2)
    ]
    printed, _ = [process.communicate(timeout=120)[0] for process in processes]
    assert not any(process.returncode for process in processes)
    tables = json.loads(printed)
    for name, everything in (("trained", [row[1] for row in tables["epoch"]]), ("predicted", list(range(40)))):
        anchors = [[row[1] for row in share[name]] for share in tables["shares"]]
        assert not set(anchors[0]) & set(anchors[1])
        assert sorted(anchors[0] + anchors[1]) == sorted(everything)
