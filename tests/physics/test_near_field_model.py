"""The near-field forward model is that of an independent NumPy angular spectrum, and its probe stands still."""

import numpy as np
import pytest
import torch

from ptychoflow.core.scan import Geometry, near_field_geometry
from ptychoflow.metrics.data_consistency import expected_patterns
from ptychoflow.physics.forward_model import in_detector_frame
from ptychoflow.physics.propagation import FAR_FIELD, propagator_of
from ptychoflow.simulation.acquisition import Experiment

SIZE = 48
GEOMETRY = near_field_geometry(6.5e-6, 7e-11, 0.3, 0.01)
POSITIONS = np.array([[40.0, 37.0], [43.3, 35.6], [38.75, 44.5]])


def _object_at(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A smooth object as a formula, so that it is known between pixels."""
    phase = 0.8 * np.sin(y / 5) * np.cos(x / 7 + 0.4) + 0.5 * np.exp(-((y - 38) ** 2 + (x - 45) ** 2) / 60)
    return (0.9 + 0.1 * np.cos(x / 6)) * np.exp(1j * phase)


def _probe() -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    first = 30 * np.exp(-(y**2 + x**2) / 40 + 1j * 0.03 * y**2 - 0.2j * x)
    return np.stack([first, 0.2 * y * first])


def _independent(probe: np.ndarray, position: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The counts of a pattern by the angular spectrum in NumPy, from the formula of the object at the position."""
    z1, z2 = geometry.focus_distance_m, geometry.detector_distance_m
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    exit_waves = probe * _object_at(y + position[0], x + position[1])
    pixel = 6.5e-6 * z1 / (z1 + z2)
    q = np.fft.fftfreq(SIZE, pixel)
    squared = q[:, None] ** 2 + q**2
    transfer = np.exp(2j * np.pi * (z1 * z2 / (z1 + z2)) * np.sqrt(geometry.wavelength_m**-2 - squared))
    return np.sum(np.abs(np.fft.ifft2(np.fft.fft2(exit_waves) * transfer)) ** 2, axis=0)


def test_expected_counts_are_those_of_an_independent_angular_spectrum():
    image, probe = _object_at(*np.mgrid[:84, :84]), _probe()
    propagate = propagator_of(GEOMETRY, SIZE)
    computed = np.concatenate([*expected_patterns(image, (0, 0), probe, POSITIONS, propagate=propagate)])
    expected = np.stack([_independent(probe, position, GEOMETRY) for position in POSITIONS])
    assert np.abs(computed - expected).max() < 1e-5 * expected.max()


def test_simulated_counts_are_those_of_an_independent_angular_spectrum():
    image, probe = _object_at(*np.mgrid[:84, :84]), _probe()
    simulated = np.concatenate([b.numpy() for b in Experiment(image, probe, POSITIONS, geometry=GEOMETRY).expected()])
    expected = np.stack([_independent(probe, position, GEOMETRY) for position in POSITIONS])
    assert np.abs(simulated - expected).max() < 1e-5 * expected.max()


def test_a_shifted_probe_moves_the_pattern_unless_the_detector_frame_moves_it_back():
    probe = torch.from_numpy(_probe())[None]
    shift = torch.tensor([[0.4, -0.3]], dtype=torch.float64)
    propagate = propagator_of(GEOMETRY, SIZE)
    still = in_detector_frame(propagate, torch.zeros_like(shift))(probe)
    torch.testing.assert_close(still, propagate(probe))
    assert (in_detector_frame(propagate, shift)(probe) - still).abs().max() > 0.05 * still.abs().max()
    assert in_detector_frame(FAR_FIELD, shift) is FAR_FIELD


def test_a_cone_beam_magnifies_and_a_parallel_beam_does_not():
    assert GEOMETRY.magnification == pytest.approx(31)
    assert GEOMETRY.pixel_size_m == pytest.approx(6.5e-6 / 31)
    assert GEOMETRY.effective_distance_m == pytest.approx(0.3 / 31)
    assert GEOMETRY.detector_pixel_m(SIZE) == pytest.approx(6.5e-6)
    parallel = near_field_geometry(6.5e-6, 7e-11, 0.3)
    assert (parallel.pixel_size_m, parallel.effective_distance_m) == (6.5e-6, 0.3)


def test_lengths_of_the_near_field_are_refused_for_the_far_field():
    with pytest.raises(ValueError, match="set propagation to near_field"):
        Geometry(1e-8, 1e-10, 1.0, focus_distance_m=0.01)
    with pytest.raises(ValueError, match="expected far_field or near_field"):
        Geometry(1e-8, 1e-10, 1.0, "fresnel")
