"""Data errors are zero at a perfect fit, blind to masked pixels, differentiable at zero, and exact in float32."""

import numpy as np
import pytest
import torch
from scipy.special import xlogy

from ptychoflow.physics.data_fidelity import LOSSES, amplitude_error, poisson_nll

SINGLE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
FITTED = [name for name in LOSSES if name != "legacy_amplitude"]


def _pair(level: float = 20.0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    expected = rng.gamma(2, level / 2, (5, 16, 16))
    return torch.from_numpy(rng.poisson(expected)), torch.from_numpy(expected).to(dtype)


def _poisson_by_scipy(counts: np.ndarray, expected: np.ndarray) -> float:
    return float((expected - counts + xlogy(counts, counts / expected)).sum() / counts.sum())


@pytest.mark.parametrize("name", FITTED)
@SINGLE
def test_a_perfect_fit_has_no_error(name, dtype):
    counts = torch.tensor([[0.0, 1.0], [7.0, 1e6]], dtype=dtype)
    assert LOSSES[name](counts, counts.clone()).abs() < 1e-8


@SINGLE
@pytest.mark.parametrize("level", [0.1, 20, 1e6])
def test_poisson_is_the_likelihood_ratio_at_any_dose_in_either_precision(dtype, level):
    counts, expected = _pair(level, dtype)
    reference = _poisson_by_scipy(counts.numpy(), expected.double().numpy())
    assert poisson_nll(counts, expected).item() == pytest.approx(
        reference, rel=2e-3 if dtype == torch.float32 else 1e-4
    )


def test_poisson_is_half_a_chi_square_at_high_dose():
    counts, expected = _pair(1e4)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert (poisson_nll(counts, expected) * counts.sum()).item() == pytest.approx(chi_square.item() / 2, rel=0.02)


@pytest.mark.parametrize("name", LOSSES)
@SINGLE
def test_the_gradient_is_finite_at_zero_counts_and_zero_expectation(name, dtype):
    counts = torch.tensor([0.0, 0.0, 5.0, 5.0, 60_000.0], dtype=dtype)[:, None, None].expand(5, 4, 4)
    wave = (
        torch.tensor([0.0, 3.0, 0.0, 3.0, 1e-30], dtype=dtype)[:, None, None].expand(5, 4, 4).clone().requires_grad_()
    )
    (gradient,) = torch.autograd.grad(LOSSES[name](counts, wave.square()), wave)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", FITTED)
def test_more_expected_than_counted_pulls_down_and_less_pulls_up(name):
    counts, expected = torch.full((2,), 9.0), torch.tensor([20.0, 2.0], requires_grad=True)
    LOSSES[name](counts, expected).backward()
    assert expected.grad[0] > 0 > expected.grad[1]


@pytest.mark.parametrize("name", LOSSES)
def test_masked_pixels_do_not_matter(name):
    counts, expected = _pair()
    mask = torch.ones(16, 16, dtype=torch.bool)
    mask[4:9, 2:5] = False
    spoiled = torch.where(mask, expected, 1e6)
    assert LOSSES[name](counts, spoiled, mask) == pytest.approx(LOSSES[name](counts, expected, mask).item())
    assert LOSSES[name](counts, spoiled) != pytest.approx(LOSSES[name](counts, expected).item())


@pytest.mark.parametrize("name", FITTED)
def test_the_size_of_a_batch_does_not_change_the_error_of_equal_patterns(name):
    counts, expected = (tensor[:1] for tensor in _pair())
    once, thrice = LOSSES[name](counts, expected), LOSSES[name](counts.repeat(3, 1, 1), expected.repeat(3, 1, 1))
    torch.testing.assert_close(once, thrice)


@pytest.mark.parametrize("name", LOSSES)
def test_the_truth_is_the_minimum(name):
    expected = _pair()[1].requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](expected.detach(), expected), expected)
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int64, torch.float64])
def test_counts_of_any_dtype_give_the_same_error(name, dtype):
    counts, expected = _pair()
    error = LOSSES[name](counts.to(dtype), expected.float())
    torch.testing.assert_close(error.double(), LOSSES[name](counts, expected), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_and_half_precision_waves_lose_no_counts(name):
    counts, expected = _pair(1e5, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LOSSES[name](counts, expected), LOSSES[name](counts.clone(), expected.clone()))
        assert LOSSES[name](counts, expected.bfloat16()).dtype == torch.float32
    assert LOSSES[name](counts, expected).dtype == torch.float32


def test_the_amplitude_error_is_the_r_factor():
    counts, expected = _pair()
    by_hand = ((expected.sqrt() - counts.sqrt()) ** 2).sum() / counts.sum()
    torch.testing.assert_close(amplitude_error(counts, expected), by_hand)
