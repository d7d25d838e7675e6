"""Signs of the near field in patterns: shadows of the sample that move across the detector with the scan."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..io.count_reader import CountReader

N_PAIRS = 64
"""Pairs of neighbouring patterns that are compared."""
MIN_EXPLAINED = 0.9
"""Share of the variance of displacements that the positions must explain."""
MIN_DISPLACEMENT_PX = 1.0
"""Least median displacement from which shadows move."""


@dataclass(frozen=True)
class MovingShadows:
    """Shadows that move with the scan.

    Attributes:
        scale: displacement in detector px for a step of 1 in the unit of the positions; that in object px is 1 in the
            near field.
        explained: share of the variance of the displacements that the positions explain.
    """

    scale: float
    explained: float


def find_moving_shadows(counts: np.ndarray, positions: np.ndarray) -> MovingShadows | None:
    """Compare neighbouring patterns, each divided by the mean pattern, for features that move with the scan.

    Patterns of a beam that diverges from a focus far before the sample do so too, in the far field as well: the near
    field they are only where far-field lengths make no sense.

    Args:
        counts: ``(J, N, N)``.
        positions: ``(J, 2)``, in any unit.

    Returns:
        Scale of the displacements, or None where shadows do not move with the scan.
    """
    first, second = _pairs(positions)
    if len(first) < 8:
        return None
    used, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    spectra = np.fft.fft2(_features(CountReader(counts).read(used).astype(np.float64)))
    moves = np.stack([_displacement(spectra[i], spectra[j]) for i, j in places.reshape(2, -1).T])
    steps = positions[second] - positions[first]
    # the matrix of any orientation and scale, fitted to the half of the pairs that it explains best
    kept = np.full(len(moves), True)
    for _ in range(5):
        matrix = np.linalg.lstsq(steps[kept], moves[kept], rcond=None)[0]
        error = ((moves - steps @ matrix) ** 2).sum(1)
        kept = error <= np.median(error)
    explained = 1 - float(np.median(error) / max(float(np.median((moves**2).sum(1))), 1e-30))
    moving = np.median(np.hypot(*moves.T)) >= MIN_DISPLACEMENT_PX
    scale = float(np.sqrt(abs(np.linalg.det(matrix))))
    return MovingShadows(scale, explained) if moving and explained >= MIN_EXPLAINED and scale > 0 else None


def _pairs(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some patterns, and the nearest other position of each that is not the same."""
    some = np.unique(np.linspace(0, len(positions) - 1, min(len(positions), N_PAIRS)).astype(int))
    distance, near = cKDTree(positions).query(positions[some], k=min(len(positions), 4))
    apart = np.where(distance > 1e-3 * distance.max(), distance, np.inf)
    nearest = apart.argmin(1)
    known = np.isfinite(apart.min(1))
    return some[known], near[np.arange(len(some)), nearest][known]


def _features(patterns: np.ndarray) -> np.ndarray:
    """Return what patterns show beyond their mean, each pixel in units of its noise, ``(K, N, N)``."""
    mean = patterns.mean(0)
    return np.where(mean > 1e-3 * mean.max(), (patterns - mean) / np.sqrt(np.maximum(mean, 1)), 0)


def _displacement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the displacement ``(y, x)`` of the second pattern's features from the first's, px, by their spectra."""
    correlation = np.fft.ifft2(second * first.conj()).real
    peak = np.array(np.unravel_index(int(np.argmax(correlation)), correlation.shape))
    return np.where(peak > np.array(correlation.shape) // 2, peak - correlation.shape, peak).astype(float)
