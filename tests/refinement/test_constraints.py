"""Constraints: each is a proximal step or projection, acts by its strength, and removes what it is for."""

import numpy as np
import pytest
import torch

from ptychoflow.config import Constraints, Refinement
from ptychoflow.io.dataset import open_dataset
from ptychoflow.refinement.constraints import (
    ConstraintContext,
    _divergence,
    _gradient,
    centring_shift,
    constrain_object,
    constrain_probe,
    denoise_total_variation,
    low_pass,
    raster_artefact,
)
from ptychoflow.refinement.engine import RefinedVariables, RefinementEngine

GENERATOR = torch.Generator().manual_seed(0)


def _image(height: int = 40, width: int = 48) -> torch.Tensor:
    return 1 + 0.3 * torch.randn(height, width, dtype=torch.complex64, generator=GENERATOR)


def _constrained(image: torch.Tensor, **settings) -> torch.Tensor:
    context = ConstraintContext(torch.zeros(1, 2), torch.ones(image.shape))
    return constrain_object(image, Constraints(**settings), context)


def test_an_amplitude_above_one_is_lowered_by_the_strength():
    image = _image()
    whole, half = (_constrained(image, amplitude_at_most_one=strength) for strength in (1.0, 0.5))
    torch.testing.assert_close(whole.abs(), image.abs().clamp_max(1))
    torch.testing.assert_close(half.abs(), (image.abs() + image.abs().clamp_max(1)) / 2)
    torch.testing.assert_close(whole.angle(), image.angle())


def test_a_phase_only_object_has_an_amplitude_of_one():
    image = _image()
    torch.testing.assert_close(_constrained(image, phase_only=1.0), image.sgn())
    torch.testing.assert_close(_constrained(image, phase_only=0.25), 0.75 * image + 0.25 * image.sgn())


def test_gradient_and_divergence_are_adjoint():
    image, field = _image(), torch.stack([_image(), _image()])
    left, right = (
        torch.vdot(_gradient(image).flatten(), field.flatten()),
        torch.vdot(image.flatten(), _divergence(field).flatten()),
    )
    torch.testing.assert_close(left, -right, rtol=1e-4, atol=1e-3)


def test_total_variation_is_the_proximal_step():
    """Its objective is lower than at the input, and nearly stationary for small changes."""
    clean = torch.ones(40, 48, dtype=torch.complex64)
    clean[10:30, 12:36] = torch.exp(torch.tensor(0.8j))
    image = clean + 0.05 * torch.randn(40, 48, dtype=torch.complex64, generator=GENERATOR)

    def objective(x):
        return float((x - image).abs().square().sum() / 2 + 0.1 * _gradient(x).abs().square().sum(0).sqrt().sum())

    found = denoise_total_variation(image, 0.1)
    assert objective(found) < 0.5 * objective(image)
    others = [found + 0.02 * torch.randn(40, 48, dtype=torch.complex64, generator=GENERATOR) for _ in range(5)]
    assert all(objective(other) > objective(found) for other in others)
    assert (found - clean).abs().mean() < 0.5 * (image - clean).abs().mean()


def test_a_low_pass_halves_its_cutoff():
    x = torch.arange(64)
    wave = torch.exp(2j * torch.pi * 0.25 * x).expand(64, 64)
    torch.testing.assert_close(low_pass(wave, 0.25), wave / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(low_pass(torch.ones(8, 8) + 0j, 0.25), torch.ones(8, 8) + 0j)


def test_raster_peaks_are_removed_and_the_object_is_kept():
    rng = np.random.default_rng(1)
    grid = torch.from_numpy(np.stack(np.meshgrid(*[20 + 8 * np.arange(14)] * 2, indexing="ij"), -1).reshape(-1, 2))
    blobs = torch.from_numpy(rng.normal(size=(146, 146))).to(torch.complex64)
    image = 1 + 0.3j * low_pass(blobs, 0.05)
    y, x = torch.meshgrid(torch.arange(146.0), torch.arange(146.0), indexing="ij")
    artefact = 0.05 * (torch.cos(2 * torch.pi * y / 8) + torch.cos(2 * torch.pi * (x + y) / 8))
    weight = torch.zeros(146, 146)
    weight[10:136, 10:136] = 1
    inner = (slice(20, 126), slice(20, 126))
    cleaned = image + artefact - raster_artefact(image + artefact, grid, weight)
    assert (cleaned - image)[inner].abs().square().mean() < 0.1 * artefact[inner].square().mean()
    assert raster_artefact(image, grid, weight).abs().square().mean() < 0.01 * artefact.square().mean()
    irregular = grid + torch.from_numpy(rng.uniform(-4, 4, grid.shape))
    assert raster_artefact(image + artefact, irregular, weight).abs().max() == 0


def test_support_and_aperture_remove_what_is_outside():
    probe = torch.randn(2, 32, 32, dtype=torch.complex64, generator=GENERATOR)
    held = constrain_probe(probe, Constraints(probe_support=1.0, probe_support_diameter_px=12))
    assert held[:, 0, 0].abs().max() == 0 and torch.equal(held[:, 16, 16], probe[:, 16, 16])
    half = constrain_probe(probe, Constraints(probe_support=0.5, probe_support_diameter_px=12))
    torch.testing.assert_close(half[:, 0, 0], probe[:, 0, 0] / 2)
    spectrum = torch.fft.fft2(constrain_probe(probe, Constraints(probe_aperture=1.0, probe_aperture_diameter_px=12)))
    assert spectrum[:, 16, 16].abs().max() < 1e-4 and spectrum[:, 0, 0].abs().min() > 1e-2


def test_centring_and_power_change_no_pattern(tiny_dataset):
    """They choose between descriptions of the same measurement."""
    scan = open_dataset(tiny_dataset)
    engine = RefinementEngine(scan, Refinement(constraints={"probe_centring": 1.0, "probe_power": 1.0}))
    engine.epoch()
    engine.object, engine.probe = engine.object.roll((2, -1), (0, 1)), 1.2 * engine.probe.roll((2, -1), (1, 2))
    engine.object /= 1.2
    engine._shifted_probes = None
    before = engine._forward(torch.arange(8))[3]
    assert centring_shift(engine.probe, 1.0) == (-2, 1)
    engine._constrain()
    assert centring_shift(engine.probe, 1.0) == (0, 0)
    assert float(engine.probe.abs().square().sum()) == pytest.approx(scan.photons, rel=1e-5)
    torch.testing.assert_close(
        engine._forward(torch.arange(8))[3], before, rtol=1e-3, atol=2e-2
    )  # the edge of the window wraps


def test_constraints_act_from_their_epoch():
    settings = Refinement(constraints={"phase_only": 0.5, "start_epoch": 3})
    assert [RefinedVariables.in_epoch(epoch, settings).constraints for epoch in (2, 3)] == [False, True]
    assert not RefinedVariables.in_epoch(3, Refinement()).constraints


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low_pass_cycles_per_px": 0.1}, "acts with low_pass above 0 only: set low_pass, or remove"),
        ({"start_epoch": 2}, "start_epoch acts where a constraint has a strength"),
        ({"phase_only": 1, "start_epoch": 20}, "start_epoch is 20, but there are 12 epochs: lower it"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Refinement(constraints=settings)
