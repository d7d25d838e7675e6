"""One training from datasets to weights: built, resumed where it was interrupted, recorded."""

import logging
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..config import Network, Runtime, Training
from ..core.scan import Scan
from ..data.datamodule import TrainingData
from ..io.dataset import open_dataset
from ..io.provenance import record_provenance
from ..io.tensor_file import set_aside
from ..models.checkpoint import Model
from ..runtime.gpu import device_kind, out_of_memory_hint
from .callbacks import CollapseGuard, Throughput, optional_callbacks
from .checkpointing import (
    BestWeights,
    IntervalCheckpoint,
    LastCheckpoint,
    check_state,
    check_weights,
    checkpoint_dir,
    read_checkpoint,
)
from .fit_datamodule import training_data
from .lightning_module import GroupTask
from .loss_history import LossHistory, by_stage, thin
from .network_setup import build_network, pretrained_network
from .schedule import total_epochs
from .trainer import interruptible, make_trainer

logger = logging.getLogger(__name__)

RESTORING = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors that Lightning raises over a state that is not one of this training."""
TERMINATED = 143
"""Exit code of a process that SIGTERM ended: schedulers requeue it."""


class UnusableStateError(ValueError):
    """The state of an interrupted training cannot be restored."""


class TrainingRun:
    """A training of a network on datasets.

    Args:
        datasets: dataset folders, of scans with patterns of one size.
        output: the checkpoint that the training is to make; interrupted trainings keep their state beside its folder.
        network: architecture; that of ``start`` where it is given.
        training: stages, losses, learning rate, groups.
        runtime: devices and workers.
        tracker: Lightning's logger.
        callbacks: further callbacks of Lightning.
        start: a checkpoint to fine-tune, instead of a network with random weights.

    Attributes:
        origin: settings and provenance of the result, as plain data.
        checkpoints: folder of the state of an interrupted training.

    Raises:
        FileNotFoundError: if a dataset or ``start`` is missing.
        ValueError: if the datasets do not suit each other or the settings.
    """

    def __init__(
        self,
        datasets: Sequence[Path],
        output: Path,
        network: Network,
        training: Training,
        runtime: Runtime,
        tracker: Logger,
        callbacks: Sequence[lightning.Callback] = (),
        start: Path | None = None,
    ) -> None:
        scans = [open_dataset(folder) for folder in datasets]
        _check_settings(scans, training, runtime)
        pretrained = None if start is None else pretrained_network(start, network, scans)
        network = network if pretrained is None else pretrained.settings
        if runtime.threads:
            torch.set_num_threads(runtime.threads)
        self._training, self._group_size = training, network.group_size
        self._data = training_data(scans, network, training, runtime)
        self._network = pretrained or build_network(network, training, self._data)
        if runtime.compile:
            self._network.compile_backbones()
        self._task = GroupTask(
            self._network,
            training,
            _labelled(scans, training),
            self._data.steps_per_epoch,
            runtime.gradient_accumulation_steps,
        )
        self.origin = _origin(network, training, scans, datasets, start)
        recipe = {"config": self.origin["config"], "inputs": self.origin["provenance"]["inputs"]}
        self.checkpoints = checkpoint_dir(output, recipe)
        self._log_setup()
        self._history, self._throughput = LossHistory(), Throughput()
        kept = _checkpoint_callbacks(training, runtime, self._data, self.checkpoints)
        self._trainer = make_trainer(
            runtime,
            [*callbacks, self._history, self._throughput, *optional_callbacks(training), *kept],
            nodes=runtime.nodes,
            max_epochs=total_epochs(training.stages),
            limit_train_batches=self._data.steps_per_epoch * runtime.gradient_accumulation_steps,
            accumulate_grad_batches=runtime.gradient_accumulation_steps,
            precision=training.precision,
            logger=tracker,
            log_every_n_steps=min(20, self._data.steps_per_epoch),
            num_sanity_val_steps=0,
            enable_checkpointing=True,
        )

    @out_of_memory_hint("raise runtime.gradient_accumulation_steps, so that the groups of a step pass in parts")
    def fit(self) -> bool:
        """Train from where an interrupted attempt stopped, if there was one.

        Returns:
            True in the process that is to write the result.

        Raises:
            ValueError: if the training collapses.
            UnusableStateError: if the state of the interrupted attempt cannot be restored: it was set aside, and a new
                run of the same settings starts from the beginning.
            SystemExit: with 143 after SIGTERM; its state is kept.
        """
        resumed = self._usable_checkpoint()
        if resumed:
            logger.info("resuming from %s (state of an interrupted training)", resumed)
        try:
            with _default_sigterm(), interruptible():
                self._trainer.fit(self._task, self._data, ckpt_path=resumed, weights_only=resumed is not None or None)
        except SIGTERMException:
            # the first process exits for all: Lightning kills it where another one ends with an error before
            raise SystemExit(TERMINATED if self._trainer.is_global_zero else 0) from None
        except RESTORING as error:
            if resumed is None or self._throughput.began or isinstance(error, torch.OutOfMemoryError):
                raise
            self._set_aside(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            raise UnusableStateError(f"{resumed} cannot be resumed and was set aside: run again") from error
        return self._trainer.is_global_zero

    def result(self) -> tuple[Model, dict[str, Any]]:
        """Return the trained network and the log of its training, as plain data."""
        kept = self._restore_best()
        history, data, trainer = self._history.columns(), self._data, self._trainer
        training_log = {
            "parameters": self._parameter_count(),
            "window_px": self._network.window,
            "size_px": data.scans[0].size,
            "groups": data.counts_of_groups(),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "processes": trainer.world_size,
            "threads": torch.get_num_threads(),
            "device": str(trainer.strategy.root_device),
            "versions": {"torch": torch.__version__, "lightning": lightning.__version__, "numpy": np.__version__},
            **self._throughput.summary(self._group_size),
            **kept,
            "curves": thin(history),
            "validation": self._history.validations,
            "stages": by_stage(history),
            **self.origin,
        }
        return Model(self._network, data.scans[0].size, self.origin), training_log

    def remove_checkpoints(self) -> None:
        """Remove the state for resuming, which a finished training does not need."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _usable_checkpoint(self) -> Path | None:
        """Return the checkpoint to resume from; None without one, or if it is unusable and was set aside."""
        latest, best = (self.checkpoints / f"{kind.NAME}.ckpt" for kind in (LastCheckpoint, BestWeights))
        if not (latest.exists() or latest.is_symlink()):
            return None
        weights = self._task.state_dict()
        try:
            check_state(read_checkpoint(latest), weights)
            if self._training.checkpoint == "best" and best.exists():
                check_weights(read_checkpoint(best), weights)
            return latest
        except ValueError as error:
            self._set_aside(error)
            return None

    def _set_aside(self, reason: object) -> None:
        """Move the state of an interrupted training out of the way, with a warning that says why."""
        latest, best = (self.checkpoints / f"{kind.NAME}.ckpt" for kind in (LastCheckpoint, BestWeights))
        logger.warning("cannot resume (%s): moved to %s, starting anew", reason, set_aside(latest).name)
        set_aside(best)

    def _restore_best(self) -> dict[str, Any]:
        """Load the weights to keep into the network; return their epoch and their error at its validation."""
        if self._training.checkpoint == "last":
            return {}
        (best,) = (callback for callback in self._trainer.checkpoint_callbacks if isinstance(callback, BestWeights))
        content = read_checkpoint(self.checkpoints / f"{BestWeights.NAME}.ckpt")
        self._task.load_state_dict(content["state_dict"])
        error = float("nan") if best.best_model_score is None else float(best.best_model_score)
        return {"kept": {"epoch": int(content["epoch"]) + 1, "error": error}}

    def _parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self._task.parameters())

    def _log_setup(self) -> None:
        scans, held_out = self._data.scans, len(self._data.validation_rows)
        names, patterns = ", ".join(scan.name for scan in scans), sum(map(len, scans))
        logger.info("read %s: %d patterns of %d px", names, patterns, scans[0].size)
        logger.info(
            "network of %d parameters, window %d px, %d groups for validation",
            self._parameter_count(),
            self._network.window,
            held_out,
        )
        if self._task.labelled is not True and not self._training.held_out_neighbours:
            logger.warning(
                "self-supervised training without held-out neighbours overfits the measurement noise; set "
                "training.held_out_neighbours: 3"
            )


