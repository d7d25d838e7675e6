"""Lightning's trainer as every verb here wants it."""

import logging
import warnings

import lightning
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.plugins.environments import LightningEnvironment

from ..config import Runtime
from ..progress import terminal

NOT_SO = (
    ".*does not have many workers.*",  # a batch is one read
    ".*your dataloader is not resumable.*",  # the sampler is
    ".*Checkpoint directory .* exists and is not empty.*",  # that is what resuming is about
    ".*LeafSpec.* is deprecated.*",  # Lightning's own
)
"""Warnings that do not apply here."""


def make_trainer(runtime: Runtime, callbacks: list[lightning.Callback], **settings) -> lightning.Trainer:
    """A trainer on the devices of ``runtime``, quiet, with a progress bar on a terminal only.

    Args:
        runtime: accelerator and devices.
        callbacks: what else watches.
        **settings: of ``lightning.Trainer``.
    """
    for noise in NOT_SO:
        warnings.filterwarnings("ignore", noise)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    screen, several = terminal(), runtime.devices > 1
    bar = [] if screen is None else [RichProgressBar(leave=True, console_kwargs={"file": screen})]
    return lightning.Trainer(
        accelerator=runtime.accelerator,
        devices=runtime.devices,
        strategy="ddp" if several else "auto",
        # inside a batch job of one task Lightning would otherwise use one device and not say so
        plugins=[LightningEnvironment()] if several else None,
        callbacks=[*callbacks, *bar],
        enable_progress_bar=bool(bar),
        enable_model_summary=False,
        use_distributed_sampler=False,
        **({"logger": False, "enable_checkpointing": False} | settings),
    )
