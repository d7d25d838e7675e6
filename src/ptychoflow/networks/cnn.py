"""The two-decoder CNN of PtychoNN and PtychoPINN, for comparison: one encoder, two decoders."""

import torch
from torch import Tensor, nn

from .attention import attention_or_identity
from .backbone import Backbone, scale_down_output


class TwoDecoderCNN(Backbone):
    """Convolutions, rectifiers and pooling down to a small image, and up again without skip connections.

    After PtychoNN and PtychoPINN, from their published descriptions. The first half of the output channels comes from
    one decoder, the second half from the other.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, even.
        base_channels: channels of the first level.
        depth: number of times the side is halved; channels double each time.
        attention: add attention to the encoder.
    """

    def __init__(
        self, in_channels: int, out_channels: int, base_channels: int = 32, depth: int = 3, attention: bool = False
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(depth)]
        down = [
            nn.Sequential(*_two_convolutions(before, after), attention_or_identity(after, attention), nn.MaxPool2d(2))
            for before, after in zip([in_channels, *widths], widths, strict=False)
        ]
        self.down = nn.Sequential(*down)
        self.decoders = nn.ModuleList(_decoder(widths, out_channels // 2) for _ in range(2))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this overload

    @staticmethod
    def stride(depth: int) -> int:
        """Return the number that the side of the input must be a multiple of."""
        return 2**depth

    def encoder(self) -> list[nn.Module]:
        """Return the parts that read the input."""
        return [self.down]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``."""
        code = self.down(x.contiguous(memory_format=torch.channels_last))
        return torch.cat([decoder(code) for decoder in self.decoders], dim=1)


def _decoder(widths: list[int], out_channels: int) -> nn.Sequential:
    up: list[nn.Module] = []
    for before, after in zip(reversed(widths), [*reversed(widths[:-1]), widths[0]], strict=True):
        up += [*_two_convolutions(before, after), nn.Upsample(scale_factor=2)]
    output = nn.Conv2d(widths[0], out_channels, 3, padding=1)
    scale_down_output(output)
    return nn.Sequential(*up, output)


def _two_convolutions(in_channels: int, out_channels: int) -> list[nn.Module]:
    first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
    for layer in (first, second):  # with torch's default initialisation the signal vanishes after a dozen rectifiers
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return [first, nn.ReLU(), second, nn.ReLU()]
