"""Probes are compared by what they do to an object: place, phase, brightness and the basis of modes do not count."""

import numpy as np
import pytest
import torch

from ptychoflow.metrics.probe_similarity import clusters, probe_similarity, similarity_at_best_focus
from ptychoflow.physics.propagation import near_field

N = 48
LENGTHS = {"pixel_size_m": 2e-8, "wavelength_m": 1.4e-10}


def _probe(width=6.0, bend=0.03, modes=1):
    y, x = np.indices((N, N)) - N // 2
    shapes = np.stack([np.ones_like(x), x / width, y / width])[:modes]
    weights = np.array([1, 0.6, 0.3])[:modes, None, None]
    return weights * shapes * np.exp(-(x**2 + y**2) / (2 * width**2) + 1j * bend * (x**2 - 0.5 * y**2))


def _shifted(probe, by):
    y, x = (np.fft.fftfreq(N) * step for step in by)
    return np.fft.ifft2(np.fft.fft2(probe) * np.exp(-2j * np.pi * (y[:, None] + x)))


@pytest.mark.parametrize("by", [(0, 0), (3, -5), (1.37, -2.81), (-0.5, 0.5)])
def test_place_phase_and_brightness_do_not_count(by):
    found = probe_similarity(_probe(), 7 * np.exp(2j) * _shifted(_probe(), by))
    assert found.value == pytest.approx(1, abs=1e-4)
    assert found.shift == pytest.approx(by, abs=0.02)


def test_the_basis_of_modes_does_not_count():
    probe = _probe(modes=3)
    unitary = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)) + 1j * np.eye(3))[0]
    assert probe_similarity(probe, np.tensordot(unitary, probe, 1)).value == pytest.approx(1, abs=1e-6)
    assert probe_similarity(probe, probe[::-1]).value == pytest.approx(1, abs=1e-6)


def test_for_single_modes_it_is_their_overlap():
    a, b = _probe(), _probe(width=9)
    overlap = abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b)
    assert probe_similarity(a, b).value == pytest.approx(overlap, abs=1e-4)  # both even: most alike where they are
    assert probe_similarity(a, b).value == pytest.approx(probe_similarity(b, a).value, abs=1e-9)


def test_other_probes_are_less_similar():
    assert probe_similarity(_probe(), _probe(width=12)).value < 0.9
    assert probe_similarity(_probe(), _probe(bend=0.2)).value < 0.7
    assert probe_similarity(_probe(modes=1), _probe(modes=3)).value < 0.995


def test_defocus_counts_unless_distances_are_searched():
    there = near_field(N, distance_m=1e-4, **LENGTHS)(torch.from_numpy(_probe())).numpy()
    distances = np.linspace(-1.2e-4, 1.2e-4, 13)
    assert probe_similarity(_probe(), there).value < 0.97
    found = similarity_at_best_focus(_probe(), there, distances, **LENGTHS)
    assert found.value == pytest.approx(1, abs=1e-4)
    assert found.distance_m == pytest.approx(1e-4)
    back = similarity_at_best_focus(there, _probe(), distances, **LENGTHS)
    assert back.value == pytest.approx(1, abs=1e-4) and back.distance_m == pytest.approx(-1e-4)


def test_kinds_of_probes_form_clusters():
    rng = np.random.default_rng(3)
    probes = [_shifted(_probe(width), rng.uniform(-3, 3, 2)) for width in (6, 6, 12, 12, 6)]
    matrix = np.array([[probe_similarity(a, b).value for b in probes] for a in probes])
    labels = clusters(matrix, least=0.95)
    assert labels[0] == labels[1] == labels[4] != labels[2] == labels[3]
    assert list(clusters(np.ones((1, 1)), 0.9)) == [1]


def test_probes_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="of one size"):
        probe_similarity(_probe(), _probe()[:, 1:, 1:])
    with pytest.raises(ValueError, match="all zeros"):
        probe_similarity(_probe(), 0 * _probe())
    with pytest.raises(ValueError, match="expected a symmetric matrix"):
        clusters(np.array([[1, 0.2], [0.9, 1]]), 0.9)
