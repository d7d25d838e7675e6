"""A residual U-Net that works at half resolution."""

import torch
from torch import Tensor, nn

from .attention import attend


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut: ``x + conv(act(norm(conv(act(norm(x))))))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class UNet(nn.Module):
    """Encoder and decoder with a shortcut at each level; channels double where the side halves.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels of the first level.
        levels: how many levels; the side of the input must be a multiple of :meth:`stride`.
        attention: whether each level of the encoder attends.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int = 32, levels: int = 3, attention: bool = False
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.enter = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, width, 3, padding=1))
        self.encoders = nn.ModuleList(ResidualBlock(w) for w in widths)
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.ups = nn.ModuleList(nn.Conv2d(2 * w, 4 * w, 1) for w in widths[:-1])
        self.decoders = nn.ModuleList(ResidualBlock(w) for w in widths[:-1])
        self.leave = nn.Conv2d(width, 4 * out_channels, 3, padding=1)
        self.attentions = nn.ModuleList(attend(w, attention) for w in widths)
        start_small(self.leave)
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def stride(levels: int) -> int:
        """What the side of the input must be a multiple of."""
        return 2**levels

    def encoder(self) -> list[nn.Module]:
        """What reads the input: the rest is fine-tuned."""
        return [self.enter, self.encoders, self.attentions, self.downs]

    def forward(self, x: Tensor) -> Tensor:
        """From ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``."""
        x = self.enter(x.contiguous(memory_format=torch.channels_last))
        shortcuts = []
        for encoder, attention, down in zip(self.encoders, self.attentions, self.downs, strict=False):
            x = attention(encoder(x))
            shortcuts.append(x)
            x = down(x)
        x = self.attentions[-1](self.encoders[-1](x))
        for decoder, up, shortcut in zip(reversed(self.decoders), reversed(self.ups), reversed(shortcuts), strict=True):
            x = decoder(nn.functional.pixel_shuffle(up(x), 2) + shortcut)
        return nn.functional.pixel_shuffle(self.leave(x), 2)


def start_small(layer: nn.Conv2d) -> None:
    """Let a last layer begin with a small output."""
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.zero_()
