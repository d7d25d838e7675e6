"""A cropped detector measures the same light with larger object pixels."""

import dataclasses

import numpy as np
import pytest

from ptychoflow.core.scan import Geometry, GroundTruth, Scan
from ptychoflow.preprocessing.cropping import crop, resize_far_field


def _far_field(wave):
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave), norm="ortho"))


def test_the_probe_keeps_the_light_that_falls_on_what_is_left_of_the_detector(scan):
    whole = np.abs(_far_field(scan.probe[0])) ** 2
    cropped = np.abs(_far_field(crop(scan, 16).probe[0])) ** 2
    np.testing.assert_allclose(cropped, whole[8:24, 8:24], rtol=1e-4, atol=1e-4)


def test_positions_in_metres_do_not_change(scan):
    cropped = crop(scan, 16)
    before, after = (s.positions * s.geometry.pixel_size_m for s in (scan, cropped))
    np.testing.assert_allclose(after, before)
    assert cropped.geometry.detector_pixel_m(16) == pytest.approx(scan.geometry.detector_pixel_m(32))


def test_counts_and_mask_keep_zero_frequency_in_the_centre(scan):
    cropped = crop(scan, 16)
    np.testing.assert_array_equal(cropped.counts[:, 8, 8], scan.counts[:, 16, 16])
    assert cropped.mask.shape == (16, 16)


def test_enlarging_and_cropping_a_probe_gives_it_back(scan):
    there = resize_far_field(scan.probe, 64)
    assert np.sum(np.abs(there) ** 2) == pytest.approx(scan.photons, rel=1e-6)
    np.testing.assert_allclose(resize_far_field(there, 32), scan.probe, atol=1e-5)


def test_cropping_to_the_same_size_changes_nothing_that_counts(scan):
    cropped = crop(scan, 32)
    np.testing.assert_allclose(cropped.probe, scan.probe, atol=1e-5)
    np.testing.assert_allclose(cropped.truth.object, scan.truth.object, atol=1e-6)


def test_cropping_to_more_than_there_is_is_refused(scan):
    with pytest.raises(ValueError, match=r"packing\.crop is 64 px, but the patterns of sample have 32 px"):
        crop(scan, 64)


def test_the_cropped_truth_and_probe_explain_the_cropped_patterns():
    """A smooth object and beam, whose patterns end well inside the crop, measured at 64 px and cropped to 32."""
    y, x = np.indices((160, 160))
    image = np.exp(0.4j * np.sin(y / 11) * np.cos(x / 13)) * (0.9 + 0.1 * np.cos(y / 17))
    dy, dx = np.indices((64, 64)) - 32
    probe = 30 * np.exp(-(dy**2 + dx**2) / 130 + 0.004j * dy**2)
    corners = np.array([[10, 14], [40, 60], [76, 30]])
    counts = [np.abs(_far_field(probe * image[a : a + 64, b : b + 64])) ** 2 for a, b in corners]
    geometry = Geometry(1e-8, 1e-10, 1.0)
    whole = Scan(np.array(counts), corners + 32.0, probe[None], geometry, truth=GroundTruth(image, (0.0, 0.0)))
    cropped = crop(whole, 32)
    for pattern, position in zip(cropped.counts, cropped.positions, strict=True):
        a, b = (position - cropped.truth.origin - 16).astype(int)
        expected = np.abs(_far_field(cropped.probe[0] * cropped.truth.object[a : a + 32, b : b + 32])) ** 2
        assert np.sum((np.sqrt(expected) - np.sqrt(pattern)) ** 2) < 1e-4 * pattern.sum()


def test_the_truth_may_start_anywhere(scan):
    moved = dataclasses.replace(scan, truth=GroundTruth(scan.truth.object, (3.0, -7.0)))
    assert crop(moved, 16).truth.origin == (1.5, -3.5)
