"""Detector pixels: masked, moved, cut and summed as a detector of fewer or wider pixels would have measured."""

import dataclasses
import logging

import numpy as np
import pytest

from ptychoflow.preprocessing.cropping import coarsen_far_field
from ptychoflow.preprocessing.detector_pixels import Pixels, displacement, sum_squares, survey


def _far_field(wave):
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave), norm="ortho"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_binning_keeps_every_photon_and_does_not_overflow(dtype):
    counts = np.full((3, 32, 32), 255 if dtype == np.uint8 else 65535, dtype)
    binned = Pixels(32, binning=4).of_counts(counts)
    assert binned.shape == (3, 8, 8)
    assert binned.sum(dtype=np.float64) == counts.sum(dtype=np.float64)


def test_sums_are_those_of_a_plain_loop():
    patterns = np.random.default_rng(0).poisson(5, (2, 12, 12))
    expected = [[[p[y : y + 3, x : x + 3].sum() for x in range(0, 12, 3)] for y in range(0, 12, 3)] for p in patterns]
    np.testing.assert_array_equal(sum_squares(patterns, 3), expected)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_binned_probe_and_the_same_object_explain_binned_patterns(factor):
    """A small beam far from symmetric on a smooth object: what varies within a wide pixel is little."""
    size = 96
    y, x = np.indices((160, 160))
    image = np.exp(0.4j * np.sin(y / 11) * np.cos(x / 13)) * (0.9 + 0.1 * np.cos(y / 17))
    dy, dx = np.indices((size, size)) - size // 2
    probe = 30 * np.exp(-((dy - 1) ** 2 + (dx + 0.5) ** 2) / 4 + 0.01j * dy**2 + 0.3j * dx)
    corner = np.array([20, 31])
    cut = np.s_[corner[0] : corner[0] + size, corner[1] : corner[1] + size]
    binned = sum_squares(np.abs(_far_field(probe * image[cut])) ** 2, factor)
    error = {}
    for name, wave in {"ramp": coarsen_far_field(probe[None], factor)[0], "none": _middle(probe, factor)}.items():
        inner = size // factor
        first = corner + size // 2 - inner // 2
        under = image[first[0] : first[0] + inner, first[1] : first[1] + inner]
        expected = np.abs(_far_field(wave * under)) ** 2
        error[name] = np.sum((np.sqrt(expected) - np.sqrt(binned)) ** 2) / binned.sum()
    assert error["ramp"] < 5e-3 and error["none"] > 3 * error["ramp"]


def _middle(probe, factor):
    kept = len(probe) // factor
    first = len(probe) // 2 - kept // 2
    return probe[first : first + kept, first : first + kept]


def test_binning_leaves_positions_and_pixel_size_and_widens_the_detector_pixel(scan):
    binned = Pixels(32, binning=2).of_scan(scan)
    assert binned.counts.shape == (40, 16, 16) and binned.probe.shape == (1, 16, 16)
    np.testing.assert_array_equal(binned.positions, scan.positions)
    assert binned.geometry == scan.geometry and binned.truth is scan.truth
    assert binned.geometry.detector_pixel_m(16) == pytest.approx(2 * scan.geometry.detector_pixel_m(32))
    assert binned.metadata["summed_px"] == 2


def test_cropping_and_binning_follow_each_other(scan):
    kept = Pixels(32, crop=32 - 8, binning=3).of_scan(scan)
    assert kept.size == 8
    assert kept.geometry.pixel_size_m == pytest.approx(scan.geometry.pixel_size_m * 32 / 24)
    assert kept.geometry.detector_pixel_m(8) == pytest.approx(3 * scan.geometry.detector_pixel_m(32))


def test_photons_outside_the_field_of_view_give_a_warning(scan, caplog):
    wide = dataclasses.replace(scan, probe=np.full((1, 32, 32), 2.0, np.complex64))
    with caplog.at_level(logging.WARNING):
        Pixels(32, binning=2).of_scan(wide)
    assert "75.0 % of the probe's photons lie outside the field of view that packing.binning 2 leaves" in caplog.text


