"""Lightning's trainer as training and inference use it: devices, launchers, progress, interruption."""

import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from ..config import Runtime
from ..io.tensor_file import write_tensors
from ..runtime.gpu import device_kind
from ..runtime.progress import terminal
from .checkpointing import read_checkpoint

IGNORED_WARNINGS = (
    ".*does not have many workers.*",  # a batch is read in one piece
    ".*your dataloader is not resumable.*",  # the sampler is resumable
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed training uses it
    ".*`srun` command is available.*",  # launcher() decides who starts the processes
    ".*callbacks used to create the checkpoint need to be provided.*",  # the interval of checkpoints may change
    ".*Total length of .* across ranks is zero.*",  # validation may be switched off
    ".*LeafSpec.* is deprecated.*",  # raised by Lightning's own code
)
"""Patterns of Lightning's warnings that do not apply."""


def make_trainer(
    runtime: Runtime, callbacks: Sequence[lightning.Callback], nodes: int = 1, **settings: Any
) -> lightning.Trainer:
    """Return a trainer on the devices of ``runtime``, without Lightning's messages, with a progress bar on terminals.

    Args:
        runtime: accelerator, devices, strategy.
        callbacks: further callbacks.
        nodes: compute nodes, where SLURM has started a process for each device of each.
        **settings: of ``lightning.Trainer``.

    Raises:
        ValueError: if a launcher started another number of processes, or fewer GPUs exist than were asked for.
    """
    for pattern in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    screen, distributed = terminal(), runtime.devices * nodes > 1
    bar = [] if screen is None else [ThrottledProgressBar(leave=True, console_kwargs={"file": screen})]
    return lightning.Trainer(
        accelerator=device_kind(runtime),
        devices=runtime.devices,
        strategy="ddp" if distributed else runtime.strategy,
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
    """Raise KeyboardInterrupt on Ctrl-C: Lightning would exit with code 1 and ignore the next Ctrl-C.

    Raises:
        KeyboardInterrupt: if Lightning caught one.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_:
        if not isinstance(exit_.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


class ThrottledProgressBar(RichProgressBar):
    """Show the loss, read at most once a second: reading a number from a GPU waits for all work before it."""

    EVERY_S = 1.0

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._metrics: dict[str, int | str | float | dict[str, float]] = {}
        self._read_at = -math.inf

    def get_metrics(
        self, trainer: lightning.Trainer, task: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the loss of a recent step."""
        if time.monotonic() - self._read_at >= self.EVERY_S and "loss" in trainer.callback_metrics:
            self._metrics = {"loss": float(trainer.callback_metrics["loss"])}
            self._read_at = time.monotonic()
        return self._metrics


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically: to a file in the same folder, which is then renamed.

    Lightning itself writes to the temporary folder and moves the file, which between two disks is a copy: a training
    killed during the copy leaves an incomplete checkpoint, from which it could never resume.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: None = None) -> None:
        """Write the state of a training atomically."""
        write_tensors(Path(path), checkpoint)

    def load_checkpoint(self, path: str | Path, *_: object, **__: object) -> dict[str, Any]:
        """Read the state of a training to the CPU; nothing in it is executed, damage is noticed."""
        return read_checkpoint(Path(path))


def launcher(devices: int, nodes: int = 1) -> ClusterEnvironment:
    """Return the environment that started the processes: torchrun, srun, or Lightning, which starts those missing.

    Left to itself Lightning would use one device in a batch job of one task without a warning, and handle SLURM's
    signals; the workflow restarts a job that was stopped.

    Args:
        devices: on each node, a process for each.
        nodes: compute nodes.

    Raises:
        ValueError: if other than ``devices * nodes`` processes were started.
    """
    if TorchElasticEnvironment.detect():
        _check_process_count("torchrun", os.environ["WORLD_SIZE"], devices, nodes)
        return TorchElasticEnvironment()
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if int(tasks) > 1 or nodes > 1:
        _check_process_count("srun", tasks, devices, nodes)
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(devices))  # required by Lightning
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


def _check_process_count(starter: str, processes: str, devices: int, nodes: int) -> None:
    if int(processes) != devices * nodes:
        raise ValueError(
            f"expected {devices * nodes} processes for {devices} devices on {nodes} nodes, {starter} started "
            f"{processes}: change runtime.devices and runtime.nodes or the number of tasks, or use a profile for SLURM"
        )
