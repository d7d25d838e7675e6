"""Lightning's trainer as every command here wants it."""

import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from ..config import Runtime
from ..io.atomic import atomic_file
from ..runtime.gpu import device_kind
from ..runtime.progress import terminal

NOT_SO = (
    ".*does not have many workers.*",  # a batch is one read
    ".*your dataloader is not resumable.*",  # the sampler is
    ".*Checkpoint directory .* exists and is not empty.*",  # that is what resuming is about
    ".*`srun` command is available.*",  # who starts the processes is decided here
    ".*callbacks used to create the checkpoint need to be provided.*",  # how often it is written may change
    ".*Total length of .* across ranks is zero.*",  # nothing to validate on was asked for
    ".*LeafSpec.* is deprecated.*",  # Lightning's own
)
"""Warnings that do not apply here."""


def make_trainer(
    runtime: Runtime, callbacks: list[lightning.Callback], nodes: int = 1, **settings
) -> lightning.Trainer:
    """A trainer on the devices of ``runtime``, quiet, with a progress bar on a terminal only.

    Args:
        runtime: accelerator, devices, strategy.
        callbacks: what else watches.
        nodes: computers to spread over, where SLURM has started a process for each device of each.
        **settings: of ``lightning.Trainer``.

    Raises:
        ValueError: if a launcher started another number of processes, or there are fewer GPUs than asked for.
    """
    for noise in NOT_SO:
        warnings.filterwarnings("ignore", noise)
    for chatty in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    screen, several = terminal(), runtime.devices * nodes > 1
    bar = [] if screen is None else [ThrottledProgressBar(leave=True, console_kwargs={"file": screen})]
    return lightning.Trainer(
        accelerator=device_kind(runtime),
        devices=runtime.devices,
        strategy="ddp" if several else runtime.strategy,
        num_nodes=nodes,
        plugins=[launcher(runtime.devices, nodes), AtomicCheckpointIO()],
        callbacks=[*callbacks, *bar],
        enable_progress_bar=bool(bar),
        enable_model_summary=False,
        use_distributed_sampler=False,
        **({"logger": False, "enable_checkpointing": False} | settings),
    )


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C be KeyboardInterrupt: Lightning exits with code 1 and has the process, or notebook, ignore the next.

    Raises:
        KeyboardInterrupt: if Lightning met one.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as ended:
        if not isinstance(ended.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


class ThrottledProgressBar(RichProgressBar):
    """Tells the loss, but looks at it once a second: who looks at a number on a GPU waits for all that comes before."""

    EVERY_S = 1.0

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._told: dict[str, float] = {}
        self._looked = -math.inf

    def get_metrics(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> dict[str, float]:
        """The loss of a step not long ago."""
        if time.monotonic() - self._looked >= self.EVERY_S and "loss" in trainer.callback_metrics:
            self._told, self._looked = {"loss": float(trainer.callback_metrics["loss"])}, time.monotonic()
        return self._told


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one before and renames it, on the disk.

    Lightning itself writes to the temporary folder and moves that, which on another disk is a copy: a training that is
    killed during it leaves half a checkpoint, from which it would never resume.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: None = None) -> None:
        """Write a training's state, whole or not at all."""
        with atomic_file(Path(path)) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)


def launcher(devices: int, nodes: int = 1) -> ClusterEnvironment:
    """Who starts the processes: torchrun or srun did, or Lightning starts those that are missing.

    Left to itself Lightning would use one device in a batch job of one task and not say so, and take SLURM's signals
    for its own; a job that is stopped is started again by the workflow.

    Args:
        devices: on each node, a process for each.
        nodes: computers.

    Raises:
        ValueError: if other than ``devices * nodes`` processes were started.
    """
    if TorchElasticEnvironment.detect():
        _check_started("torchrun", os.environ["WORLD_SIZE"], devices, nodes)
        return TorchElasticEnvironment()
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if int(tasks) > 1 or nodes > 1:
        _check_started("srun", tasks, devices, nodes)
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(devices))  # Lightning asks for it
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


def _check_started(who: str, processes: str, devices: int, nodes: int) -> None:
    if int(processes) != devices * nodes:
        raise ValueError(
            f"{who} started {processes} of {devices * nodes} processes, for {devices} devices on {nodes} nodes: make "
            "runtime.devices and runtime.nodes agree with it, or use a profile for SLURM"
        )
