"""Phases are found whatever the scan looks like, parts stay apart, and noise leaves what it must."""

import numpy as np
import pytest
from scipy.sparse import coo_array, eye_array
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from ptychoflow.physics.phase_synchronisation import neighbour_pairs, overlaps, synchronise


def _grid(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    return 8.0 * places + np.random.default_rng(seed).uniform(-2, 2, places.shape)


def _measured(pairs: np.ndarray, count: int, noise: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Phases and the overlaps that pairs of patches with those phases would have."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(-np.pi, np.pi, count)
    angle = phases[pairs[:, 0]] - phases[pairs[:, 1]] + rng.normal(0, noise, len(pairs))
    return phases, np.exp(1j * angle) * rng.uniform(0.5, 1, len(pairs))


def _left(factors: np.ndarray, phases: np.ndarray) -> float:
    """What is left of the phases after their removal, rad rms."""
    subpixel_shift = factors * np.exp(1j * phases)
    return float(np.sqrt(np.mean(np.angle(subpixel_shift * np.conj(subpixel_shift.mean())) ** 2)))


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (1, 40), (5, 5), (60, 70)])
def test_phases_without_noise_are_found_exactly(rows, columns):
    positions = _grid(rows, columns)
    pairs = neighbour_pairs(positions, 40)
    phases, overlap = _measured(pairs, len(positions), 0)
    found = synchronise(len(positions), pairs, overlap, np.abs(overlap))
    assert _left(found.factors, phases) < 1e-4 and found.agreement > 0.99999
    assert not found.components.any()


@pytest.mark.parametrize("offset", [1e7, 1e9, -1e11])
def test_neighbours_are_the_same_wherever_positions_are_counted_from(offset):
    positions = np.round(_grid(12, 15))
    np.testing.assert_array_equal(neighbour_pairs(positions + offset, 40), neighbour_pairs(positions, 40))


@pytest.mark.parametrize(("side", "noise"), [(100, 0.1), (100, 0.6), (316, 0.5)])
def test_of_noise_no_more_is_left_than_least_squares_leave(side, noise):
    """They know how often each measured angle has gone round, which only the truth tells; 100,000 take seconds."""
    positions = _grid(side, side)
    pairs = neighbour_pairs(positions, 40)
    assert 2.9 < len(pairs) / len(positions) < 3
    phases, overlap = _measured(pairs, len(positions), noise)
    found = synchronise(len(positions), pairs, overlap, np.abs(overlap))
    assert _left(found.factors, phases) < 1.05 * _least(pairs, overlap, phases)


def test_with_twelve_neighbours_a_noise_of_a_radian_leaves_no_whirl():
    positions = _grid(100, 100)
    pairs = KDTree(positions).query_pairs(17, output_type="ndarray")
    phases, overlap = _measured(pairs, len(positions), 1.0)
    found = synchronise(len(positions), pairs, overlap, np.abs(overlap))
    assert _left(found.factors, phases) < 1.25 * _least(pairs, overlap, phases)


def _least(pairs: np.ndarray, overlap: np.ndarray, phases: np.ndarray) -> float:
    """What weighted least squares leave where the true phases are taken off first, rad rms."""
    subpixel_shift = np.angle(overlap * np.exp(-1j * (phases[pairs[:, 0]] - phases[pairs[:, 1]])))
    rows, weight = np.arange(len(pairs)), np.abs(overlap)
    slopes = coo_array((np.repeat([1.0, -1.0], len(pairs)), (np.tile(rows, 2), pairs.T.ravel()))).tocsr()
    normal = slopes.T @ (weight[:, None] * slopes) + 1e-9 * eye_array(len(phases))
    solve = splu(normal.tocsc(), "MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True}).solve
    return float(np.std(solve(slopes.T @ (weight * subpixel_shift))))


def test_components_are_separated_and_the_largest_is_first():
    positions = np.concatenate([_grid(4, 5), _grid(9, 9) + 1000, [[500.0, 500.0]]])
    pairs = neighbour_pairs(positions, 40)
    phases, overlap = _measured(pairs, len(positions), 0)
    found = synchronise(len(positions), pairs, overlap, np.abs(overlap))
    assert found.components.tolist() == [1] * 20 + [0] * 81 + [2]
    for part in (slice(0, 20), slice(20, 101)):
        assert _left(found.factors[part], phases[part]) < 1e-4
    assert np.allclose(np.abs(found.factors), 1)


def test_lines_far_apart_hang_together():
    """A fly scan: a pixel along a line, twenty from line to line; the nearest of each patch are all on its own line."""
    positions = np.stack(np.meshgrid(20.0 * np.arange(6), np.arange(80.0), indexing="ij"), -1).reshape(-1, 2)
    pairs = neighbour_pairs(positions, 40)
    assert not synchronise(480, pairs, np.ones(len(pairs), complex), np.ones(len(pairs))).components.any()


@pytest.mark.parametrize(
    "positions", [[[3.0, 4.0]], [[1.0, 2.0]] * 5, [[0.0, 2.0 * k] for k in range(9)], [[0, 0], [9, 0], [9, 0]]]
)
def test_few_places_or_equal_ones_or_a_line_are_pairs_too(positions):
    positions = np.array(positions, float)
    pairs = neighbour_pairs(positions, 40)
    assert len(pairs) == len(positions) - 1
    assert not synchronise(len(positions), pairs, np.ones(len(pairs), complex), np.ones(len(pairs))).components.any()


@pytest.mark.parametrize("shift", [(0, 0), (2, -3), (-5, 1), (7, 7), (8, 0), (-9, 3)])
def test_overlaps_are_sums_over_shared_pixels(shift):
    rng = np.random.default_rng(2)
    image = rng.normal(size=(40, 40)) + 1j * rng.normal(size=(40, 40))
    first, second = image[16:24, 16:24], image[16 + shift[0] : 24 + shift[0], 16 + shift[1] : 24 + shift[1]]
    agreed, most = overlaps(np.stack([first, second]).astype(np.complex64), np.array([[0, 1]]), np.array([shift]))
    area = np.s_[max(shift[0], 0) : 8 + min(shift[0], 0), max(shift[1], 0) : 8 + min(shift[1], 0)]
    both = np.sum(np.abs(first[area]) ** 2) if max(map(abs, shift)) < 8 else 0
    assert agreed[0] == pytest.approx(both, abs=1e-4) and most[0] == pytest.approx(both, abs=1e-4)
