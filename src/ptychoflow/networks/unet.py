"""A residual U-Net that works at half resolution."""

import torch
from torch import Tensor, nn

from .attention import attention_or_identity
from .backbone import Backbone, scale_down_output


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut: ``x + conv(act(norm(conv(act(norm(x))))))``.

    Args:
        channels: in and out, a multiple of 8.
    """

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
        """Map ``(B, channels, S, S)`` to the same shape."""
        return x + self.body(x)


class UNet(Backbone):
    """Encoder and decoder with a skip connection at each level; channels double where the side halves.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        base_channels: channels of the first level.
        depth: number of levels; the side of the input must be a multiple of :meth:`stride`.
        attention: add attention to each level of the encoder.
    """

    def __init__(
        self, in_channels: int, out_channels: int, base_channels: int = 32, depth: int = 3, attention: bool = False
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(depth)]
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, base_channels, 3, padding=1))
        self.encoders = nn.ModuleList(ResidualBlock(w) for w in widths)
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.ups = nn.ModuleList(nn.Conv2d(2 * w, 4 * w, 1) for w in widths[:-1])
        self.decoders = nn.ModuleList(ResidualBlock(w) for w in widths[:-1])
        self.output = nn.Conv2d(base_channels, 4 * out_channels, 3, padding=1)
        self.attentions = nn.ModuleList(attention_or_identity(w, attention) for w in widths)
        scale_down_output(self.output)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this overload

    @staticmethod
    def stride(depth: int) -> int:
        """Return the number that the side of the input must be a multiple of."""
        return 2**depth

    def encoder(self) -> list[nn.Module]:
        """Return the parts that read the input."""
        return [self.stem, self.encoders, self.attentions, self.downs]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for encoder, attention, down in zip(self.encoders, self.attentions, self.downs, strict=False):
            x = attention(encoder(x))
            skips.append(x)
            x = down(x)
        x = self.attentions[-1](self.encoders[-1](x))
        for decoder, up, skip in zip(reversed(self.decoders), reversed(self.ups), reversed(skips), strict=True):
            x = decoder(nn.functional.pixel_shuffle(up(x), 2) + skip)
        return nn.functional.pixel_shuffle(self.output(x), 2)
