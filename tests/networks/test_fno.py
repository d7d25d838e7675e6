"""Fourier operators: a known filter, and the same function at any resolution."""

import pytest
import torch

from ptychoflow.networks.fno import SpectralConvolution


def _pass_all(fourier_modes: int) -> SpectralConvolution:
    layer = SpectralConvolution(1, fourier_modes)
    layer.weight.data.zero_()
    layer.weight.data[..., 0] = 1
    return layer


def test_weights_of_one_are_a_low_pass_of_either_sign():
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    low = torch.cos(2 * torch.pi * (2 * y + x) / 16) + torch.cos(2 * torch.pi * (2 * y - x) / 16 + 0.3)
    high = torch.cos(2 * torch.pi * 6 * x / 16)
    passed = _pass_all(4)((low + high)[None, None])
    torch.testing.assert_close(passed[0, 0], low, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fourier_modes", [8, 12, 64])
def test_an_image_with_fewer_frequencies_than_fourier_modes_passes_but_for_the_very_highest(fourier_modes):
    image = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft2(image)
    spectrum[..., -1] = 0
    expected = torch.fft.irfft2(spectrum)
    torch.testing.assert_close(_pass_all(fourier_modes)(image), expected, rtol=0, atol=1e-5)


def test_the_same_weights_do_the_same_at_twice_the_resolution():
    torch.manual_seed(0)
    layer = SpectralConvolution(2, 3)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    fine = torch.stack([torch.cos(2 * torch.pi * (y + 2 * x) / 32), torch.sin(2 * torch.pi * (y - x) / 32)])[None]
    torch.testing.assert_close(layer(fine)[..., ::2, ::2], layer(fine[..., ::2, ::2]), rtol=1e-4, atol=1e-5)


def test_half_precision_outside_does_not_reach_the_transform():
    torch.manual_seed(0)
    layer, image = SpectralConvolution(2, 3), torch.randn(1, 2, 16, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer(image)
    torch.testing.assert_close(inside, layer(image.float()))
