"""The wave through a thick sample: energy, adjoint, and agreement with plain NumPy."""

import numpy as np
import pytest
import torch

from ptychoflow.physics.multislice import propagate_slice, slice_transfer, step_back, transmit

SIZE, PIXEL_M, WAVELENGTH_M, SPACING_M = 32, 1e-8, 1.4e-10, 5e-6
TRANSFER = slice_transfer(SIZE, PIXEL_M, WAVELENGTH_M, SPACING_M)


def _waves(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape) + 1j * rng.normal(size=shape))


def test_vacuum_between_slices_keeps_every_photon_and_is_undone_backwards():
    wave = _waves(2, SIZE, SIZE)
    there = propagate_slice(wave, TRANSFER)
    torch.testing.assert_close(there.abs().square().sum(), wave.abs().square().sum())
    back = slice_transfer(SIZE, PIXEL_M, WAVELENGTH_M, SPACING_M, gaps=-2)
    torch.testing.assert_close(propagate_slice(propagate_slice(there, TRANSFER), back), wave)


def test_exit_waves_are_those_of_a_loop_in_numpy():
    probes, windows = _waves(3, 2, SIZE, SIZE), _waves(4, 3, SIZE, SIZE, seed=1)
    frequency = np.fft.fftfreq(SIZE, PIXEL_M)
    across = frequency[:, None] ** 2 + frequency**2
    vacuum = np.exp(2j * np.pi * SPACING_M * (np.sqrt(WAVELENGTH_M**-2 - across) - 1 / WAVELENGTH_M))
    for pattern in range(3):
        for mode in range(2):
            wave = probes[pattern, mode].numpy()
            for number in range(4):
                wave = wave if number == 0 else np.fft.ifft2(np.fft.fft2(wave) * vacuum)
                wave = wave * windows[number, pattern].numpy()
            np.testing.assert_allclose(transmit(probes, windows, TRANSFER)[1][pattern, mode], wave, rtol=1e-5)


def test_updates_taken_back_are_the_gradient_at_each_slice():
    probes, windows, target = (
        _waves(2, 1, SIZE, SIZE),
        _waves(3, 2, SIZE, SIZE, seed=1),
        _waves(2, 1, SIZE, SIZE, seed=2),
    )
    windows.requires_grad_(True)
    wave = windows[0][:, None] * probes
    for window in windows[1:]:
        wave = window[:, None] * torch.fft.ifft2(torch.fft.fft2(wave) * TRANSFER)
    (wave - target).abs().square().sum().backward()
    incident, exit_waves = transmit(probes, windows.detach(), TRANSFER)
    updates = exit_waves - target
    for number in (2, 1, 0):
        found = 2 * (incident[number].conj() * updates).sum(1)
        torch.testing.assert_close(found, windows.grad[number])
        updates = step_back(updates, windows[number].detach(), TRANSFER)


def test_one_slice_is_a_thin_sample():
    probes, windows = _waves(2, 1, SIZE, SIZE), _waves(1, 2, SIZE, SIZE, seed=1)
    torch.testing.assert_close(transmit(probes, windows, TRANSFER)[1], windows[0][:, None] * probes, rtol=0, atol=0)


def test_slices_too_far_apart_for_the_grid_are_refused():
    with pytest.raises(ValueError, match=r"slices are 1 m apart, but 32 pixels .* carry a wave over at most"):
        slice_transfer(SIZE, PIXEL_M, WAVELENGTH_M, 1.0)
