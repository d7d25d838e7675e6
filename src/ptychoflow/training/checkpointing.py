"""What a training that is not done keeps, so that it goes on where it was stopped, and its best weights so far."""

import hashlib
import json
import logging
import signal
import threading
from datetime import timedelta
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from .. import __version__
from ..models.checkpoint import FORMAT
from .lightning_module import ERROR

logger = logging.getLogger(__name__)


def checkpoint_dir(output: Path, recipe: dict) -> Path:
    """Where a training keeps its state until it is done: by model name and everything that shapes the result.

    It lies outside the workflow's outputs, which are deleted when a job is killed.
    """
    text = json.dumps({"version": __version__, "format": FORMAT, **recipe}, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Path(output).parent.parent / "checkpoints" / Path(output).stem / key


LOOK_EVERY = 20
"""Batches after which processes on GPUs ask each other whether to stop or keep a state: they wait for their devices."""


class LastCheckpoint(ModelCheckpoint):
    """Keeps the latest state of an unfinished training: after every epoch, and when a process of it is told to stop.

    All processes stop together, between two steps, where the state is whole; at the end of an epoch after validation,
    so that what follows from it (early stopping, the best weights) does not depend on when they were told.
    """

    NAME = "latest"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, self.NAME, save_on_train_epoch_end=True, enable_version_counter=False)
        self._told = False

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Hear SIGTERM instead of Lightning, whose processes would answer it each by itself."""
        super().on_train_start(trainer, task)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hear)

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        if _may_look(trainer, task, index):
            self._stop_if_told(trainer)

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """An epoch may be a single step; after the last one there is nothing to stop."""
        super().on_train_epoch_end(trainer, task)
        if trainer.current_epoch + 1 < trainer.max_epochs:
            self._stop_if_told(trainer)

    def _stop_if_told(self, trainer: Trainer) -> None:
        told = self._told
        if trainer.world_size > 1:
            told = trainer.strategy.reduce_boolean_decision(told, all=False)
        if told:
            raise SIGTERMException

    def on_exception(self, trainer: Trainer, task: LightningModule, exception: BaseException) -> None:
        """After SIGTERM the state is whole; other interruptions may come anywhere."""
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.format_checkpoint_name({}))
            log = logger.warning if trainer.is_global_zero else logger.debug
            log("told to stop after %d steps: the same training resumes from here", trainer.global_step)

    def _hear(self, *_: object) -> None:
        self._told = True


class IntervalCheckpoint(ModelCheckpoint):
    """Keeps the same state in the middle of an epoch.

    Args:
        folder: where :class:`LastCheckpoint` keeps it.
        minutes: from one to the next.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        interval = timedelta(minutes=minutes)
        super().__init__(folder, LastCheckpoint.NAME, train_time_interval=interval, enable_version_counter=False)

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: object, batch: object, index: int
    ) -> None:
        """The end of an epoch has a state of its own, after validation."""
        if _may_look(trainer, task, index):
            super().on_train_batch_end(trainer, task, outputs, batch, index)


class BestWeights(ModelCheckpoint):
    """Keeps the weights of the validation with the smallest error so far."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "best", ERROR, save_weights_only=True, enable_version_counter=False)


def _may_look(trainer: Trainer, task: LightningModule, index: int) -> bool:
    """Whether to look after this batch; not after the last one of an epoch, whose end has a look of its own."""
    every = LOOK_EVERY if trainer.world_size > 1 and task.device.type == "cuda" else 1
    return index + 1 < trainer.num_training_batches and (index + 1) % every == 0
