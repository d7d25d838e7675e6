"""Checkpoints of an interrupted training, from which it resumes, and its best weights so far."""

import hashlib
import json
import logging
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from .. import __version__
from ..io.tensor_file import all_finite, check_checksum, read_tensors
from ..models.checkpoint import FORMAT
from .lightning_module import ERROR

logger = logging.getLogger(__name__)


def checkpoint_dir(output: Path, recipe: dict) -> Path:
    """Return the folder for checkpoints of an interrupted training.

    Its name is made of the output's name and a hash of everything that shapes the result. It lies outside the outputs
    of the workflow, which are deleted when a job is killed.

    Args:
        output: the network that is being trained, ``.../networks/NAME.ckpt``.
        recipe: settings and inputs, as plain data.
    """
    text = json.dumps({"version": __version__, "format": FORMAT, **recipe}, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Path(output).parent.parent / "checkpoints" / Path(output).stem / key


POLL_EVERY = 20
"""Batches after which ranks on GPUs ask each other whether to stop or to checkpoint: asking waits for the devices."""


class LastCheckpoint(ModelCheckpoint):
    """Keep the latest state of a training: after every epoch, and when one of its processes receives SIGTERM.

    All ranks stop together, between two steps, where the state is complete; at the end of an epoch after validation,
    so that early stopping and the best weights do not depend on the time of the signal.

    Args:
        folder: for the checkpoint.
    """

    NAME = "latest"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, self.NAME, save_on_train_epoch_end=True, enable_version_counter=False)
        self._sigterm = False

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Handle SIGTERM instead of Lightning, whose processes would each react on their own."""
        super().on_train_start(trainer, task)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """Stop after a step if a rank has received SIGTERM."""
        if _polls_after(trainer, task, index):
            self._stop_on_sigterm(trainer)

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Stop after an epoch, which may be a single step; after the last one nothing is left to stop."""
        super().on_train_epoch_end(trainer, task)
        if trainer.max_epochs is None or trainer.current_epoch + 1 < trainer.max_epochs:
            self._stop_on_sigterm(trainer)

    def _stop_on_sigterm(self, trainer: Trainer) -> None:
        stop = self._sigterm
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            raise SIGTERMException

    def on_exception(self, trainer: Trainer, task: LightningModule, exception: BaseException) -> None:
        """Save a checkpoint after SIGTERM, where the state is complete; other exceptions may come anywhere."""
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.format_checkpoint_name({}))
            log = logger.warning if trainer.is_global_zero else logger.debug
            log("received SIGTERM after %d steps; checkpoint saved, rerun to resume", trainer.global_step)

    def _on_sigterm(self, *_: object) -> None:
        self._sigterm = True


class IntervalCheckpoint(ModelCheckpoint):
    """Keep the same state in the middle of an epoch.

    Args:
        folder: that of :class:`LastCheckpoint`.
        minutes: between two checkpoints.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        interval = timedelta(minutes=minutes)
        super().__init__(folder, LastCheckpoint.NAME, train_time_interval=interval, enable_version_counter=False)

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, index: int) -> None:
        """Save a checkpoint if the interval has passed; the end of an epoch has its own, after validation."""
        if _polls_after(trainer, task, index):
            super().on_train_batch_end(trainer, task, outputs, batch, index)


class BestWeights(ModelCheckpoint):
    """Keep the weights of the validation with the smallest error so far.

    Args:
        folder: for the checkpoint.
    """

    NAME = "best"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, self.NAME, ERROR, save_weights_only=True, enable_version_counter=False)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of an interrupted training.

    Raises:
        ValueError: if it is damaged.
    """
    content = read_tensors(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a checkpoint of a training")
    check_checksum(content, path)
    return content


def check_weights(content: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Refuse a checkpoint whose weights are not those of a network like this one, or are NaN.

    Args:
        content: the checkpoint.
        weights: of the network, before it is trained.

    Raises:
        ValueError: naming what does not fit.
    """
    saved = content.get("state_dict")
    if not isinstance(saved, dict) or set(saved) != set(weights) or not _is_count(content.get("epoch")):
        raise ValueError("it holds the weights of another network")
    for name, tensor in weights.items():
        found = saved[name]
        if not isinstance(found, Tensor) or (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(f"{name} is not {tensor.dtype} {tuple(tensor.shape)}")
        if not all_finite(found):
            raise ValueError(f"{name} holds NaN or infinity")


def check_state(content: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Refuse a checkpoint that lacks a part of the state of a training, or whose weights are not of this network.

    Args:
        content: the checkpoint.
        weights: of the network, before it is trained.

    Raises:
        ValueError: naming what does not fit.
    """
    check_weights(content, weights)
    kinds = {"loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if wrong or not _is_count(content.get("global_step")):
        raise ValueError(f"it lacks {' and '.join(wrong) or 'the number of steps'}")
    if not all(_is_count(value) or value is None for value in _leaves(content["loops"])):
        raise ValueError("the progress of its loops is not one of counts")


def _leaves(data: Any) -> Iterator[Any]:
    """Yield the values in nested dictionaries and lists."""
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _leaves(value)
    else:
        yield data


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 40


def _polls_after(trainer: Trainer, task: LightningModule, index: int) -> bool:
    """Return True if ranks ask each other after this batch; the end of an epoch has a check of its own."""
    every = POLL_EVERY if trainer.world_size > 1 and task.device.type == "cuda" else 1
    return index + 1 < trainer.num_training_batches and (index + 1) % every == 0
