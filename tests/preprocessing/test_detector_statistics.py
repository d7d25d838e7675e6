"""What is planted in patterns is found: noise, gain, hot and dead pixels, overlap."""

import numpy as np
import pytest

from ptychoflow.preprocessing.detector_statistics import (
    beam_diameter,
    disc_overlap,
    fano_factor,
    hot_pixels,
    inspect_detector,
    quantum,
    silent_pixels,
    typical_step,
)


@pytest.fixture
def expected() -> np.ndarray:
    y, x = np.indices((48, 48)) - 24
    return 40 * np.exp(-(y**2 + x**2) / 100)


@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_the_fano_factor_of_photons_is_the_gain(expected, gain):
    counts = gain * np.random.default_rng(0).poisson(expected, (200, 48, 48))
    assert fano_factor(counts) == pytest.approx(gain, rel=0.08)
    assert quantum(counts) == pytest.approx(gain)


def test_amplitudes_are_seen_by_their_noise(expected):
    amplitudes = np.sqrt(np.random.default_rng(0).poisson(10 * expected + 5, (200, 48, 48)))
    assert fano_factor(amplitudes) < 0.8
    assert "sub-Poisson" in inspect_detector(amplitudes, np.ones((48, 48), bool), False, (24, 24)).noise


def test_hot_and_dead_pixels_are_found_and_good_ones_are_not(expected):
    counts = np.random.default_rng(0).poisson(expected, (100, 48, 48))
    counts[:, 5, 7], counts[:, 24, 30] = 50, 0
    detector = inspect_detector(counts, np.ones((48, 48), bool), False, (24.0, 24.0))
    assert (detector.hot, detector.dead) == (((5, 7),), ((24, 30),))
    assert len(hot_pixels(expected)) == len(silent_pixels(counts[:, :3, :3])) == 0


def test_masked_pixels_are_no_news(expected):
    counts, mask = np.random.default_rng(0).poisson(expected, (100, 48, 48)), np.ones((48, 48), bool)
    counts[:, 5, 7], mask[5, 7] = 50, False
    assert not inspect_detector(counts, mask, False, (24.0, 24.0)).hot


def test_discs_overlap_by_the_formula_of_two_circles():
    assert disc_overlap(0, 10) == 1
    assert disc_overlap(10, 10) == disc_overlap(20, 10) == 0
    assert disc_overlap(5, 10) == pytest.approx(0.391, abs=1e-3)


def test_a_disc_is_as_wide_as_it_is_and_a_raster_has_its_step():
    y, x = np.indices((64, 64)) - 32
    disc = (np.hypot(y, x) <= 12).astype(np.complex64)
    assert beam_diameter(disc[None], share=1.0) == pytest.approx(24, abs=0.5)
    raster = np.stack(np.meshgrid(np.arange(5) * 3.0, np.arange(5) * 4.0), -1).reshape(-1, 2)
    assert typical_step(raster) == 3.0
