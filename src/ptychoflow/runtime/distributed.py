"""Device and process group of an iterative refinement: each rank computes its part of every batch."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import Runtime
from .gpu import device_kind

HINT_SMALLER_PROBLEM = "set runtime.accelerator to cpu, or packing.binning or packing.crop to smaller patterns"
"""Remedy for a device with too little memory for a refinement, which keeps every pattern there."""


@dataclass(frozen=True)
class DistributedContext:
    """This process in the process group of one refinement; by default alone on the CPU.

    Attributes:
        device: device that it computes on.
        rank: rank of this process, from 0.
        world_size: number of processes.
    """

    device: torch.device | str = "cpu"
    rank: int = 0
    world_size: int = 1

    @classmethod
    def of(cls, runtime: Runtime) -> "DistributedContext":
        """Form a process group of one process per device.

        The first process starts the others, which run this program from its beginning.

        Args:
            runtime: its ``accelerator`` and ``devices`` are used.

        Raises:
            ValueError: if fewer GPUs are found than requested.
        """
        kind = device_kind(runtime)
        if runtime.devices == 1:
            return cls(torch.device(kind))
        from lightning.fabric import Fabric
        from lightning.fabric.plugins.environments import LightningEnvironment

        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        fabric = Fabric(accelerator=kind, devices=runtime.devices, strategy="ddp", plugins=[LightningEnvironment()])
        fabric.launch()
        return cls(fabric.device, fabric.global_rank, fabric.world_size)

    def local_shard(self, batch: Tensor) -> Tensor:
        """Return the part of a batch ``(B, ...)`` that this rank computes."""
        return batch[self.rank :: self.world_size]

    def sum(self, value: Tensor) -> Tensor:
        """Sum ``value`` over all ranks, in place (all-reduce)."""
        if self.world_size > 1:
            torch.distributed.all_reduce(torch.view_as_real(value) if value.is_complex() else value)
        return value
