"""A Fourier-operator network: convolutions as wide as the picture, learned frequency by frequency (Li et al. 2021)."""

import torch
from torch import Tensor, nn

from .unet import ResidualBlock, start_small


class SpectralConvolution(nn.Module):
    """A convolution by its transfer function at low frequencies of either sign; higher ones do not pass.

    The weights do not depend on the side of the picture: where it has fewer frequencies, the highest are left out.

    Args:
        channels: in and out.
        modes: frequencies along each axis, from 0 up.
    """

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        # real and imaginary parts apart: not every way to add gradients across processes knows complex numbers
        self.weight = nn.Parameter(torch.randn(2, channels, channels, modes, modes, 2) / channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, S, S)``, in float32 whatever autocast says."""
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft2(x.float(), norm="ortho")
            modes = min(self.modes, x.shape[-1] // 2)
            upper, lower = torch.view_as_complex(self.weight)[..., :modes, :modes]
            passed = torch.zeros_like(spectrum)
            passed[..., :modes, :modes] = _mix(spectrum[..., :modes, :modes], upper)
            passed[..., -modes:, :modes] = _mix(spectrum[..., -modes:, :modes], lower)
            return torch.fft.irfft2(passed, s=x.shape[-2:], norm="ortho")


class FourierBlock(nn.Module):
    """``x + act(spectral(norm(x)) + conv(norm(x)))``: far and near at once."""

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.far = SpectralConvolution(channels, modes)
        self.near = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        return x + nn.functional.gelu(self.far(normed) + self.near(normed))


class FNO(nn.Module):
    """Fourier blocks at half resolution, then a local refinement.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        width: channels inside.
        levels: how many Fourier blocks.
        modes: frequencies that each block mixes along each axis.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int = 32, levels: int = 3, modes: int = 12) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, width, 3, padding=1))
        self.blocks = nn.ModuleList(FourierBlock(width, modes) for _ in range(levels))
        self.refine = ResidualBlock(width)
        self.leave = nn.Conv2d(width, 4 * out_channels, 3, padding=1)
        start_small(self.leave)

    @staticmethod
    def stride(levels: int) -> int:
        """What the side of the input must be a multiple of."""
        return 2

    def encoder(self) -> list[nn.Module]:
        """What reads the input: the rest is fine-tuned."""
        return [self.enter, self.blocks]

    def forward(self, x: Tensor) -> Tensor:
        """From ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``."""
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return nn.functional.pixel_shuffle(self.leave(self.refine(x)), 2)


def _mix(spectrum: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("bixy,ioxy->boxy", spectrum, weight)
