"""Lightning's trainer as every verb here wants it."""

import logging
import os
import warnings

import lightning
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment

from ..config import Runtime
from ..progress import terminal

NOT_SO = (
    ".*does not have many workers.*",  # a batch is one read
    ".*your dataloader is not resumable.*",  # the sampler is
    ".*Checkpoint directory .* exists and is not empty.*",  # that is what resuming is about
    ".*`srun` command is available.*",  # who starts the processes is decided here
    ".*LeafSpec.* is deprecated.*",  # Lightning's own
)
"""Warnings that do not apply here."""


def make_trainer(
    runtime: Runtime, callbacks: list[lightning.Callback], nodes: int = 1, **settings
) -> lightning.Trainer:
    """A trainer on the devices of ``runtime``, quiet, with a progress bar on a terminal only.

    Args:
        runtime: accelerator and devices.
        callbacks: what else watches.
        nodes: computers to spread over, where SLURM has started a process for each device of each.
        **settings: of ``lightning.Trainer``.

    Raises:
        ValueError: if several nodes are asked for and SLURM has not started the processes.
    """
    for noise in NOT_SO:
        warnings.filterwarnings("ignore", noise)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    screen, several = terminal(), runtime.devices * nodes > 1
    bar = [] if screen is None else [RichProgressBar(leave=True, console_kwargs={"file": screen})]
    return lightning.Trainer(
        accelerator=runtime.accelerator,
        devices=runtime.devices,
        strategy="ddp" if several else "auto",
        num_nodes=nodes,
        plugins=[_environment(runtime, nodes)],
        callbacks=[*callbacks, *bar],
        enable_progress_bar=bool(bar),
        enable_model_summary=False,
        use_distributed_sampler=False,
        **({"logger": False, "enable_checkpointing": False} | settings),
    )


def _environment(runtime: Runtime, nodes: int) -> ClusterEnvironment:
    """Who starts the processes: Lightning on one node, ``srun`` on several.

    Left to itself Lightning would use one device in a batch job of one task and not say so, and take SLURM's signals
    for its own; a job that is stopped is started again by the workflow.
    """
    if nodes == 1:
        return LightningEnvironment()
    asked, started = nodes * runtime.devices, int(os.environ.get("SLURM_NTASKS", 1))
    if started != asked:
        raise ValueError(
            f"runtime asks for {nodes} nodes of {runtime.devices} devices, but SLURM started {started} of {asked} "
            "processes: use a profile for SLURM, or set runtime.nodes to 1"
        )
    return SLURMEnvironment(auto_requeue=False)
