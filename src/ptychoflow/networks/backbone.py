"""The interface of every architecture: images in, images of the same side out."""

import torch
from torch import Tensor, nn


class Backbone(nn.Module):
    """A network from ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``.

    An architecture is made with ``in_channels, out_channels, base_channels, depth`` and the settings that act on it
    alone.
    """

    @staticmethod
    def stride(depth: int) -> int:
        """Return the number that the side of the input must be a multiple of."""
        raise NotImplementedError

    def encoder(self) -> list[nn.Module]:
        """Return the parts that read the input: fine-tuning may freeze them."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``."""
        raise NotImplementedError


def scale_down_output(layer: nn.Conv2d) -> None:
    """Scale the weights of a last layer by 0.1 and set its bias to 0, so that training starts from a small output."""
    with torch.no_grad():
        layer.weight.mul_(0.1)
        if layer.bias is not None:
            layer.bias.zero_()
