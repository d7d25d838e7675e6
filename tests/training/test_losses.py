"""Losses: blind to what they must be blind to, zero where they must be zero, finite where data ends."""

import pytest
import torch

from ptychoflow.physics.forward_model import expected_counts
from ptychoflow.training.losses import (
    diffract,
    ground_truth_error,
    patch_error,
    physics_loss,
    scale_free_error,
    supervised_loss,
)

RNG = torch.Generator().manual_seed(0)


def _complex(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=RNG)


ILLUMINATION = torch.rand(3, 8, 8, generator=RNG)


def test_the_truth_up_to_a_phase_is_perfect():
    truth = _complex(3, 8, 8)
    turned = truth * torch.polar(torch.ones(3), torch.tensor([0.3, -2.0, 3.0]))[:, None, None]
    assert ground_truth_error(turned, truth, ILLUMINATION).abs().max() < 1e-6


def test_the_truth_error_is_the_least_over_all_phases():
    canvas, truth = _complex(3, 8, 8), _complex(3, 8, 8)
    phases = torch.polar(torch.ones(2000), torch.linspace(0, 2 * torch.pi, 2000))[:, None, None, None]
    power = (ILLUMINATION * truth.abs() ** 2).sum((-2, -1))
    tried = (ILLUMINATION * (canvas * phases - truth).abs() ** 2).sum((-2, -1)) / power
    torch.testing.assert_close(
        ground_truth_error(canvas, truth, ILLUMINATION), tried.min(0).values, rtol=1e-4, atol=1e-5
    )


def test_the_truth_error_knows_the_scale_and_the_patch_error_does_not():
    truth = _complex(3, 8, 8)
    assert (ground_truth_error(2 * truth, truth, ILLUMINATION) - 1).abs().max() < 1e-5
    assert patch_error(2j * truth, truth, ILLUMINATION).abs().max() < 1e-6


def test_the_patch_error_of_an_unrelated_object_is_nearly_one():
    assert patch_error(_complex(3, 64, 64), _complex(3, 64, 64), torch.ones(3, 64, 64)).min() > 0.99


def test_the_scale_free_error_is_the_least_over_all_scales():
    counts, expected = 10 * torch.rand(2, 3, 8, 8, generator=RNG), 10 * torch.rand(2, 3, 8, 8, generator=RNG)
    scales = torch.linspace(0, 2, 4001)[:, None, None, None, None]
    residual = (scales * expected.sqrt() - counts.sqrt()).square().sum((-3, -2, -1)) / counts.sum((-3, -2, -1))
    found = scale_free_error(counts, expected, None)
    torch.testing.assert_close(found, residual.min(0).values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scale_free_error(counts, 7 * expected, None), found)


def test_masked_pixels_have_no_say():
    counts, expected = 10 * torch.rand(2, 3, 8, 8, generator=RNG), 10 * torch.rand(2, 3, 8, 8, generator=RNG)
    mask = (torch.rand(2, 1, 8, 8, generator=RNG) > 0.3).float()
    other = torch.where(mask.bool(), counts, 1e4)
    for loss in (scale_free_error, lambda *a: physics_loss("poisson", *a), lambda *a: physics_loss("mae", *a)):
        torch.testing.assert_close(loss(counts, expected, mask), loss(other, expected, mask))


@pytest.mark.parametrize("name", ["poisson", "amplitude", "mae"])
def test_the_physics_loss_is_zero_on_what_the_canvas_diffracts_to(name):
    canvas, probes = _complex(2, 8, 8), _complex(2, 3, 2, 8, 8)
    counts = diffract(canvas, probes)
    assert physics_loss(name, counts, counts.clone(), None).abs() < 1e-6


def test_a_canvas_diffracts_as_the_forward_model_says():
    canvas, probes = _complex(2, 8, 8), _complex(2, 3, 2, 8, 8)
    centred = expected_counts(canvas[:, None].expand(2, 3, 8, 8), probes)
    torch.testing.assert_close(diffract(canvas, probes), torch.fft.ifftshift(centred, dim=(-2, -1)))


def test_the_supervised_loss_takes_the_ground_truth_where_there_is_one():
    to_truth, to_counts = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    assert supervised_loss(to_truth, to_counts, torch.tensor([True, False])) == 10.5
    assert supervised_loss(to_truth, None, torch.tensor([True, True])) == 1.5
    assert supervised_loss(None, to_counts, torch.tensor([False, False])) == 15
    with pytest.raises(ValueError, match="needs truth_errors or amplitude_errors, got neither"):
        supervised_loss(None, None, torch.tensor([True, False]))


def test_gradients_are_finite_even_at_a_canvas_of_zeros():
    canvas = torch.zeros(2, 8, 8, dtype=torch.complex64, requires_grad=True)
    truth, probes = _complex(2, 8, 8), _complex(2, 3, 1, 8, 8)
    counts, expected = torch.rand(2, 3, 8, 8, generator=RNG).round(), diffract(canvas, probes)
    loss = ground_truth_error(canvas, truth, ILLUMINATION[:2]).sum() + scale_free_error(counts, expected, None).sum()
    (loss + physics_loss("poisson", counts, expected, None)).backward()
    assert torch.isfinite(torch.view_as_real(canvas.grad)).all()
