"""Back-projection: the ground truth is a fixed point, counts are fitted, masked pixels do not matter."""

import pytest
import torch

from ptychoflow.physics.back_projection import backproject
from ptychoflow.physics.data_fidelity import amplitude_error
from ptychoflow.physics.forward_model import intensity, shift_probe
from ptychoflow.training.losses import diffract


def _group(size: int = 32, patterns: int = 4, modes: int = 1):
    rng = torch.Generator().manual_seed(1)
    axis = torch.arange(size) - size // 2
    r2 = (axis[:, None] ** 2 + axis**2).float()
    probe = 30 * torch.exp(-r2 / 40 + 0.05j * r2)[None]
    if modes == 2:
        probe = torch.cat([probe, 0.3 * axis[:, None] * probe / 4])
    relative = torch.tensor([[[-2.3, 1.0], [2.5, 1.7], [0.4, -3.0], [1.1, 2.2]]])[:, :patterns]
    probes = shift_probe(probe[None, None], relative)
    image = torch.exp(1j * torch.rand(1, size, size, generator=rng))
    return probes, image, intensity(probes).sum((1, 2))


@pytest.mark.parametrize("modes", [1, 2])
def test_the_truth_is_a_fixed_point(modes):
    probes, image, _ = _group(modes=modes)
    estimate = backproject(diffract(image, probes).sqrt(), probes, iterations=3, start=image)
    torch.testing.assert_close(estimate.canvas, image, rtol=0, atol=2e-3)


def test_a_uniform_object_is_found_in_one_iteration():
    probes, image, _ = _group()
    estimate = backproject(diffract(torch.ones_like(image), probes).sqrt(), probes)
    torch.testing.assert_close(estimate.canvas, torch.ones_like(image), rtol=0, atol=1e-3)
    assert estimate.updates.abs().max() < 1e-3


@pytest.mark.parametrize("modes", [1, 2])
def test_iterations_explain_the_counts_better_and_better(modes):
    probes, image, _ = _group(modes=modes)
    counts = diffract(image, probes)
    found = [backproject(counts.sqrt(), probes, iterations=n).canvas for n in (0, 1, 8, 64)]
    errors = [float(amplitude_error(counts, diffract(canvas, probes))) for canvas in found]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 20


def test_masked_pixels_keep_the_expected_amplitude():
    probes, image, _ = _group()
    counts = diffract(image, probes)
    mask = torch.ones(1, 1, 32, 32)
    mask[..., 0, 3] = 0
    broken = torch.where(mask.bool(), counts, 1e6)
    kept, spoilt = (backproject(c.sqrt(), probes, mask, iterations=3).canvas for c in (counts, broken))
    torch.testing.assert_close(kept, spoilt)


def test_groups_are_independent():
    probes, image, _ = _group()
    amplitude = diffract(image, probes).sqrt()
    pair = torch.cat([amplitude, 2 * amplitude]), torch.cat([probes, probes.flip(1)])
    together = backproject(*pair, iterations=2)
    torch.testing.assert_close(together.canvas[:1], backproject(amplitude, probes, iterations=2).canvas)


def test_channels_are_canvas_illumination_and_each_pattern():
    probes, image, illumination = _group(patterns=3)
    estimate = backproject(diffract(image, probes).sqrt(), probes)
    channels = estimate.channels()
    assert channels.shape == (1, 3 + 3 * 3, 32, 32)
    torch.testing.assert_close(channels[:, 0], estimate.canvas.real - 1)
    torch.testing.assert_close(channels[:, 1], estimate.canvas.imag)
    torch.testing.assert_close(channels[:, 2], illumination / illumination.max())
    torch.testing.assert_close(channels[:, 3:9:2], estimate.updates.real)
    torch.testing.assert_close(channels[:, 4:10:2], estimate.updates.imag)
    torch.testing.assert_close(channels[:, 9:], estimate.illumination)


def test_zero_counts_and_zero_modes_stay_finite():
    probes, *_ = _group()
    probes = torch.cat([probes, torch.zeros_like(probes)], dim=2)
    estimate = backproject(torch.zeros(1, 4, 32, 32), probes, iterations=3)
    assert torch.isfinite(estimate.channels()).all()
