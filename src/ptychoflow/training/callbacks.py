"""What watches a training: its speed, and whether it learns at all."""

import logging
import time

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, LearningRateMonitor

from ..config import Training
from .lightning_module import ERROR

logger = logging.getLogger(__name__)


class CollapsedError(ValueError):
    """A network whose output has gone flat: more training does not bring it back."""


class Throughput(Callback):
    """How fast training goes and what share of its time it waits for data.

    Attributes:
        seconds: within training epochs, validation apart.
        waiting: of those, between the end of a step and the next batch.
        groups: trained on in that time.
    """

    def __init__(self) -> None:
        self.seconds = self.waiting = 0.0
        self.groups = 0
        self._mark = 0.0

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        self._mark = time.perf_counter()  # an epoch that is resumed does not start

    def on_train_epoch_start(self, trainer: Trainer, task: LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, task: LightningModule, batch, index: int) -> None:
        self.waiting += self._lap()

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, outputs, batch, index: int) -> None:
        if index + 1 == trainer.num_training_batches and task.device.type == "cuda":
            torch.cuda.synchronize(task.device)  # steps were only handed over; validation would wait for them else
        self._lap()
        self.groups += len(batch.counts) * trainer.world_size

    def on_validation_end(self, trainer: Trainer, task: LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Tell the diary of the training as well."""
        told = self.summary(task.network.settings.group_size)
        kept = {name: told[name] for name in ("patterns_per_second", "data_wait_share")}
        trainer.logger.log_metrics(kept, trainer.global_step)

    def state_dict(self) -> dict:
        return {"seconds": self.seconds, "waiting": self.waiting, "groups": self.groups}

    def load_state_dict(self, state: dict) -> None:
        self.seconds, self.waiting, self.groups = state["seconds"], state["waiting"], state["groups"]

    def summary(self, group_size: int) -> dict[str, float]:
        """Plain numbers for the record of the training."""
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
    """Stops a training whose canvases have gone flat at two validations in a row, or only says so.

    The data error alone cannot tell: a flat object explains patterns rather well.

    Args:
        stop: whether to stop it.
    """

    LEAST_SPREAD = 0.05
    LEAST_CORRELATION = 0.1

    def __init__(self, stop: bool = True) -> None:
        self._stop, self._flat = stop, 0

    def on_validation_end(self, trainer: Trainer, task: LightningModule) -> None:
        spread = float(trainer.callback_metrics["validation/spread"])
        correlation = float(trainer.callback_metrics["validation/correlation"])
        learns = spread >= self.LEAST_SPREAD and correlation >= self.LEAST_CORRELATION
        self._flat = 0 if learns else self._flat + 1
        if self._flat == 2:
            told = (
                f"training collapsed in epoch {trainer.current_epoch + 1}: beside the back-projected estimate the "
                f"objects found have a spread of {spread:.2g} and a correlation of {correlation:.2g} (at least "
                f"{self.LEAST_SPREAD} and {self.LEAST_CORRELATION}): lower training.learning_rate or the weights of "
                "training.regularisation, let the network see back-projections, or check the probe"
            )
            if self._stop:
                raise CollapsedError(told)
            logger.warning("%s", told)

    def state_dict(self) -> dict:
        return {"flat": self._flat}

    def load_state_dict(self, state: dict) -> None:
        self._flat = state["flat"]


def chosen(training: Training) -> list[Callback]:
    """What the settings of a training ask for beside what always watches."""
    callbacks: list[Callback] = [LearningRateMonitor("step")]
    if training.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=training.ema_decay, use_buffers=False))
    if training.early_stopping_patience is not None:
        callbacks.append(
            EarlyStopping(ERROR, patience=training.early_stopping_patience, check_on_train_epoch_end=False)
        )
    return callbacks
