"""Callbacks that watch a training: its throughput, its collapse, its learning rate and averages."""

import logging
import time
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, LearningRateMonitor

from ..config import Training
from .lightning_module import ERROR, GroupTask

logger = logging.getLogger(__name__)


class CollapsedError(ValueError):
    """Raised when a network predicts uniform objects; more training does not bring it back."""


class Throughput(Callback):
    """Measure the speed of training and the share of its time spent waiting for data.

    Attributes:
        seconds: within training epochs, validation excluded.
        waiting: of those, between the end of a step and the next batch.
        groups: trained on in that time.
        began: True once the training has begun, or a state of it was restored.
    """

    def __init__(self) -> None:
        self.seconds = self.waiting = 0.0
        self.groups = 0
        self.began = False
        self._mark = 0.0

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Start the clock: an epoch that is resumed has no start."""
        self.began = True
        self._mark = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Start the clock of an epoch."""
        self._mark = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, task: LightningModule, batch: Any, index: int) -> None:
        """Count the time since the last step as waiting."""
        self.waiting += self._lap()

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """Count the groups of a batch, and their time."""
        if index + 1 == trainer.num_training_batches and task.device.type == "cuda":
            torch.cuda.synchronize(task.device)  # steps were only queued; validation would wait for them otherwise
        self._lap()
        self.groups += len(batch.counts) * trainer.world_size

    def on_validation_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Restart the clock after a validation."""
        self._mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Log the throughput so far."""
        summary = self.summary(cast(GroupTask, task).network.settings.group_size)
        if trainer.logger is not None:
            logged = {name: summary[name] for name in ("patterns_per_second", "data_wait_share")}
            trainer.logger.log_metrics(logged, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the counters for the checkpoint."""
        return {"seconds": self.seconds, "waiting": self.waiting, "groups": self.groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counters from a checkpoint."""
        self.seconds, self.waiting, self.groups = state["seconds"], state["waiting"], state["groups"]

    def summary(self, group_size: int) -> dict[str, float]:
        """Return plain numbers for the training log.

        Args:
            group_size: patterns per group.
        """
        seconds = max(self.seconds, 1e-9)
        return {
            "training_seconds": self.seconds,
            "data_wait_share": self.waiting / seconds,
            "milliseconds_per_group": 1e3 * seconds / max(self.groups, 1),
            "patterns_per_second": self.groups * group_size / seconds,
        }

    def _lap(self) -> float:
        now = time.perf_counter()
        lap, self._mark = now - self._mark, now
        self.seconds += lap
        return lap


class CollapseGuard(Callback):
    """Stop a training whose canvases are uniform at two validations in a row, or only warn.

    The data error alone does not detect it: a uniform object explains diffraction patterns rather well.

    Args:
        stop: stop the training; else log a warning.
    """

    MIN_CONTRAST = 0.05
    MIN_CORRELATION = 0.1

    def __init__(self, stop: bool = True) -> None:
        self._stop, self._collapsed = stop, 0

    def on_validation_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Compare contrast and correlation of a validation with their minima.

        Raises:
            CollapsedError: if they were below them twice in a row and ``stop`` is set.
        """
        contrast = float(trainer.callback_metrics["validation/contrast"])
        correlation = float(trainer.callback_metrics["validation/correlation"])
        learns = contrast >= self.MIN_CONTRAST and correlation >= self.MIN_CORRELATION
        self._collapsed = 0 if learns else self._collapsed + 1
        if self._collapsed == 2:
            message = (
                f"training collapsed in epoch {trainer.current_epoch + 1}: predicted objects have {contrast:.2g} of "
                f"the contrast and {correlation:.2g} correlation of the back-projection (minimum {self.MIN_CONTRAST} "
                f"and {self.MIN_CORRELATION}): lower training.learning_rate or the weights of training.regularisation, "
                "set network.input to backprojection, or check the probe"
            )
            if self._stop:
                raise CollapsedError(message)
            logger.warning("%s", message)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of validations with a collapse for the checkpoint."""
        return {"collapsed": self._collapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the number of validations with a collapse from a checkpoint."""
        self._collapsed = state["collapsed"]


def optional_callbacks(training: Training) -> list[Callback]:
    """Return the callbacks that the settings ask for: weight averaging, early stopping, the learning rate's monitor."""
    callbacks: list[Callback] = [LearningRateMonitor("step")]
    if training.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=training.ema_decay, use_buffers=False))
    if training.early_stopping_patience is not None:
        callbacks.append(
            EarlyStopping(ERROR, patience=training.early_stopping_patience, check_on_train_epoch_end=False)
        )
    return callbacks
