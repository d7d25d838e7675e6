"""Train a network on datasets: its weights, and the record of how it learned."""

import logging
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..config import Network, Runtime, Tracking, Training
from ..core.scan import Scan
from ..data.datamodule import TrainingData
from ..io.atomic import check_output, write_json
from ..io.dataset import open_dataset
from ..io.provenance import record_provenance
from ..models.checkpoint import Model, read_model, write_model
from ..networks.group_network import GroupReconstructor, window_side
from ..networks.object_network import ObjectCorrector
from ..physics.forward_model import intensity, shift_probe
from ..runtime.gpu import device_kind, out_of_memory_hint
from ..tracking.logged_model import write_mlflow_model
from ..tracking.logger import Tracker
from ..training.callbacks import CollapseGuard, Throughput, chosen
from ..training.checkpointing import BestWeights, IntervalCheckpoint, LastCheckpoint, checkpoint_dir
from ..training.fit_datamodule import training_data
from ..training.image_logger import ValidationImages
from ..training.lightning_module import GroupTask
from ..training.loss_history import LossHistory, by_stage, thin
from ..training.schedule import total_epochs
from ..training.trainer import interruptible, make_trainer

logger = logging.getLogger(__name__)

TERMINATED = 143
"""Exit code of a process that SIGTERM ended: schedulers requeue it."""


def train(
    datasets: Sequence[Path],
    output: Path,
    network: Network = Network(),
    training: Training = Training(),
    runtime: Runtime = Runtime(),
    tracking: Tracking = Tracking(),
    watchers: Sequence[lightning.Callback] = (),
    start: Path | None = None,
) -> None:
    """Train a network on datasets.

    Reads datasets. Makes a checkpoint and, beside it under the same stem, a JSON file with loss curves and timings.

    An interrupted training resumes from ``checkpoints/`` beside the output's folder; other settings start afresh.

    Args:
        datasets: dataset folders to train on, with probes of their own but patterns of one size.
        output: the checkpoint, ``.ckpt``.
        network: architecture; that of ``start`` where there is one.
        training: stages, losses, rates, groups.
        runtime: devices and workers.
        tracking: where MLflow keeps runs.
        watchers: further callbacks of Lightning.
        start: a checkpoint to fine-tune, instead of a network with random weights.

    Raises:
        FileNotFoundError: if a dataset or ``start`` is missing.
        ValueError: if the datasets do not suit each other or the settings, the output is no ``.ckpt``, or the training
            collapses.
        OSError: if the output cannot be written.
        SystemExit: with 143 after SIGTERM; what was reached is kept.

    Example:
        ptychoflow train datasets/leaves pinn.ckpt --set training.stages='[{epochs: 3}]'
    """
    began = time.perf_counter()
    check_output(output, ".ckpt")
    scans = [open_dataset(folder) for folder in datasets]
    _check(scans, training, runtime)
    trained = None if start is None else _trained(start, network, scans)
    network = network if trained is None else trained.settings
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    data = training_data(scans, network, training, runtime)
    task = _task(trained or build_network(network, training, data), training, runtime, data)
    origin = _origin(network, training, scans, datasets, start)
    folder = checkpoint_dir(output, {"config": origin["config"], "inputs": origin["provenance"]["inputs"]})
    _log_beginning(scans, data, task)
    curves, throughput, tracker = LossHistory(), Throughput(), Tracker(tracking, Path(output).stem)
    callbacks = [*watchers, curves, throughput, *_watching(training, runtime, data, folder)]
    callbacks += [ValidationImages()] * (tracking.uri is not None)
    trainer = _trainer(training, runtime, callbacks, tracker, data.steps_per_epoch)
    tracker.log_hyperparams(origin["config"])
    _fit(trainer, task, data, folder / f"{LastCheckpoint.NAME}.ckpt")
    if not trainer.is_global_zero:
        return
    kept = _keep(trainer, task, training)
    record = {
        "method": Path(output).stem,
        "seconds": time.perf_counter() - began,
        **_facts(trainer, task, data),
        **throughput.summary(network.group_size),
        **kept,
        "curves": thin(curves.columns()),
        "validation": curves.validations,
        "stages": by_stage(curves.columns()),
        **origin,
        "tracking": {"uri": tracking.uri, "run": tracker.version},
    }
    _write(output, Model(task.network, scans[0].size, origin), record, tracker)
    shutil.rmtree(folder, ignore_errors=True)
    _log_end(output, record)


