"""A drifting beam: shifts, focus and intensity are as drawn, and a constant beam is left as it was."""

import dataclasses

import numpy as np
import pytest
import torch

from ptychoflow.config import BeamStability, ProbeRecipe
from ptychoflow.physics.forward_model import probe_spectrum, shift_probe, shift_spectrum
from ptychoflow.simulation.acquisition import Experiment
from ptychoflow.simulation.beam_stability import BeamVariation, draw_beam_variation, squared_radius
from ptychoflow.simulation.probes import adapt_probe, make_probe

SIZE = 32


def _probe() -> np.ndarray:
    return make_probe(ProbeRecipe(diameter_px=14), SIZE, 1e4, np.random.default_rng(0))


def _varied(variation: BeamVariation, repeats: int = 1) -> torch.Tensor:
    spectrum = probe_spectrum(torch.from_numpy(_probe()))
    spectra = variation.vary_spectrum(spectrum, squared_radius(spectrum), slice(None), repeats)
    return shift_spectrum(spectra, torch.zeros(len(spectra), 2))


def test_each_part_acts_on_the_probe_as_its_name_says():
    shifts = np.array([[1.5, -0.5], [0.0, 0.0], [0.0, 0.0]])
    variation = BeamVariation(shifts, np.array([0.0, 0.3, 0.0]), np.array([1.0, 1.0, 0.81]))
    moved, defocused, dimmed = _varied(variation)
    probe = torch.from_numpy(_probe())
    torch.testing.assert_close(moved, shift_probe(probe, torch.from_numpy(shifts[0])), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(dimmed, 0.9 * probe, atol=1e-3, rtol=1e-3)
    expected = adapt_probe(_probe(), ProbeRecipe(name="file", file="x", defocus=0.3), 1e4, np.random.default_rng(0))
    torch.testing.assert_close(defocused, torch.from_numpy(expected), atol=2e-2, rtol=2e-2)
    assert torch.equal(_varied(variation, repeats=2)[::2], _varied(variation))


def test_drifts_reach_their_limits_and_are_smooth():
    settings = BeamStability(pointing_drift_px=2, defocus_drift_waves=0.17, flicker=0.05)
    found = draw_beam_variation(settings, 400, np.random.default_rng(0))
    assert abs(found.shifts).max(0) == pytest.approx(2)
    assert abs(found.defocus).max() == pytest.approx(0.17)
    assert found.intensity.std() == pytest.approx(0.05, rel=0.1)
    assert abs(np.diff(found.shifts, axis=0)).max() < 0.5
    assert abs(found.shifts.mean(0)).max() < 1e-9


def test_a_constant_beam_changes_no_count():
    positions = np.random.default_rng(1).uniform(20, 40, (5, 2))
    experiment = Experiment(np.ones((64, 64), np.complex64), _probe(), positions)
    still = dataclasses.replace(experiment, beam=BeamVariation(np.zeros((5, 2)), np.zeros(5), np.ones(5)))
    pair = [torch.cat(list(each.expected())) for each in (experiment, still)]
    torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-4)
    assert draw_beam_variation(BeamStability(), 5, np.random.default_rng(0)) is None


def test_a_correlation_without_drift_is_refused():
    with pytest.raises(ValueError, match="correlation_patterns acts on pointing_drift_px and defocus_drift_waves"):
        BeamStability(correlation_patterns=3)
