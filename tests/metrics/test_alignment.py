"""Alignment removes what no measurement can tell apart, and nothing else."""

import numpy as np
import pytest

from ptychoflow.metrics import alignment
from ptychoflow.metrics.alignment import align, correlation, find_gauge, normalise_gauge, twin_correlation

from .objects import SHAPE, disc, fourier_shifted, ramp, sample

ALL = np.ones(SHAPE, bool)


@pytest.mark.parametrize("slopes", [(0, 0), (0.013, -0.4), (-2.9, 1.7)])
@pytest.mark.parametrize("scale", [1, 0.4 * np.exp(2j), 7 * np.exp(-3j)])
def test_scale_and_ramp_are_removed_whatever_they_are(slopes, scale):
    truth = sample(phase=1.5)
    image = scale * truth * ramp(slopes)
    mask = disc()
    aligned = align(image, (0, 0), mask, truth)
    assert np.abs(aligned.object - truth)[mask].max() < 1e-9
    assert aligned.gauge.ramp == pytest.approx(slopes, abs=1e-9)
    assert abs(aligned.gauge.scale) == pytest.approx(1 / abs(scale))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.37, -0.21), (-2.6, 3.3)])
def test_shift_and_ramp_of_a_large_object_are_found_in_its_middle(shift, monkeypatch):
    truth, mask = sample(blur=2.5), disc(margin=8)
    image = 2 * fourier_shifted(truth, shift) * ramp((0.013, -0.4))
    whole = align(image, (0, 0), mask, truth, max_shift=5)
    monkeypatch.setattr(alignment, "PART_PX", 48)
    part = align(image, (0, 0), mask, truth, max_shift=5)
    assert part.shift == pytest.approx(shift, abs=0.03)
    assert part.gauge.ramp == pytest.approx(whole.gauge.ramp, abs=1e-4)
    both = part.mask & whole.mask
    assert np.abs(part.object - whole.object)[both].max() < 0.02


def test_noise_moves_the_ramp_little():
    truth = sample()
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.3, (2, *SHAPE))
    gauge = find_gauge(truth * ramp((0.02, 0.03)) + noise[0] + 1j * noise[1], truth, ALL)
    # one sigma of the estimate is sqrt(12) x 0.3 / (0.85 L sqrt(H W)) = 1e-4 rad per px
    assert gauge.ramp == pytest.approx((0.02, 0.03), abs=5e-4)


def test_phase_error_does_not_darken_the_amplitude():
    truth = np.exp(1j * np.random.default_rng(0).uniform(-0.5, 0.5, SHAPE))
    assert abs(find_gauge(np.ones(SHAPE, complex), truth, ALL).scale) == pytest.approx(1)


def test_whole_pixel_origins_place_the_object_exactly():
    truth = sample(shape=(130, 140))
    image = np.zeros((60, 70), complex)
    image[5:50, 8:60] = truth[25:70, 38:90]
    coverage = image != 0
    aligned = align(image, (13.0, 26.0), coverage, truth, (-7.0, -4.0))
    assert np.abs(aligned.object - aligned.truth)[coverage].max() < 1e-9
    assert np.array_equal(aligned.mask, coverage)


def test_fractional_origins_are_interpolated():
    truth = sample(blur=2.5)
    moved = fourier_shifted(truth, (-0.3, -0.4))  # its pixel [0, 0] lies at (0.3, 0.4)
    mask = disc(margin=8)
    aligned = align(moved, (0.3, 0.4), mask, truth)
    error = np.abs(aligned.object - truth)[aligned.mask]
    assert np.median(error) < 5e-3
    assert error.max() < 0.05  # where the mask ends
    assert 0 < aligned.mask.sum() < mask.sum()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.37, -0.21), (-2.6, 3.3)])
def test_a_known_shift_is_found_reported_and_undone(shift):
    truth = sample(blur=2)
    image = fourier_shifted(truth, shift) * ramp((0.1, -0.05)) * 2j
    aligned = align(image, (0, 0), disc(margin=10), truth, max_shift=5)
    assert aligned.shift == pytest.approx(shift, abs=0.01)
    assert aligned.correlation > 0.999


def test_without_registration_the_shift_stays():
    truth = sample()
    aligned = align(fourier_shifted(truth, (1, 1)), (0, 0), ALL, truth)
    assert aligned.shift == (0, 0)
    assert aligned.correlation < 0.9


def test_registration_goes_no_further_than_it_may():
    truth = sample(blur=3)
    assert np.abs(align(fourier_shifted(truth, (0, 4)), (0, 0), disc(), truth, max_shift=1.5).shift).max() <= 1.5


def test_registration_survives_noise():
    truth = sample(blur=2)
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.2, (2, *SHAPE))
    image = fourier_shifted(truth, (0.6, -0.2)) + noise[0] + 1j * noise[1]
    assert align(image, (0, 0), disc(), truth, max_shift=3).shift == pytest.approx((0.6, -0.2), abs=0.05)


def test_a_twin_image_is_recognised():
    truth = sample()
    twin = fourier_shifted(truth[::-1, ::-1].conj(), (3, -2)) * ramp((0.02, 0.01))
    assert twin_correlation(twin, truth, ALL) > 0.9
    assert correlation(twin, truth, ALL) < 0.3
    assert twin_correlation(truth, truth, ALL) < 0.3


def test_a_uniform_object_correlates_with_nothing():
    truth = sample()
    aligned = align(np.full(SHAPE, 0.7 + 0.2j), (0, 0), ALL, truth, max_shift=2)
    assert aligned.correlation == 0
    assert correlation(np.ones(SHAPE), np.ones(SHAPE), ALL) == 0


def test_levelling_makes_two_gauges_of_one_object_equal():
    truth = sample()
    levelled = [normalise_gauge(image, ALL) for image in (truth, 3j * truth * ramp((0.2, -0.01)))]
    assert np.abs(levelled[0] - levelled[1]).max() < 1e-9


def test_two_reconstructions_are_compared_where_both_are_known():
    truth = sample()
    left, right = ALL.copy(), ALL.copy()
    left[:, 80:], right[:, :30] = False, False
    aligned = align(truth[:, :100], (0, 0), left[:, :100], 2 * truth, (0, 0), truth_coverage=right)
    assert np.array_equal(aligned.mask, (left & right)[:, :100])
    with pytest.raises(ValueError, match="share no covered pixel"):
        align(truth, (0, 0), left, truth, truth_coverage=~left)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coverage": ~ALL}, "coverage is empty"),
        ({"coverage": ALL[1:]}, "coverage has shape"),
        ({"truth": sample()[:50]}, "outside its ground truth"),
        ({"truth_origin": (300.0, 0.0)}, "outside its ground truth"),
        ({"truth": np.full(SHAPE, np.nan + 0j)}, "NaN"),
        ({"truth": np.zeros(SHAPE, complex)}, "all zeros"),
        ({"truth": sample()[None]}, "two images"),
    ],
)
def test_objects_that_cannot_be_aligned_are_refused(change, message):
    arguments = {"image": sample(), "origin": (0, 0), "coverage": ALL, "truth": sample()} | change
    with pytest.raises(ValueError, match=message):
        align(**arguments)
