"""Regularisers: zero on an even object, closed forms elsewhere, blind to what they must be blind to."""

import math

import pytest
import torch

from ptychoflow.config import Regularisation
from ptychoflow.training.regularisation import regularisation

RNG = torch.Generator().manual_seed(0)
ILLUMINATION = torch.rand(2, 12, 12, generator=RNG)
EVERY = [{part: kind} for part in ("amplitude", "phase") for kind in ("total_variation", "mean_deviation")]


def _value(canvas: torch.Tensor, illumination: torch.Tensor = ILLUMINATION, **settings) -> float:
    return float(regularisation(canvas, illumination, Regularisation(**settings)))


def _random() -> torch.Tensor:
    shape = (2, 12, 12)
    return torch.polar(0.5 + torch.rand(shape, generator=RNG), torch.rand(shape, generator=RNG))


@pytest.mark.parametrize("settings", EVERY)
def test_an_even_object_costs_nothing_and_a_rough_one_does(settings):
    even = torch.full((2, 12, 12), 0.6 + 0.7j)
    assert _value(even, **settings) == pytest.approx(0, abs=1e-5) and _value(_random(), **settings) > 0.1


def test_a_ramp_costs_its_slope_and_the_width_of_an_even_distribution():
    ramp = 0.01 * torch.arange(101.0).expand(1, 101, 101)
    illumination = torch.ones(1, 101, 101)
    for canvas, part in ((1 + ramp + 0j, "amplitude"), (torch.polar(torch.ones_like(ramp), 3 + ramp), "phase")):
        assert _value(canvas, illumination, **{part: "total_variation"}) == pytest.approx(0.01, rel=1e-3)
        assert _value(canvas, illumination, **{part: "mean_deviation"}) == pytest.approx(0.25, rel=0.02)


def test_phase_and_amplitude_do_not_see_each_other():
    rough = _random()
    pure_phase, pure_amplitude = torch.polar(torch.ones(2, 12, 12), rough.angle()), rough.abs() + 0j
    for kind in ("total_variation", "mean_deviation"):
        assert _value(pure_phase, amplitude=kind) == pytest.approx(0, abs=1e-5)
        assert _value(pure_amplitude, phase=kind) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("settings", EVERY)
def test_a_global_phase_is_free_even_across_the_branch_cut(settings):
    rough = _random()
    assert _value(rough * math.e ** (3.0j), **settings) == pytest.approx(_value(rough, **settings), rel=1e-4)


@pytest.mark.parametrize("settings", EVERY)
def test_what_no_light_falls_on_has_no_say(settings):
    illumination = ILLUMINATION.clone()
    illumination[:, :, 6:] = 0
    rough = _random()
    other = torch.where(illumination > 0, rough, 7j)
    assert _value(rough, illumination, **settings) == pytest.approx(_value(other, illumination, **settings))


def test_both_parts_add_up_with_their_weights():
    rough = _random()
    both = _value(rough, amplitude="total_variation", amplitude_weight=2.0, phase="mean_deviation", phase_weight=0.5)
    apart = _value(rough, amplitude="total_variation"), _value(rough, phase="mean_deviation")
    assert both == pytest.approx(2 * apart[0] + 0.5 * apart[1])


@pytest.mark.parametrize("settings", EVERY)
def test_gradients_are_finite_on_a_dark_canvas(settings):
    canvas = torch.zeros(2, 12, 12, dtype=torch.complex64, requires_grad=True)
    regularisation(canvas, ILLUMINATION, Regularisation(**settings)).backward()
    assert torch.isfinite(torch.view_as_real(canvas.grad)).all()


def test_a_weight_without_what_it_weighs_is_refused():
    with pytest.raises(ValueError, match="phase_weight has no effect without phase"):
        Regularisation(phase_weight=0.1)
