"""A Fourier neural operator: convolutions as wide as the image, learned frequency by frequency (Li et al. 2021)."""

import torch
from torch import Tensor, nn

from .backbone import Backbone, scale_down_output
from .unet import ResidualBlock


class SpectralConvolution(nn.Module):
    """A convolution by its transfer function at low frequencies of either sign; higher frequencies do not pass.

    The weights do not depend on the side of the image: where it has fewer frequencies, the highest are left out.

    Args:
        channels: in and out.
        fourier_modes: number of frequencies along each axis, from 0 up.
    """

    def __init__(self, channels: int, fourier_modes: int) -> None:
        super().__init__()
        self.fourier_modes = fourier_modes
        # real and imaginary parts are stored apart: not every all-reduce of gradients supports complex numbers
        self.weight = nn.Parameter(torch.randn(2, channels, channels, fourier_modes, fourier_modes, 2) / channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, channels, S, S)`` in float32, also under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft2(x.float(), norm="ortho")
            kept = min(self.fourier_modes, x.shape[-1] // 2)
            positive, negative = torch.view_as_complex(self.weight)[..., :kept, :kept]
            passed = torch.zeros_like(spectrum)
            passed[..., :kept, :kept] = _mix_channels(spectrum[..., :kept, :kept], positive)
            passed[..., -kept:, :kept] = _mix_channels(spectrum[..., -kept:, :kept], negative)
            return torch.fft.irfft2(passed, s=x.shape[-2:], norm="ortho")


class FourierBlock(nn.Module):
    """``x + act(spectral(norm(x)) + conv(norm(x)))``: a global and a local convolution in parallel.

    Args:
        channels: in and out.
        fourier_modes: frequencies that are mixed along each axis.
    """

    def __init__(self, channels: int, fourier_modes: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.spectral = SpectralConvolution(channels, fourier_modes)
        self.local = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, channels, S, S)`` to the same shape."""
        normed = self.norm(x)
        return x + nn.functional.gelu(self.spectral(normed) + self.local(normed))


class FNO(Backbone):
    """Fourier blocks at half resolution, then a residual block.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        base_channels: channels inside.
        depth: number of Fourier blocks.
        fourier_modes: frequencies that each block mixes along each axis.
    """

    def __init__(
        self, in_channels: int, out_channels: int, base_channels: int = 32, depth: int = 3, fourier_modes: int = 12
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, base_channels, 3, padding=1))
        self.blocks = nn.ModuleList(FourierBlock(base_channels, fourier_modes) for _ in range(depth))
        self.refine = ResidualBlock(base_channels)
        self.output = nn.Conv2d(base_channels, 4 * out_channels, 3, padding=1)
        scale_down_output(self.output)

    @staticmethod
    def stride(depth: int) -> int:
        """Return the number that the side of the input must be a multiple of."""
        return 2

    def encoder(self) -> list[nn.Module]:
        """Return the parts that read the input."""
        return [self.stem, self.blocks]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in_channels, S, S)`` to ``(B, out_channels, S, S)``."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return nn.functional.pixel_shuffle(self.output(self.refine(x)), 2)


def _mix_channels(spectrum: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("bixy,ioxy->boxy", spectrum, weight)
