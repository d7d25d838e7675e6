"""Fourier ring correlation finds the correlation that was put in, and none where there is none."""

import numpy as np
import pytest

from ptychoflow.metrics.frc import RingCorrelation, edge_taper, ring_correlation

from .objects import disc, sample

SHAPE = (128, 160)
ALL = np.ones(SHAPE, bool)


def _noise(seed: int, shape=SHAPE) -> np.ndarray:
    real, imaginary = np.random.default_rng(seed).standard_normal((2, *shape))
    return real + 1j * imaginary


@pytest.mark.parametrize("signal_to_noise", [0.2, 1, 10])
@pytest.mark.parametrize("mask", [ALL, disc(SHAPE)], ids=["all", "disc"])
def test_images_of_known_correlation_have_it_at_every_frequency(signal_to_noise, mask):
    signal = np.sqrt(signal_to_noise) * _noise(0)
    curve = ring_correlation(signal + _noise(1), signal + _noise(2), mask)
    expected = signal_to_noise / (1 + signal_to_noise)
    sigma = (1 - expected**2) / np.sqrt(2 * curve.samples)
    assert np.abs((curve.correlation - expected) / sigma).max() < 5
    assert curve.area == pytest.approx(expected, abs=0.02)


def test_the_crossing_is_where_the_signal_ends():
    y, x = (np.fft.fftfreq(length) for length in SHAPE)
    low = np.hypot(y[:, None], x) < 0.2
    signal = 4 * np.fft.ifft2(low * np.fft.fft2(_noise(0)))
    curve = ring_correlation(signal + _noise(1), signal + _noise(2), ALL)
    for name in ("1/2", "1/7", "half-bit"):
        assert curve.crossing(name) == pytest.approx(0.2, abs=0.02)
    slow = np.hypot(y[:, None], x) < 2.5 / min(SHAPE)
    drift = [30 * np.fft.ifft2(slow * np.fft.fft2(_noise(seed))) for seed in (3, 4)]
    drifting = ring_correlation(signal + _noise(1) + drift[0], signal + _noise(2) + drift[1], ALL)
    assert (drifting.correlation[:2] < 1 / 7).all()
    for name in ("1/2", "1/7", "half-bit"):
        assert drifting.crossing(name) == pytest.approx(curve.crossing(name), abs=0.01)


def test_lengths_are_given_in_metres_too():
    summary = ring_correlation(_noise(0), _noise(0) + _noise(1), ALL).summary(pixel_size_m=2e-8)
    assert summary["frequency_cycles_per_m"][-1] == pytest.approx(0.5 / 2e-8, rel=0.02)
    for crossing in summary["crossings"].values():
        assert crossing["half_period_m"] == pytest.approx(crossing["half_period_px"] * 2e-8)


def test_equal_images_agree_beyond_nyquist():
    curve = ring_correlation(sample(), sample(), disc())
    assert curve.crossing("1/2") is None
    assert curve.correlation == pytest.approx(1)
    length = curve.summary(2e-8)["crossings"]["1/7"]
    assert length == {"cycles_per_px": 0.5, "half_period_px": 1, "half_period_m": 2e-8, "beyond_nyquist": True}


def test_uniform_images_do_not_agree_by_being_uniform():
    curve = ring_correlation(np.full(SHAPE, 0.3 + 1j), np.full(SHAPE, 0.3 + 1j), ALL)
    assert np.array_equal(curve.correlation, np.zeros_like(curve.correlation))
    assert curve.crossing("1/2") == 0
    assert curve.summary(1e-9)["crossings"]["1/2"]["half_period_px"] is None
    assert ring_correlation(np.ones(SHAPE), sample(shape=SHAPE), ALL).area == 0


def test_a_shared_edge_makes_no_correlation():
    for mask in (ALL, disc(SHAPE)):
        curve = ring_correlation(3 + _noise(1), 3 + _noise(2), mask)
        assert np.abs(curve.correlation).max() < 5 / np.sqrt(2 * curve.samples.min())
        assert abs(curve.area) < 0.02


def test_opposite_images_anticorrelate():
    image = sample(shape=SHAPE)
    mean = image.mean()
    assert ring_correlation(image, 2 * mean - image, ALL, taper=0).correlation == pytest.approx(-1)


def test_frequencies_run_from_one_cycle_to_nyquist():
    curve = ring_correlation(_noise(0), _noise(1), ALL)
    assert curve.frequency[0] == pytest.approx(1 / 128)
    assert curve.frequency[-1] == pytest.approx(0.5)


def test_half_bit_falls_with_the_samples():
    curve = RingCorrelation(np.arange(3) / 6, np.ones(3), np.array([1, 100, 1e12]))
    threshold = curve.threshold("half-bit")
    assert threshold[0] == pytest.approx(1)
    assert threshold[-1] == pytest.approx(0.2071 / 1.2071, abs=1e-4)


def test_the_taper_rises_over_its_width():
    taper = edge_taper(disc(SHAPE), 10)
    assert taper[~disc(SHAPE)].max() == 0
    assert taper.max() == 1
    assert edge_taper(ALL, 0).min() == 1


@pytest.mark.parametrize(
    ("shapes", "mask", "message"),
    [
        (((8, 8), (8, 9)), np.ones((8, 8), bool), "one shape"),
        (((8, 8), (8, 8)), np.zeros((8, 8), bool), "share no covered pixel"),
        (((8, 8), (8, 8)), np.eye(8, dtype=bool) & (np.arange(8) < 2), "at least 4"),
    ],
)
def test_images_that_cannot_be_correlated_are_refused(shapes, mask, message):
    with pytest.raises(ValueError, match=message):
        ring_correlation(*(np.ones(shape, complex) for shape in shapes), mask)
