"""The field's usual network, for comparison: one encoder, and a decoder each for the two parts of a complex number."""

import torch
from torch import Tensor, nn

from .attention import attend
from .unet import start_small


class TwoDecoderCNN(nn.Module):
    """Convolutions, rectifiers and pooling down to a small picture, and back up without shortcuts.

    After PtychoNN and PtychoPINN, from their published descriptions. The first half of the output channels comes from
    one decoder, the second from the other.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, even.
        width: channels of the first level.
        levels: how often the side is halved; channels double each time.
        attention: whether the encoder attends.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int = 32, levels: int = 3, attention: bool = False
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        down = [
            nn.Sequential(*_two_convolutions(before, after), attend(after, attention), nn.MaxPool2d(2))
            for before, after in zip([in_channels, *widths], widths, strict=False)
        ]
        self.down = nn.Sequential(*down)
        self.decoders = nn.ModuleList(_decoder(widths, out_channels // 2) for _ in range(2))
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def stride(levels: int) -> int:
        """What the side of the input must be a multiple of."""
        return 2**levels

    def encoder(self) -> list[nn.Module]:
        """What reads the input: the rest is fine-tuned."""
        return [self.down]

    def forward(self, x: Tensor) -> Tensor:
        """From ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``."""
        code = self.down(x.contiguous(memory_format=torch.channels_last))
        return torch.cat([decoder(code) for decoder in self.decoders], dim=1)


def _decoder(widths: list[int], out_channels: int) -> nn.Sequential:
    up = []
    for before, after in zip(reversed(widths), [*reversed(widths[:-1]), widths[0]], strict=True):
        up += [*_two_convolutions(before, after), nn.Upsample(scale_factor=2)]
    leave = nn.Conv2d(widths[0], out_channels, 3, padding=1)
    start_small(leave)
    return nn.Sequential(*up, leave)


def _two_convolutions(before: int, after: int) -> list[nn.Module]:
    first, second = nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)
    for layer in (first, second):  # torch's own start lets a dozen rectifiers fade what comes in to nothing
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return [first, nn.ReLU(), second, nn.ReLU()]
