"""Whichever way the positions of a scan are laid against its detector, the patterns tell, and tell how sure that is."""

import dataclasses

import numpy as np
import pytest

from ptychoflow.config import Orientation, Source
from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.preprocessing.position_transform import oriented
from ptychoflow.preprocessing.probe_guess import guess_probe
from ptychoflow.preprocessing.scan_orientation import (
    RIGHT_ANGLE_ORIENTATIONS,
    curl_free_angle,
    find_orientation,
    gradients,
)
from ptychoflow.readers.detector_view import beam_in_corner
from ptychoflow.readers.registry import read_scan_of

LENGTHS = {"energy_ev": 8800.0, "detector_distance_m": 2.0, "detector_pixel_m": 75e-6}


@pytest.fixture(scope="module")
def scan() -> Scan:
    """A hundred patterns of 32 px of a random object, the probe defocused and asymmetric, 1e5 photons each."""
    rng = np.random.default_rng(5)
    y, x = np.indices((32, 32)) - 16
    probe = np.exp(-(y**2 + 1.3 * x**2 + 0.3 * x * y) / 50 + 0.06j * (y**2 + 0.9 * x**2))
    probe *= np.sqrt(1e5 / np.sum(abs(probe) ** 2))
    image = np.exp(1j * np.cumsum(rng.normal(0, 0.12, (96, 96)), axis=1)) * rng.uniform(0.7, 1, (96, 96))
    positions = np.stack(np.meshgrid(np.arange(10), np.arange(10), indexing="ij"), -1).reshape(-1, 2) * 5.0
    positions = np.rint(positions + rng.uniform(-1.5, 1.5, positions.shape)) + 20
    corners = positions.astype(int) - 16
    waves = np.array([probe * image[a : a + 32, b : b + 32] for a, b in corners])
    counts = rng.poisson(abs(np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(1, 2))) ** 2)
    return Scan(counts.astype(np.uint16), positions, probe[None].astype(np.complex64), Geometry(1e-8, 1e-10, 1.0))


@pytest.mark.parametrize("laid", RIGHT_ANGLE_ORIENTATIONS, ids=lambda o: f"{o.transpose:d}{o.flip_y:d}{o.flip_x:d}")
def test_each_of_the_eight_ways_is_found(scan, laid):
    disturbed = dataclasses.replace(scan, positions=oriented(scan.positions, laid))
    finding = find_orientation(disturbed)
    restored = oriented(disturbed.positions, finding.best)
    np.testing.assert_allclose(restored - restored[0], scan.positions - scan.positions[0])
    assert finding.sure


def test_without_a_known_probe_both_signs_fit_alike_and_the_finding_says_so(scan):
    mean = scan.counts.mean(0)
    symmetric = (mean + mean[::-1, ::-1]) / 2
    unknown = dataclasses.replace(scan, probe=guess_probe(symmetric, scan.geometry))
    finding = find_orientation(unknown)
    assert not finding.sure
    assert finding.best in (Orientation(), Orientation(flip_y=True, flip_x=True))


def test_patterns_that_have_nothing_to_do_with_their_positions_leave_it_open(scan):
    shuffled = np.random.default_rng(0).permutation(len(scan))
    assert not find_orientation(dataclasses.replace(scan, counts=scan.counts[shuffled])).sure


def test_a_field_that_is_a_gradient_gives_the_angle_it_was_turned_by():
    rng = np.random.default_rng(1)
    places = rng.uniform(-1, 1, (400, 2))
    field = np.stack([2 * places[:, 0] + places[:, 1], places[:, 0] + 3 * places[:, 1]], axis=1)  # grad of a paraboloid
    turned = oriented(places, Orientation(rotation_deg=37.0))
    angle, left = curl_free_angle(gradients(turned, field))
    assert angle == pytest.approx(-37.0, abs=1e-6)
    assert left < 1e-12


def test_too_few_patterns_are_refused(scan):
    few = dataclasses.replace(scan, counts=scan.counts[:3], positions=scan.positions[:3])
    with pytest.raises(ValueError, match="expected at least 4"):
        find_orientation(few)


def _corrupted(scan: Scan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts and positions laid in random ways, and where the positions belong for these counts."""
    transpose, flips = rng.random() < 0.5, rng.choice([-1, 1], 2)
    counts = np.asarray(scan.counts).swapaxes(1, 2) if transpose else np.asarray(scan.counts)
    counts = counts[:, :: flips[0], :: flips[1]]
    belong = (scan.positions[:, ::-1] if transpose else scan.positions) * flips
    positions = (scan.positions[:, ::-1] if rng.random() < 0.5 else scan.positions) * rng.choice([-1, 1], 2)
    return np.fft.ifftshift(counts, axes=(1, 2)) if rng.random() < 0.5 else counts, positions, belong


def _undone(scan: Scan, seed: int) -> bool:
    """Whether a random corruption is found out, up to a mirror image of pattern and scan together."""
    counts, positions, belong = _corrupted(scan, np.random.default_rng(seed))
    if beam_in_corner(counts.mean(0, dtype=np.float64)):
        counts = np.fft.fftshift(counts, axes=(1, 2))
    finding = find_orientation(dataclasses.replace(scan, counts=counts, positions=np.ascontiguousarray(positions)))
    restored = oriented(positions, finding.best)
    return bool(np.allclose(restored - restored[0], belong - belong[0]))


REAL = ("siemens-star-small.npz.bz2", "rotavirus-64x64.npz", "rotavirus-32x32.npz")


def _real(folder, name: str) -> Scan:
    geometry = LENGTHS if "siemens" in name else None
    return read_scan_of(folder / name, Source(file=name, geometry=geometry))


@pytest.mark.parametrize("name", REAL[::2])
def test_corruptions_of_real_scans_are_undone(real_data, name):
    scan = _real(real_data, name)
    assert all(_undone(scan, seed) for seed in range(3))


@pytest.mark.slow
def test_ninety_five_of_a_hundred_corruptions_of_real_scans_are_undone(real_data):
    scans = [_real(real_data, name) for name in REAL]
    assert sum(_undone(scans[seed % 3], seed) for seed in range(100)) >= 95
