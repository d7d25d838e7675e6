"""Where a fit runs: its device, and the processes that share it, each its part of every batch."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import Runtime
from .gpu import device_kind

HINT_SMALLER_PROBLEM = "set runtime.accelerator to cpu, or packing.binning or packing.crop to smaller patterns"
"""What to do where a device has no room for a fit, which keeps every pattern there."""


@dataclass(frozen=True)
class DistributedContext:
    """This process among those that work on one fit; alone on the CPU by default.

    Attributes:
        device: where it computes.
        rank: which of them this is.
        count: how many there are.
    """

    device: torch.device | str = "cpu"
    rank: int = 0
    count: int = 1

    @classmethod
    def of(cls, runtime: Runtime) -> "DistributedContext":
        """One process per device; called for several, it starts the others, which run this program from its beginning.

        Raises:
            ValueError: if there are fewer GPUs than asked for.
        """
        kind = device_kind(runtime)
        if runtime.devices == 1:
            return cls(torch.device(kind))
        from lightning.fabric import Fabric
        from lightning.fabric.plugins.environments import LightningEnvironment

        for chatty in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        fabric = Fabric(accelerator=kind, devices=runtime.devices, strategy="ddp", plugins=[LightningEnvironment()])
        fabric.launch()
        return cls(fabric.device, fabric.global_rank, fabric.world_size)

    def share(self, batch: Tensor) -> Tensor:
        """The part of a batch that this process looks at."""
        return batch[self.rank :: self.count]

    def sum(self, value: Tensor) -> Tensor:
        """The sum of every process's ``value``, the same in all of them; in place."""
        if self.count > 1:
            torch.distributed.all_reduce(torch.view_as_real(value) if value.is_complex() else value)
        return value