def _origin(
    network: Network, training: Training, scans: Sequence[Scan], datasets: Sequence[Path], start: Path | None
) -> dict[str, dict]:
    """Return the settings, and the version and fingerprints, that the result comes from, as plain data."""
    config = {"network": network.model_dump(mode="json"), "training": training.model_dump(mode="json")}
    inputs = {scan.name: folder for scan, folder in zip(scans, datasets, strict=True)}
    inputs |= {} if start is None else {"start": start}
    return {"config": config, "provenance": record_provenance(config, **inputs)}


def _check_settings(scans: Sequence[Scan], training: Training, runtime: Runtime) -> None:
    unlabelled = [scan.name for scan in scans if scan.truth is None]
    if training.supervision == "ground_truth" and unlabelled:
        raise ValueError(
            f"training.supervision is ground_truth, but no ground truth in {', '.join(unlabelled)}: train on simulated "
            "scans (`simulate` makes scans with a ground truth), or set training.supervision to amplitude or auto"
        )
    devices, parts = runtime.devices * runtime.nodes, runtime.gradient_accumulation_steps
    if training.batch_size % (devices * parts):
        in_parts = f" in {parts} parts" if parts > 1 else ""
        raise ValueError(
            f"training.batch_size is {training.batch_size}, which {devices} devices cannot share equally{in_parts}: "
            f"set it to a multiple of {devices * parts}"
        )
    if training.precision == "16-mixed" and device_kind(runtime) == "cpu":
        raise ValueError("training.precision 16-mixed needs a GPU, got a CPU: set it to bf16-mixed or 32-true")


def _labelled(scans: Sequence[Scan], training: Training) -> bool | None:
    """Return True if every scan has a ground truth to train on, False if none has, None if some have."""
    have = {scan.truth is not None for scan in scans} if training.supervision != "amplitude" else {False}
    return have.pop() if len(have) == 1 else None


def _checkpoint_callbacks(
    training: Training, runtime: Runtime, data: TrainingData, folder: Path
) -> list[lightning.Callback]:
    """Return the callbacks that keep the state and, where groups are validated on, that watch for a collapse."""
    states = [IntervalCheckpoint(folder, runtime.checkpoint_interval_min), LastCheckpoint(folder)]
    if not len(data.validation_rows):
        return [*states]
    # the best weights so far are part of the state, so they are saved first
    best = [BestWeights(folder)] if training.checkpoint == "best" else []
    return [CollapseGuard(stop=training.on_collapse == "stop"), *best, *states]


@contextmanager
def _default_sigterm() -> Iterator[None]:
    """Remove a handler of SIGTERM: it would end the process within a step; training stops between two steps."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
