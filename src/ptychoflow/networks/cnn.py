"""The CNN with two decoders of PtychoNN and PtychoPINN: the network of that method, to compare with and to import."""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu, sigmoid, silu, softplus

from .attention import Attention
from .backbone import Backbone, scale_down_output

AMPLITUDE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": silu,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "relu": relu,
}
"""Activations of the amplitude by their names in the config."""
UNIT_BIAS = {"silu": 1.2784645, "sigmoid": 4.0, "softplus": 0.5413249, "relu": 1.0}
"""Argument at which each is 1; a sigmoid comes within 0.02."""


class TwoDecoderCNN(Backbone):
    """Convolutions, rectifiers and pooling down to a small image, and up again without skip connections.

    The layers are those that PtychoPINN publishes, so its weights fit. The first half of the output channels comes from
    one decoder, the second half from the other. A decoder ends at half the side; its last features make the central
    half of the image, the last few of them, once more enlarged, the border around it.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, even.
        base_channels: channels of the first level.
        depth: number of times the side is halved; channels double each time.
        attention: add attention to the encoder.
        head: ``polar`` for amplitudes and phases as output; other heads apply their own functions.
        amplitude_activation: of the amplitude, for ``polar``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        base_channels: int = 32,
        depth: int = 3,
        attention: bool = False,
        head: str = "complex",
        amplitude_activation: str = "silu",
    ) -> None:
        super().__init__()
        self.head, self.amplitude_activation = head, amplitude_activation
        widths = [base_channels * 2**level for level in range(depth)]
        self.encoders = nn.ModuleList(
            TwoConvolutions(before, after, attention)
            for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.decoders = nn.ModuleList(Decoder(widths[-1], depth, out_channels // 2) for _ in range(2))
        if head == "polar":
            self._start_uniform()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this overload

    @staticmethod
    def stride(depth: int) -> int:
        """Return the number that the side of the input must be a multiple of."""
        return max(4, 2**depth)

    def encoder(self) -> list[nn.Module]:
        """Return the parts that read the input."""
        return [self.encoders]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``."""
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.encoders:
            x = nn.functional.max_pool2d(block(x), 2)
        if self.head != "polar":
            return torch.cat([decoder(x) for decoder in self.decoders], dim=1)
        amplitude = self.decoders[0](x, AMPLITUDE_ACTIVATIONS[self.amplitude_activation], silu)
        return torch.cat([amplitude, self.decoders[1](x, phase_activation, silu)], dim=1)

    def _start_uniform(self) -> None:
        """Set the biases of the amplitude so that a fresh network puts out a uniform object."""
        decoder = cast(Decoder, self.decoders[0])
        for layer, activation in ((decoder.centre, self.amplitude_activation), (decoder.border, "silu")):
            if layer.bias is not None:
                nn.init.constant_(layer.bias, UNIT_BIAS[activation])


class TwoConvolutions(nn.Module):
    """Two convolutions with rectifiers, and attention where asked for.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        attention: add channel and spatial attention.
    """

    def __init__(self, in_channels: int, out_channels: int, attention: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.attention = Attention(out_channels, out_channels // 16, spatial_bias=False) if attention else nn.Identity()
        for layer in (self.conv1, self.conv2):  # torch's own initialisation vanishes after a dozen rectifiers
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``."""
        return self.attention(relu(self.conv2(relu(self.conv1(x)))))


class Decoder(nn.Module):
    """Enlarge features to half the side of the image, then make its central half and, enlarged again, its border.

    Args:
        in_channels: channels of the smallest features.
        depth: number of times that the encoder halved the side.
        out_channels: images to make.
    """

    def __init__(self, in_channels: int, depth: int, out_channels: int) -> None:
        super().__init__()
        last = in_channels // 4 if depth > 1 else in_channels
        widths = [last * 2**level for level in reversed(range(depth - 1))]
        self.blocks = nn.ModuleList(
            TwoConvolutions(before, after) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.border_channels = min(out_channels, last // 2)
        self.centre = nn.Conv2d(last - self.border_channels, out_channels, 3, padding=1)
        self.border_block = TwoConvolutions(self.border_channels, last)
        self.border = nn.Conv2d(last, out_channels, 3, padding=1)
        for layer in (self.centre, self.border):
            scale_down_output(layer)

    def forward(
        self,
        x: Tensor,
        centre_activation: Callable[[Tensor], Tensor] | None = None,
        border_activation: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Map features ``(B, in_channels, S / 2^depth, S / 2^depth)`` to images ``(B, out_channels, S, S)``.

        Args:
            x: features.
            centre_activation: function of the central half of the images; None for none.
            border_activation: function of the border.
        """
        for block in self.blocks:
            x = _enlarged(block(x))
        centre = self.centre(x[:, : -self.border_channels])
        border = self.border(_enlarged(self.border_block(x[:, -self.border_channels :])))
        if centre_activation is not None and border_activation is not None:
            centre, border = centre_activation(centre), border_activation(border)
        margin = x.shape[-1] // 2
        inside = pad(torch.ones_like(centre), [margin] * 4)
        return pad(centre, [margin] * 4) + (1 - inside) * border


def phase_activation(x: Tensor) -> Tensor:
    """Return a phase from -pi to pi."""
    return math.pi * torch.tanh(x)


def _enlarged(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2, mode="nearest")
