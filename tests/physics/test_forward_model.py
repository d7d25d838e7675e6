"""The laws of the forward model: light is conserved, scales with dose, adds over modes, and lands where it should."""

import numpy as np
import pytest
import torch

from ptychoflow.physics.data_fidelity import LOSSES
from ptychoflow.physics.forward_model import expected_counts, intensity, shift_probe, total_intensity
from ptychoflow.physics.patches import cut_windows, split_positions
from ptychoflow.physics.propagation import far_field_corner, near_field

from . import oracle

SIZE, SHAPE = 16, (40, 56)  # an asymmetric scan


def _probe(modes: int = 1) -> torch.Tensor:
    """Smooth, asymmetric, well inside the window, so that it is nearly band-limited; 1e4 photons."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    base = np.exp(-((y - 0.7) ** 2) / 5 - x**2 / 4.5 + 0.02j * (y**2 + 5 * x + x * y))
    stack = np.stack([base * factor for factor in (1, 0.5 * y, 0.4j * x)[:modes]])
    return torch.from_numpy(100 * stack / np.linalg.norm(stack))


def _object(seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(0.6, 1, SHAPE) * np.exp(1j * rng.uniform(-4, 4, SHAPE)))


def _positions(count: int = 7) -> torch.Tensor:
    rng = np.random.default_rng(5)
    return torch.from_numpy(rng.uniform(SIZE // 2, np.array(SHAPE) - SIZE // 2 - 1, (count, 2)))


def _diffract(image: torch.Tensor, probe: torch.Tensor, positions: torch.Tensor, **more) -> torch.Tensor:
    whole, subpixel_shift = split_positions(positions)
    return expected_counts(cut_windows(image, whole - SIZE // 2, SIZE), shift_probe(probe, subpixel_shift), **more)


@pytest.mark.parametrize("modes", [1, 3])
def test_an_empty_object_keeps_every_photon(modes):
    counts = _diffract(torch.ones(SHAPE, dtype=torch.complex128), _probe(modes), _positions())
    assert counts.sum((-2, -1)).numpy() == pytest.approx(1e4, rel=1e-12)


def test_so_does_a_phase_object_in_the_near_field():
    phase = _object() / _object().abs()
    counts = _diffract(phase, _probe(2), _positions(), propagate=near_field(SIZE, 1e-7, 1e-10, 1e-3))
    assert counts.sum((-2, -1)).numpy() == pytest.approx(1e4, rel=1e-12)


@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex128, 1e-12), (torch.complex64, 1e-5)])
def test_it_agrees_with_slow_sums(modes, dtype, tolerance):
    image, probe, positions = _object(), _probe(modes), _positions()
    slow = oracle.expected_counts(image.numpy(), probe.numpy(), positions.numpy())
    fast = _diffract(image.to(dtype), probe.to(dtype), positions).numpy()
    assert abs(fast - slow).max() < tolerance * slow.max()


def test_dose_scales_counts_and_the_probe_by_its_root_and_never_the_object():
    image, probe, positions = _object(), _probe(2), _positions()
    brighter = _diffract(image, probe * np.sqrt(7), positions)
    torch.testing.assert_close(brighter, 7 * _diffract(image, probe, positions))


def test_modes_add_as_intensities_in_any_order():
    image, probe, positions = _object(), _probe(3), _positions()
    together = _diffract(image, probe, positions)
    torch.testing.assert_close(together, _diffract(image, probe.flip(0), positions))
    torch.testing.assert_close(together, sum(_diffract(image, mode[None], positions) for mode in probe))


def test_a_mode_may_turn_its_phase_freely():
    image, probe, positions = _object(), _probe(2), _positions()
    turned = probe * torch.tensor([1j, np.exp(0.3j)])[:, None, None]
    torch.testing.assert_close(_diffract(image, turned, positions), _diffract(image, probe, positions))


def test_a_pattern_does_not_depend_on_its_batch():
    image, probe, positions = _object(), _probe(2), _positions()
    alone = torch.cat([_diffract(image, probe, position[None]) for position in positions])
    torch.testing.assert_close(alone, _diffract(image, probe, positions), rtol=1e-12, atol=1e-12)


def test_background_adds_to_every_pattern():
    background = torch.rand(SIZE, SIZE, dtype=torch.float64)
    with_it, without = (_diffract(_object(), _probe(), _positions(), background=value) for value in (background, 0.0))
    torch.testing.assert_close(with_it, without + background)


def test_a_single_bright_pixel_weighs_the_probe_where_it_lies():
    """A pixel at r gives |P(r - position)|^2 photons: a wrong sign, axis or half pixel would show."""
    image = torch.zeros(SHAPE, dtype=torch.complex128)
    image[17, 31] = 1
    positions = torch.tensor(
        [[15.0, 30.0], [19.0, 29.0], [17.25, 33.5], [16.6, 30.1], [14.0, 36.0]], dtype=torch.float64
    )
    seen = _diffract(image, _probe(), positions).sum((-2, -1))
    y, x = (torch.tensor([17.0, 31.0]) - positions).T
    y0, x0 = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    total = np.sum(np.exp(-2 * (y0 - 0.7) ** 2 / 5 - 2 * x0**2 / 4.5))
    expected = 1e4 * torch.exp(-2 * (y - 0.7) ** 2 / 5 - 2 * x**2 / 4.5) / total
    torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-2)


def test_the_probe_moves_by_plus_the_shift():
    moved = shift_probe(_probe(), torch.tensor([[2.0, -3.0]], dtype=torch.float64))[0]
    torch.testing.assert_close(moved, _probe().roll((2, -3), (-2, -1)))


def test_shifting_back_is_the_inverse_and_the_adjoint():
    probe, shift = _probe(2), torch.tensor([0.31, -0.45], dtype=torch.float64)
    torch.testing.assert_close(shift_probe(shift_probe(probe, shift), -shift), probe, rtol=0, atol=1e-12)
    other = torch.randn(2, SIZE, SIZE, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    left, right = (shift_probe(probe, shift).conj() * other).sum(), (probe.conj() * shift_probe(other, -shift)).sum()
    assert abs(left - right) < 1e-12 * probe.norm() * other.norm()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("members", [1, 4])
def test_the_truth_has_the_least_error_against_counts_from_slow_sums(name, members):
    """A group of patterns on one canvas around its anchor, as a network's patch is diffracted: sizes 1 and 2x2."""
    image, probe = _object(), _probe(2)
    anchor = torch.tensor([20.0, 28.0], dtype=torch.float64)
    relative = torch.tensor([[0, 0], [0.3, 1.7], [-1.4, 0.2], [1.1, -1.2]], dtype=torch.float64)[:members]
    slow = oracle.expected_counts(image.numpy(), probe.numpy(), (anchor + relative).numpy())
    counts = torch.from_numpy(slow)
    canvas = cut_windows(image, anchor.long()[None] - SIZE // 2, SIZE)
    probes = shift_probe(probe, relative)

    def error(guess: torch.Tensor) -> float:
        return LOSSES[name](counts, expected_counts(guess, probes)).item()

    noise = torch.randn(canvas.shape, dtype=canvas.dtype, generator=torch.Generator().manual_seed(2))
    worse = [error(canvas + size * noise) for size in (0.001, 0.01, 0.1)]
    assert error(canvas) < worse[0] < worse[1] < worse[2]
    if name != "legacy_amplitude":
        assert error(canvas) < 0.01 * worse[2]  # what of the probe wraps around


def test_gradients_reach_object_probe_and_background():
    image, probe = _object().requires_grad_(), _probe(2).requires_grad_()
    background = torch.full((SIZE, SIZE), 0.1, dtype=torch.float64, requires_grad=True)
    counts = torch.ones(7, SIZE, SIZE, dtype=torch.float64)
    LOSSES["poisson"](counts, _diffract(image, probe, _positions(), background=background)).backward()
    for leaf in (image, probe, background):
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex128, 1e-12), (torch.complex64, 1e-5)])
def test_a_gpu_expects_the_same_counts_also_under_autocast(gpu, dtype, tolerance):
    image, probe, positions = _object().to(dtype), _probe(2).to(dtype), _positions()
    here = _diffract(image, probe, positions)
    with torch.autocast("cuda", torch.float16):
        there = _diffract(image.cuda(), probe.cuda(), positions.cuda()).cpu()
    assert there.dtype == here.dtype
    assert abs(there - here).max() < tolerance * here.max()


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_autocast_and_a_half_precision_network_lose_no_counts():
    image, probe, positions = _object().to(torch.complex64), _probe().to(torch.complex64), _positions()
    plain = _diffract(image, probe, positions, propagate=far_field_corner)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = _diffract(image, probe, positions, propagate=far_field_corner)
    assert torch.equal(plain, under_autocast)
    half = image.to(torch.complex32)
    assert expected_counts(half[:SIZE, :SIZE], probe).dtype == torch.float32


@pytest.mark.parametrize("modes", [1, 3])
def test_intensities_add_over_modes(modes):
    waves = far_field_corner(_probe(modes))[None].expand(4, -1, -1, -1)
    torch.testing.assert_close(total_intensity(waves), intensity(waves).sum(1))
