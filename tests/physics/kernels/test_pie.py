"""What a fit asks of its patterns: the formulas, written out, whoever computes them."""

import pytest
import torch

from ptychoflow.physics.forward_model import total_intensity
from ptychoflow.physics.kernels.pie import (
    add_windows_,
    exit_wave_update_,
    modulus_and_residual,
    object_update_terms,
    position_normal_equations,
    rpie_object_updates_,
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


def test_what_has_gaps_is_taken_for_what_it_says():
    waves, amplitude = _random(3, 1, 9, 9), _random(9, 9, 9, seed=1).abs()
    image, every_other = _random(*SHAPE), torch.arange(6)[::2]
    windows = take_windows(image, _first(9)[::2], 9)
    assert torch.equal(windows[1], image[14:, :9])
    torch.testing.assert_close(
        *(modulus_and_residual(waves, amplitude, r)[1] for r in (every_other, every_other.clone()))
    )


@SIZES
def test_a_miss_is_what_the_pattern_has_more_than_the_modes_together(modes, size):
    waves = _random(COUNT, modes, size, size)
    waves[0, :, 0, 0] = 0
    amplitude, rows = _random(9, size, size, seed=1).abs(), torch.tensor([3, 0, 8, 1, 5])
    modulus, miss = modulus_and_residual(waves, amplitude, rows)
    torch.testing.assert_close(modulus, (waves.abs() ** 2).sum(1).sqrt().clamp_min(1e-6))
    torch.testing.assert_close(miss, amplitude[rows] - modulus)


@SIZES
def test_the_change_takes_waves_to_the_measured_amplitude(modes, size):
    waves, amplitude = _random(COUNT, modes, size, size), _random(COUNT, size, size, seed=1).abs()
    before = waves.clone()
    modulus, miss = modulus_and_residual(waves, amplitude, torch.arange(COUNT))
    changed = before + exit_wave_update_(waves, modulus, miss)
    torch.testing.assert_close(total_intensity(changed).sqrt(), amplitude, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(changed / changed.abs(), before / before.abs(), atol=1e-3, rtol=0)


@SIZES
def test_a_step_is_the_pull_over_the_damped_light(modes, size):
    probes, changes = _random(COUNT, modes, size, size), _random(COUNT, modes, size, size, seed=1)
    rates = torch.linspace(0.1, 1, COUNT)
    pull, light = object_update_terms(probes, changes)
    torch.testing.assert_close(pull, (probes.conj() * changes).sum(1))
    torch.testing.assert_close(light, (probes.abs() ** 2).sum(1))
    floor = 0.8 * light + 0.2 * light.flatten(1).max(1).values[:, None, None]
    expected = rates[:, None, None] * pull / floor
    torch.testing.assert_close(rpie_object_updates_(pull, light, rates, 0.2), expected)


@SIZES
def test_tilt_equations_are_the_normal_equations_of_the_central_differences(modes, size):
    wave, miss = _random(COUNT, modes, size, size), _random(COUNT, size, size, seed=1).real.contiguous()
    modulus = total_intensity(wave).sqrt()
    reach = size / (4 * torch.pi)
    answers = torch.stack(
        [(wave.conj() * (wave.roll(-1, axis) - wave.roll(1, axis))).real.sum(1) for axis in (-2, -1)], 1
    )
    answers = (reach * answers / modulus[:, None]).flatten(2)
    expected = torch.cat([answers @ answers.mT, answers @ miss.flatten(1)[..., None]], -1)
    torch.testing.assert_close(phase_gradient_normal_equations(wave, modulus, miss), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [9, 16])
def test_motion_equations_are_the_normal_equations_of_the_central_differences(size):
    windows, pull = _random(COUNT, size, size), _random(COUNT, size, size, seed=1)
    light = _random(COUNT, size, size, seed=2).abs()
    slopes = torch.stack([(windows.roll(-1, axis) - windows.roll(1, axis)) / 2 for axis in (-2, -1)], 1).flatten(2)
    matrix = ((slopes * light.flatten(1)[:, None]) @ slopes.mH).real
    expected = torch.cat([matrix, (slopes.conj() @ pull.flatten(1)[..., None]).real], -1)
    torch.testing.assert_close(position_normal_equations(light, windows, pull), expected, rtol=1e-4, atol=1e-4)