def build_network(network: Network, training: Training, data: TrainingData) -> GroupReconstructor | ObjectCorrector:
    """A fresh network, its weights from the seed, its window and normalisation from the first groups of the data."""
    rows = data.sampler().rows()[:256, : 1 + network.group_size]
    batch = data.batch(rows)
    with torch.random.fork_rng(devices=[]):  # it is made on the processor
        torch.manual_seed(training.seed)
        if batch.view is not None:
            fresh = ObjectCorrector(network, batch.view.shape[-1])
            fresh.normalise(batch.view)
            return fresh
        probes = shift_probe(batch.probe[:, None], batch.relative)
        fresh = GroupReconstructor(network, window_side(network, intensity(probes).sum((1, 2))))
    fresh.normalise(batch.counts, probes, batch.mask)
    return fresh


def _trained(start: Path, network: Network, scans: Sequence[Scan]) -> GroupReconstructor | ObjectCorrector:
    """The network of a checkpoint, ready to be trained on, if it is what was asked for and suits the scans."""
    model = read_model(start)
    for name in network.model_fields_set:
        asked, has = getattr(network, name), getattr(model.network.settings, name)
        if asked != has:
            raise ValueError(f"network.{name} is {asked}, but {start} was trained with {has}: remove it")
    if model.size != scans[0].size:
        raise ValueError(
            f"{start} was trained on patterns of {model.size} px, {scans[0].name} has {scans[0].size} px: pack the "
            f"scan with packing.crop {model.size}"
        )
    return model.network.train()


def _task(
    network: GroupReconstructor | ObjectCorrector, training: Training, runtime: Runtime, data: TrainingData
) -> GroupTask:
    if runtime.compile:
        network.compile_backbones()
    return GroupTask(
        network, training, _labelled(data.scans, training), data.steps_per_epoch, runtime.gradient_accumulation_steps
    )


def _origin(
    network: Network, training: Training, scans: Sequence[Scan], datasets: Sequence[Path], start: Path | None
) -> dict[str, dict]:
    """What the result comes from, as plain data: the settings, and version and fingerprints."""
    config = {"network": network.model_dump(mode="json"), "training": training.model_dump(mode="json")}
    inputs = {scan.name: folder for scan, folder in zip(scans, datasets, strict=True)}
    inputs |= {} if start is None else {"start": start}
    return {"config": config, "provenance": record_provenance(config, **inputs)}


def _check(scans: Sequence[Scan], training: Training, runtime: Runtime) -> None:
    unlabelled = [scan.name for scan in scans if scan.truth is None]
    if training.supervision == "ground_truth" and unlabelled:
        raise ValueError(
            f"training.supervision is truth, but {', '.join(unlabelled)} has none: train on simulated scans (`simulate` "
            "makes scans with a truth), or set training.supervision to amplitude or auto"
        )
    devices = runtime.devices * runtime.nodes
    if training.batch_size % (devices * runtime.gradient_accumulation_steps):
        parts = f" in {runtime.gradient_accumulation_steps} parts" if runtime.gradient_accumulation_steps > 1 else ""
        raise ValueError(
            f"training.batch_size is {training.batch_size}, which {devices} devices cannot share equally{parts}: "
            f"set it to a multiple of {devices * runtime.gradient_accumulation_steps}"
        )
    if training.precision == "16-mixed" and device_kind(runtime) == "cpu":
        raise ValueError("training.precision 16-mixed needs a GPU, there is none: set it to bf16-mixed or 32-true")


def _labelled(scans: Sequence[Scan], training: Training) -> bool | None:
    have = {scan.truth is not None for scan in scans} if training.supervision != "amplitude" else {False}
    return have.pop() if len(have) == 1 else None


