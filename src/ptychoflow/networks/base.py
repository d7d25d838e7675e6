"""The base class of the networks that are trained, whatever their input."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from ..config import Network
from .backbone import Backbone
from .registry import ARCHITECTURES, build


class MultiBackbone(nn.Module):
    """One or more networks of one architecture, and the normalisation of their input.

    Args:
        settings: architecture and size.
        window: side of the square that the networks see in training, px.
        in_channels: channels of their input.
        out_channels: channels of their output.
        count: number of networks.
    """

    input_scale: Tensor

    def __init__(self, settings: Network, window: int, in_channels: int, out_channels: int, count: int) -> None:
        super().__init__()
        self.settings, self.window = settings, window
        self.backbones = nn.ModuleList(build(settings, in_channels, out_channels) for _ in range(count))
        self.register_buffer("input_scale", torch.ones(in_channels))

    @property
    def stride(self) -> int:
        """Number that the side of the input must be a multiple of."""
        return ARCHITECTURES[self.settings.architecture].stride(self.settings.depth)

    def compile_backbones(self) -> None:
        """Compile the networks for the device; the physics is complex, which compilers do not support."""
        for backbone in self.backbones:
            backbone.compile()

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the parts that read the input, of every network: fine-tuning may freeze them."""
        for backbone in self.backbones:
            for module in cast(Backbone, backbone).encoder():
                yield from module.parameters()