def test_a_bin_counts_only_if_all_its_pixels_do_and_bad_pixels_hold_nothing(scan):
    good = np.ones((32, 32), bool)
    good[3, 5] = good[20, 20] = False
    pixels = Pixels(32, good, binning=2)
    mask = pixels.of_mask()
    assert sorted(map(tuple, np.argwhere(~mask))) == [(1, 2), (10, 10)]
    counts = pixels.of_counts(scan.counts)
    np.testing.assert_array_equal(counts[:, 10, 10], scan.counts[:, 20:22, 20:22].sum((1, 2)) - scan.counts[:, 20, 20])


def test_moved_patterns_have_zero_frequency_in_the_middle_and_say_what_they_did_not_see(scan):
    wide = np.zeros((40, 40, 40), np.uint16)
    wide[:, 5:37, 1:33] = scan.counts  # zero frequency at (21, 17) instead of (20, 20)
    pixels = Pixels(40, shift=(-1, 3), crop=32)
    np.testing.assert_array_equal(pixels.of_counts(wide), scan.counts)
    assert pixels.of_mask() is None
    moved = Pixels(32, shift=(-2, 3))
    assert moved.of_counts(scan.counts)[:, 16, 16].tolist() == scan.counts[:, 18, 13].tolist()
    mask = moved.of_mask()
    assert not mask[-2:].any() and not mask[:, :3].any() and mask[:-2, 3:].all()


@pytest.mark.parametrize("off", [(0, 0), (3, -5), (-7, 2)])
def test_the_displacement_is_where_the_patterns_lie_off_the_far_field_of_the_probe(off):
    rng = np.random.default_rng(1)
    dy, dx = np.indices((64, 64)) - 32
    probe = 10 * np.exp(-(dy**2 + dx**2) / 60 + 0.02j * dx**2 + 0.1j * dy)
    objects = np.exp(0.5j * rng.standard_normal((20, 64, 64)))
    mean = np.mean([np.abs(_far_field(probe * image)) ** 2 for image in objects], axis=0)
    good = np.ones((64, 64), bool)
    good[32 + off[0], 32 + off[1]] = False
    measured = np.roll(mean, off, (0, 1))
    measured[~good] = 1e9
    assert displacement(measured, probe[None], good) == off


def test_a_survey_finds_what_is_impossible_and_what_is_saturated(scan):
    counts = scan.counts.astype(np.float64)
    counts[4, 1, 2], counts[9, 1, 2], counts[30, 8, 8], counts[31, 7, 7] = np.nan, -1, np.inf, 5000
    found = survey(np.array_split(counts, 7), counts.shape, saturation=5000)
    assert np.argwhere(found.impossible).tolist() == [[1, 2], [8, 8]]
    assert np.flatnonzero(found.flawed).tolist() == [4, 9, 30]
    assert sorted(map(tuple, np.argwhere(found.saturated))) == [(7, 7), (8, 8)]
    assert found.mean[1, 2] == pytest.approx(np.delete(counts[:, 1, 2], [4, 9]).mean())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 64}, r"packing\.crop is 64 px, but the patterns have 32 px"),
        ({"binning": 3}, r"packing\.binning is 3, which does not divide 32 px .* multiple of 6"),
        ({"binning": 32}, r"packing\.binning is 32"),
        ({"good": np.zeros((32, 32), bool)}, "every detector pixel is masked"),
        ({"shift": (40, 0)}, r"every detector pixel is masked: .* packing\.centre"),
        ({"good": np.indices((32, 32)).sum(0) % 2 == 0, "binning": 2}, "every detector pixel is masked"),
    ],
)
def test_what_cannot_be_cut_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Pixels(32, **settings)
