"""Heads: their ranges, and zeros that change nothing."""

import math

import pytest
import torch

from ptychoflow.networks.heads import HEADS

RNG = torch.Generator().manual_seed(0)
BEFORE = torch.randn(2, 4, 4, dtype=torch.complex64, generator=RNG)


@pytest.mark.parametrize("head", [HEADS["complex"], HEADS["amplitude_phase"]])
def test_zeros_leave_what_was_there(head):
    torch.testing.assert_close(head(BEFORE, torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)), BEFORE)


def test_amplitude_and_phase_stay_within_their_bounds_and_reach_them():
    uniform = torch.ones(2, 50, dtype=torch.complex64)
    first, second = 30 * torch.randn(2, 50, generator=RNG), 30 * torch.randn(2, 50, generator=RNG)
    out = HEADS["amplitude_phase"](uniform, first, second)
    assert 0 <= out.abs().min() < 0.01 and 1.99 < out.abs().max() <= 2 + 1e-6
    assert 0.99 * math.pi < out.angle().abs().max() <= math.pi + 1e-6


def test_a_polar_factor_is_an_amplitude_and_a_phase():
    ones, phase = torch.ones(2, 4, 4), torch.randn(2, 4, 4, generator=RNG)
    torch.testing.assert_close(HEADS["polar"](BEFORE, 0.5 * ones, phase), 0.5 * BEFORE * torch.exp(1j * phase))
    torch.testing.assert_close(HEADS["polar"](BEFORE, ones, 0 * ones), BEFORE)


def test_a_complex_change_knows_no_bounds():
    first, second = 1e3 * torch.randn(2, 4, 4, generator=RNG), 1e3 * torch.randn(2, 4, 4, generator=RNG)
    out = HEADS["complex"](BEFORE, first, second)
    torch.testing.assert_close(out - BEFORE, torch.complex(first, second), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_gradients_are_finite_even_from_nothing(head):
    first, second = torch.zeros(2, 4, 4, requires_grad=True), torch.zeros(2, 4, 4, requires_grad=True)
    head(torch.zeros_like(BEFORE), first, second).abs().square().sum().backward()
    assert torch.isfinite(first.grad).all() and torch.isfinite(second.grad).all()
