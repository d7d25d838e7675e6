"""Propagators conserve photons, are inverted by their inverses, and agree with optics that has a closed form."""

import math

import numpy as np
import pytest
import torch

from ptychoflow.physics.propagation import (
    FAR_FIELD,
    angular_spectrum,
    far_field,
    far_field_corner,
    far_field_inverse,
    longest_distance_m,
    near_field,
    near_field_propagator,
    to_corner,
)

WAVELENGTH_M, PIXEL_M, SIZE = 0.5e-6, 4e-6, 256


def _wave(size: int = 12) -> torch.Tensor:
    return torch.randn(3, size, size, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))


def _gaussian_beam(waist_m: float, distance_m: float) -> torch.Tensor:
    """A paraxial Gaussian beam at a distance from its waist, relative to a plane wave: the closed form."""
    axis = (torch.arange(SIZE, dtype=torch.float64) - SIZE // 2) * PIXEL_M
    square = axis[:, None] ** 2 + axis**2
    rayleigh_m = math.pi * waist_m**2 / WAVELENGTH_M
    q = 1 / (1 + 1j * distance_m / rayleigh_m)
    return q * torch.exp(-q * square / waist_m**2)


@pytest.mark.parametrize("size", [12, 13])
def test_the_far_field_is_unitary_and_inverted_by_its_adjoint(size):
    wave = _wave(size)
    torch.testing.assert_close(far_field_inverse(far_field(wave)), wave)
    torch.testing.assert_close(far_field(wave).norm(), wave.norm())


def test_a_tilted_wave_goes_to_its_own_pixel_of_the_centred_far_field():
    y, x = torch.meshgrid(torch.arange(12) - 6, torch.arange(12) - 6, indexing="ij")
    spot = far_field(torch.exp(2j * math.pi * (2 * y - 3 * x) / 12))
    assert spot[6 + 2, 6 - 3].abs() == pytest.approx(12)
    assert spot[6 + 2, 6 - 3].angle() == pytest.approx(0, abs=1e-6)


def test_the_corner_far_field_is_the_centred_one_rolled():
    wave = _wave()
    rolled = torch.fft.ifftshift(far_field(wave), dim=(-2, -1))
    torch.testing.assert_close(far_field_corner(torch.fft.ifftshift(wave, dim=(-2, -1))), rolled)


@pytest.mark.parametrize("rayleigh_lengths", [0.3, 1.0, -1.0])
def test_the_near_field_of_a_gaussian_beam_is_a_gaussian_beam(rayleigh_lengths):
    waist_m = 30e-6
    distance_m = rayleigh_lengths * math.pi * waist_m**2 / WAVELENGTH_M
    propagate = near_field(SIZE, PIXEL_M, WAVELENGTH_M, distance_m)
    expected = _gaussian_beam(waist_m, distance_m)
    assert (propagate(_gaussian_beam(waist_m, 0)) - expected).abs().max() < 1e-4  # what is beyond paraxial is 1e-5


def test_the_near_field_conserves_photons_and_a_negative_distance_inverts_it():
    forward, back = (near_field(64, 1e-6, WAVELENGTH_M, distance_m) for distance_m in (1e-4, -1e-4))
    wave = _wave(64)
    torch.testing.assert_close(forward(wave).norm(), wave.norm())
    torch.testing.assert_close(back(forward(wave)), wave)


def test_the_near_field_follows_the_precision_of_the_wave():
    wave = _wave(64)
    propagate = near_field(64, 1e-6, WAVELENGTH_M, 1e-4)
    single = propagate(wave.to(torch.complex64))
    assert single.dtype == torch.complex64
    torch.testing.assert_close(single, propagate(wave).to(torch.complex64), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distance_m", [2e-3, -2e-3, math.nan])
def test_a_distance_too_long_for_the_grid_is_refused(distance_m):
    with pytest.raises(ValueError, match=r"at most 0\.0001239 m: use more or larger pixels"):
        near_field(64, 1e-6, WAVELENGTH_M, distance_m)


def test_no_waves_have_no_far_field():
    nothing = _wave()[:0]
    for propagate in (far_field, far_field_inverse, far_field_corner):
        assert propagate(nothing).shape == (0, 12, 12)


@pytest.mark.parametrize("dtype", [bool, np.uint16, np.uint32, np.float64])
@pytest.mark.parametrize("size", [5, 6])
def test_the_corner_layout_is_ifftshift_in_float32(size, dtype):
    patterns = (np.arange(2 * size**2).reshape(2, size, size) % 3).astype(dtype)
    corner = to_corner(torch.from_numpy(patterns))
    assert corner.dtype == torch.float32
    np.testing.assert_array_equal(corner, np.fft.ifftshift(patterns, axes=(-2, -1)))


@pytest.mark.parametrize("size", [24, 25])
def test_the_near_field_propagator_is_the_near_field_in_corner_layout(size):
    wave = _wave(size)
    expected = torch.fft.ifftshift(near_field(size, 1e-6, WAVELENGTH_M, 2e-5)(wave), dim=(-2, -1))
    torch.testing.assert_close(near_field_propagator(size, 1e-6, WAVELENGTH_M, 2e-5)(wave), expected)


@pytest.mark.parametrize("distance_m", [2e-5, 2e-4])
@pytest.mark.parametrize("size", [24, 25])
def test_the_adjoint_of_a_propagator_is_its_adjoint_even_beyond_the_band_limit(size, distance_m):
    first, second = _wave(2 * size)[:2, :size, :size]
    for propagator in (FAR_FIELD, near_field_propagator(size, 1e-6, WAVELENGTH_M, distance_m)):
        forward, back = (propagator(first) * second.conj()).sum(), (first * propagator.adjoint(second).conj()).sum()
        torch.testing.assert_close(forward, back, rtol=1e-12, atol=1e-10)


def test_the_near_field_propagator_is_unitary_up_to_the_longest_distance_and_loses_photons_beyond():
    wave, longest_m = _wave(24), longest_distance_m(24, 1e-6, WAVELENGTH_M)
    within, beyond = (near_field_propagator(24, 1e-6, WAVELENGTH_M, factor * longest_m) for factor in (1.0, 2.0))
    torch.testing.assert_close(within.adjoint(within(wave)), wave)
    assert beyond(wave).norm() < 0.9 * wave.norm()


def test_the_band_limit_drops_the_frequencies_that_would_cross_half_the_grid():
    distance_m = 4 * longest_distance_m(64, 4e-6, WAVELENGTH_M)
    transfer = angular_spectrum(64, 4e-6, WAVELENGTH_M, distance_m)
    frequency = np.fft.fftfreq(64, 4e-6)
    angle = np.arcsin(WAVELENGTH_M * np.abs(frequency))
    stays = distance_m * np.tan(angle) <= 64 * 4e-6 / 2 * (1 + 1e-6)
    np.testing.assert_array_equal(transfer[0].abs().numpy() > 0, stays)
    assert 10 < stays.sum() < 24
