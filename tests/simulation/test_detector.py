"""Detectors count, blur, saturate and fail as their settings say, each pattern by random numbers of its own."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ptychoflow.config import ConfigError, Detector, validate
from ptychoflow.simulation.detector import blur_counts, detector_mask, draw_counts

EXPECTED = np.full((64, 64), 9.0)


def _counts(index: int = 0, expected: np.ndarray = EXPECTED, **settings) -> np.ndarray:
    return draw_counts(expected, Detector(**settings), None, 1, index)


def test_counts_are_poisson():
    counts = np.stack([_counts(index) for index in range(30)])
    assert counts.dtype.kind == "i"
    assert counts.mean() == pytest.approx(9, abs=3 * np.sqrt(9 / counts.size))
    assert counts.var() == pytest.approx(9, rel=0.02)


def test_the_noise_of_a_pattern_does_not_depend_on_other_patterns():
    assert np.array_equal(_counts(7), _counts(7))
    assert not np.array_equal(_counts(7), _counts(8))


def test_read_noise_adds_its_variance_and_never_goes_below_zero():
    counts = np.stack([_counts(index, read_noise=1.5) for index in range(30)])
    assert counts.var() == pytest.approx(9 + 1.5**2 + 1 / 12, rel=0.02)
    assert _counts(expected=np.zeros((64, 64)), read_noise=1.5).min() == 0


def test_saturation_is_the_greatest_count():
    assert _counts(saturation=10).max() == 10


def test_masked_pixels_count_nothing():
    detector = Detector(dead_pixels=0.1, beamstop_px=8)
    mask = detector_mask(detector, 64, seed=3)
    assert (draw_counts(EXPECTED, detector, mask, 0, 0)[~mask] == 0).all()
    assert np.mean(~mask) == pytest.approx(0.1 + np.pi * 16 / 64**2, abs=0.02)
    assert np.array_equal(mask, detector_mask(detector, 64, seed=3))
    assert not np.array_equal(mask, detector_mask(detector, 64, seed=4))


def test_a_beamstop_has_its_diameter_over_zero_frequency():
    mask = detector_mask(Detector(beamstop_px=5), 16, seed=0)
    assert (~mask[8]).nonzero()[0].tolist() == [6, 7, 8, 9, 10]
    assert (~mask[:, 8]).nonzero()[0].tolist() == [6, 7, 8, 9, 10]


def test_a_perfect_detector_has_no_mask():
    assert detector_mask(Detector(), 16, seed=0) is None


def test_a_detector_without_a_valid_pixel_is_refused():
    with pytest.raises(ValueError, match=r"simulation\.detector: dead_pixels and beamstop_px leave no valid pixel"):
        detector_mask(Detector(beamstop_px=100), 16, seed=0)


@pytest.mark.parametrize("sigma", [0.4, 0.8, 2.0])
def test_charge_spreads_as_a_gaussian(sigma):
    expected = np.random.default_rng(0).random((2, 20, 20))
    blurred = blur_counts(torch.from_numpy(expected), sigma).numpy()
    slow = np.stack([gaussian_filter(pattern, sigma, mode="constant", truncate=10) for pattern in expected])
    np.testing.assert_allclose(blurred, slow, atol=1e-12)
    assert blur_counts(torch.from_numpy(expected), 0.0).numpy() is not None


def test_charge_that_does_not_reach_the_edge_is_conserved():
    expected = torch.zeros(1, 32, 32)
    expected[0, 16, 16] = 100
    assert blur_counts(expected, 1.5).sum() == pytest.approx(100, rel=1e-5)
    assert torch.equal(blur_counts(expected, 0.0), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dead_pixels": 1.0}, "dead_pixels: input should be less than 1"),
        ({"read_noise": -1}, "read_noise: input should be greater than or equal to 0"),
        ({"saturation": 0}, "saturation: input should be greater than 0"),
        ({"gain": 2}, "gain: unknown key"),
    ],
)
def test_a_bad_request_names_its_field(settings, message):
    with pytest.raises(ConfigError, match=message):
        validate(Detector, settings)
