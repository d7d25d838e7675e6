"""The rPIE updates are their formulas, written out, by the C kernels and by torch."""

import numpy as np
import pytest
import torch

from ptychoflow.physics.forward_model import total_intensity
from ptychoflow.physics.kernels.pie import (
    add_windows_,
    corner_amplitudes,
    exit_wave_update_,
    modulus_and_residual,
    object_update_terms,
    position_normal_equations,
    rpie_object_updates_,
    rpie_probe_update,
    take_windows,
)
from ptychoflow.physics.low_order_phase import phase_gradient_normal_equations

SHAPE, COUNT = (23, 31), 5  # not square
SIZES = pytest.mark.parametrize(("modes", "size"), [(1, 16), (3, 9)])  # the second fills no vector


pytestmark = pytest.mark.usefixtures("with_and_without_compiler")


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def _corners(size: int) -> torch.Tensor:
    """The four corners of the image, and a window that overlaps the first."""
    down, right = SHAPE[0] - size, SHAPE[1] - size
    return torch.tensor([[0, 0], [0, right], [down, 0], [down, right], [2, 1]])


def _first(size: int) -> torch.Tensor:
    return _corners(size) @ torch.tensor([SHAPE[1], 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("size", [9, 16])
def test_windows_are_slices_and_adding_them_is_the_adjoint(size, dtype):
    image, windows = _random(*SHAPE, dtype=dtype), _random(COUNT, size, size, seed=1, dtype=dtype)
    taken = take_windows(image, _first(size), size)
    for window, (y, x) in zip(taken, _corners(size).tolist(), strict=True):
        assert torch.equal(window, image[y : y + size, x : x + size])
    added = torch.ones_like(image)
    add_windows_(added, _first(size), windows)
    torch.testing.assert_close(
        torch.vdot((added - 1).flatten(), image.flatten()), torch.vdot(windows.flatten(), taken.flatten())
    )


def test_windows_that_are_conjugate_views_are_added_as_such():
    windows, image = _random(COUNT, 9, 9), torch.zeros(SHAPE, dtype=torch.complex64)
    same = torch.zeros_like(image)
    add_windows_(image, _first(9), windows.conj())
    add_windows_(same, _first(9), windows)
    assert torch.equal(image, same.conj())


def test_inputs_that_are_not_contiguous_are_read_rightly():
    waves, amplitude = _random(3, 1, 9, 9), _random(9, 9, 9, seed=1).abs()
    image, every_other = _random(*SHAPE), torch.arange(6)[::2]
    windows = take_windows(image, _first(9)[::2], 9)
    assert torch.equal(windows[1], image[14:, :9])
    torch.testing.assert_close(
        *(modulus_and_residual(waves, amplitude, r)[1] for r in (every_other, every_other.clone()))
    )


@SIZES
def test_the_residual_is_the_measured_less_the_expected_amplitude(modes, size):
    waves = _random(COUNT, modes, size, size)
    waves[0, :, 0, 0] = 0
    amplitude, rows = _random(9, size, size, seed=1).abs(), torch.tensor([3, 0, 8, 1, 5])
    modulus, residual = modulus_and_residual(waves, amplitude, rows)
    torch.testing.assert_close(modulus, (waves.abs() ** 2).sum(1).sqrt().clamp_min(1e-6))
    torch.testing.assert_close(residual, amplitude[rows] - modulus)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("size", [8, 9])
def test_corner_amplitudes_are_the_roots_of_shifted_counts(dtype, size):
    greatest = 255 if dtype == np.uint8 else 65535 if dtype == np.uint16 else 4_000_000_011
    counts = np.random.default_rng(0).integers(0, greatest, (3, size, size)).astype(dtype)
    expected = np.sqrt(np.fft.ifftshift(counts, axes=(1, 2)).astype(np.float32))
    found = corner_amplitudes(torch.from_numpy(counts))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected)


@SIZES
def test_a_background_is_added_to_the_expected_counts(modes, size):
    waves, amplitude = _random(COUNT, modes, size, size), _random(COUNT, size, size, seed=1).abs()
    background = _random(size, size, seed=2).abs()
    modulus, residual = modulus_and_residual(waves, amplitude, torch.arange(COUNT), background)
    torch.testing.assert_close(modulus, (total_intensity(waves) + background).sqrt())
    torch.testing.assert_close(residual, amplitude - modulus)


@SIZES
def test_the_exit_wave_update_fulfils_the_modulus_constraint(modes, size):
    waves, amplitude = _random(COUNT, modes, size, size), _random(COUNT, size, size, seed=1).abs()
    before = waves.clone()
    modulus, residual = modulus_and_residual(waves, amplitude, torch.arange(COUNT))
    revised = before + exit_wave_update_(waves, modulus, residual)
    torch.testing.assert_close(total_intensity(revised).sqrt(), amplitude, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(revised / revised.abs(), before / before.abs(), atol=1e-3, rtol=0)


@SIZES
def test_the_object_update_is_that_of_rpie(modes, size):
    probes, exit_wave_updates = _random(COUNT, modes, size, size), _random(COUNT, modes, size, size, seed=1)
    step_sizes, alpha = torch.linspace(0.1, 1, COUNT), 0.2
    numerator, probe_intensity = object_update_terms(probes, exit_wave_updates)
    torch.testing.assert_close(numerator, (probes.conj() * exit_wave_updates).sum(1))
    torch.testing.assert_close(probe_intensity, (probes.abs() ** 2).sum(1))
    greatest = probe_intensity.flatten(1).max(1).values[:, None, None]
    expected = step_sizes[:, None, None] * numerator / ((1 - alpha) * probe_intensity + alpha * greatest)
    torch.testing.assert_close(rpie_object_updates_(numerator, probe_intensity, step_sizes, alpha), expected)


@SIZES
def test_the_probe_update_is_that_of_rpie(modes, size):
    windows, exit_wave_updates = _random(COUNT, 1, size, size), _random(COUNT, modes, size, size, seed=1)
    numerator = (windows.conj() * exit_wave_updates).sum(0)
    object_intensity, step_size, alpha = (windows.abs() ** 2).sum((0, 1)), 0.7, 0.2
    expected = step_size * numerator / ((1 - alpha) * object_intensity + alpha * object_intensity.max())
    torch.testing.assert_close(rpie_probe_update(numerator, object_intensity, step_size, alpha), expected)


@SIZES
def test_phase_gradient_equations_are_normal_equations_of_central_differences(modes, size):
    waves, residual = _random(COUNT, modes, size, size), _random(COUNT, size, size, seed=1).real.contiguous()
    modulus = total_intensity(waves).sqrt()
    reach = size / (4 * torch.pi)
    jacobian = torch.stack(
        [(waves.conj() * (waves.roll(-1, axis) - waves.roll(1, axis))).real.sum(1) for axis in (-2, -1)], 1
    )
    jacobian = (reach * jacobian / modulus[:, None]).flatten(2)
    expected = torch.cat([jacobian @ jacobian.mT, jacobian @ residual.flatten(1)[..., None]], -1)
    torch.testing.assert_close(
        phase_gradient_normal_equations(waves, modulus, residual), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("size", [9, 16])
def test_position_equations_are_normal_equations_of_central_differences(size):
    windows, numerator = _random(COUNT, size, size), _random(COUNT, size, size, seed=1)
    probe_intensity = _random(COUNT, size, size, seed=2).abs()
    derivatives = torch.stack([(windows.roll(-1, axis) - windows.roll(1, axis)) / 2 for axis in (-2, -1)], 1).flatten(2)
    matrix = ((derivatives * probe_intensity.flatten(1)[:, None]) @ derivatives.mH).real
    expected = torch.cat([matrix, (derivatives.conj() @ numerator.flatten(1)[..., None]).real], -1)
    torch.testing.assert_close(
        position_normal_equations(probe_intensity, windows, numerator), expected, rtol=1e-4, atol=1e-4
    )
