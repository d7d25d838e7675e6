"""What the networks that learn have in common, whatever they see."""

from collections.abc import Iterator

import torch
from torch import nn

from ..config import Network
from .registry import ARCHITECTURES, build


class MultiBackbone(nn.Module):
    """One or more networks of an architecture, and the scale of what they see.

    Args:
        settings: architecture and size.
        window: side of the square that they see in training, px.
        channels: that they see.
        outputs: channels that they say.
        count: how many networks.
    """

    def __init__(self, settings: Network, window: int, channels: int, outputs: int, count: int) -> None:
        super().__init__()
        self.settings, self.window = settings, window
        self.backbones = nn.ModuleList(build(settings, channels, outputs) for _ in range(count))
        self.register_buffer("input_scale", torch.ones(channels))

    @property
    def stride(self) -> int:
        """What the side of their input must be a multiple of."""
        return ARCHITECTURES[self.settings.architecture].stride(self.settings.depth)

    def compile_backbones(self) -> None:
        """Compile the networks for where they run; the physics is complex, which compilers leave alone."""
        for backbone in self.backbones:
            backbone.compile()

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """Those of the parts that read the input, of every network: what fine-tuning keeps."""
        for backbone in self.backbones:
            for module in backbone.encoder():
                yield from module.parameters()