def _watching(training: Training, runtime: Runtime, data: TrainingData, folder: Path) -> list[lightning.Callback]:
    """What the settings ask for, what keeps the state, and, where there is something to validate on, what judges it."""
    states = [IntervalCheckpoint(folder, runtime.checkpoint_interval_min), LastCheckpoint(folder)]
    if not len(data.validation_rows):
        return [*chosen(training), *states]
    # the best weights so far are part of the state, so they come first
    best = [BestWeights(folder)] if training.checkpoint == "best" else []
    return [*chosen(training), CollapseGuard(stop=training.on_collapse == "stop"), *best, *states]


def _keep(trainer: lightning.Trainer, task: GroupTask, training: Training) -> dict:
    """Put the weights to keep into the network; says of which epoch they are, and their error at its validation."""
    if training.checkpoint == "last":
        return {}
    (best,) = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestWeights))
    content = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    task.load_state_dict(content["state_dict"])
    return {"kept": {"epoch": content["epoch"] + 1, "error": float(best.best_model_score)}}


@out_of_memory_hint("raise runtime.gradient_accumulation_steps, so that the groups of a step pass in parts")
def _fit(trainer: lightning.Trainer, task: GroupTask, data: TrainingData, latest: Path) -> None:
    """Train from where an earlier attempt stopped, if one did."""
    resumed = latest if latest.is_file() else None
    if resumed:
        logger.info("resuming from %s", resumed)
    try:
        with _sigterm_left_to_training(), interruptible():
            trainer.fit(task, data, ckpt_path=resumed, weights_only=resumed is not None or None)
    except SIGTERMException:
        # the first process speaks for all: Lightning kills it where another one ends with an error before
        raise SystemExit(TERMINATED if trainer.is_global_zero else 0) from None


@contextmanager
def _sigterm_left_to_training() -> Iterator[None]:
    """Training stops between two steps; a handler that was there before would end the process in the middle of one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _trainer(
    training: Training, runtime: Runtime, callbacks: list, tracker: Tracker, steps_per_epoch: int
) -> lightning.Trainer:
    return make_trainer(
        runtime,
        callbacks,
        nodes=runtime.nodes,
        max_epochs=total_epochs(training.stages),
        limit_train_batches=steps_per_epoch * runtime.gradient_accumulation_steps,
        accumulate_grad_batches=runtime.gradient_accumulation_steps,
        precision=training.precision,
        logger=tracker,
        log_every_n_steps=min(20, steps_per_epoch),
        num_sanity_val_steps=0,
        enable_checkpointing=True,
    )


def _facts(trainer: lightning.Trainer, task: GroupTask, data: TrainingData) -> dict:
    """What was trained, on what and with what."""
    return {
        "parameters": sum(p.numel() for p in task.parameters()),
        "window_px": task.network.window,
        "size_px": data.scans[0].size,
        "groups": data.counts_of_groups(),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "device": str(trainer.strategy.root_device),
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__, "numpy": np.__version__},
    }


def _write(output: Path, model: Model, record: dict, tracker: Tracker) -> None:
    """Write network and record, and keep both with the run."""
    write_model(output, model)
    write_json(Path(output).with_suffix(".json"), record)
    tracker.log_record(record, "training.json")
    tracker.keep("model", lambda folder: write_mlflow_model(folder, model))
    tracker.close()


def _log_beginning(scans: Sequence[Scan], data: TrainingData, task: GroupTask) -> None:
    logger.info("read %s: %d patterns of %d px", ", ".join(s.name for s in scans), sum(map(len, scans)), scans[0].size)
    parameters = sum(p.numel() for p in task.parameters())
    held = len(data.validation_rows)
    logger.info("network of %d parameters, window %d px, %d groups held out", parameters, task.network.window, held)
    if task.labelled is not True and not data.training.held_out_neighbours:
        logger.warning(
            "without labels and without held_out_neighbours a network learns the noise of what it sees: set "
            "training.held_out_neighbours to 3"
        )


def _log_end(output: Path, record: dict) -> None:
    measures = [f"{name} {column[-1]:.3g}" for name, column in record["validation"].items() if name != "epoch"]
    logger.info(
        "trained %s: %d steps in %.0f s, %.0f patterns/s, waited %.1f %% for data; validation: %s",
        output,
        record["steps"],
        record["seconds"],
        record["patterns_per_second"],
        100 * record["data_wait_share"],
        ", ".join(measures) or "none",
    )
