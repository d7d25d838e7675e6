"""Similarity of probes, independent of their position, global phase, intensity and the basis of their modes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from ..physics.propagation import near_field

UPSAMPLING = 4
"""Shifts are tried on a grid so many times finer than the pixels, then on a parabola through the best."""


@dataclass(frozen=True)
class ProbeSimilarity:
    """Similarity of two probes at their best shift.

    Attributes:
        value: from 0, orthogonal, to 1, the same but for shift, phase, intensity and basis of the modes.
        shift: ``(y, x)`` px from the first to the second.
        distance_m: distance by which the first was propagated.
    """

    value: float
    shift: tuple[float, float]
    distance_m: float = 0.0


def probe_similarity(first: np.ndarray, second: np.ndarray) -> ProbeSimilarity:
    """Compute the similarity of two probes.

    ``sqrt(sum_mn |<P_m, Q_n>|^2 / sqrt(sum |<P_m, P_n>|^2 sum |<Q_m, Q_n>|^2))`` at the best shift: the overlap of what
    the two do to any object, which no change of basis of the modes alters. For single modes the magnitude of their
    normalised overlap.

    Args:
        first: modes, ``(M, N, N)``.
        second: modes, ``(K, N, N)``.

    Returns:
        Similarity and shift.

    Raises:
        ValueError: if their sizes differ or one is all zeros.
    """
    _check_probes(first, second)
    spectra = [np.fft.fft2(probe) for probe in (first, second)]
    cross = spectra[0].conj()[:, None] * spectra[1][None]
    correlation = np.sum(np.abs(_upsampled(cross)) ** 2, (0, 1))
    row, column = np.unravel_index(np.argmax(correlation), correlation.shape)
    top, (y, x) = _parabola(correlation, (int(row), int(column)))
    length = correlation.shape[0]
    shift_y, shift_x = (float((p + length / 2) % length - length / 2) / UPSAMPLING for p in (y, x))
    return ProbeSimilarity(float(min(np.sqrt(top / (_norm(first) * _norm(second))), 1)), (shift_y, shift_x))


def similarity_at_best_focus(
    first: np.ndarray, second: np.ndarray, distances_m: Sequence[float], pixel_size_m: float, wavelength_m: float
) -> ProbeSimilarity:
    """Compute the greatest :func:`probe_similarity` over a range of propagation distances of the first probe.

    Args:
        first: modes, ``(M, N, N)``.
        second: modes, ``(K, N, N)``.
        distances_m: distances to try, m.
        pixel_size_m: side of a pixel, m.
        wavelength_m: wavelength, m.

    Returns:
        Similarity, shift and distance.
    """
    _check_probes(first, second)
    candidates = []
    for distance_m in distances_m:
        propagate = near_field(first.shape[-1], pixel_size_m, wavelength_m, float(distance_m))
        propagated = propagate(torch.from_numpy(np.ascontiguousarray(first, np.complex128))).numpy()
        similarity = probe_similarity(propagated, second)
        candidates.append(ProbeSimilarity(similarity.value, similarity.shift, float(distance_m)))
    return max(candidates, key=lambda candidate: candidate.value)


def clusters(similarities: np.ndarray, least: float) -> np.ndarray:
    """Cluster probes by their similarity, by average linkage.

    Args:
        similarities: of all pairs, ``(K, K)``, symmetric, 1 on the diagonal.
        least: least mean similarity of two clusters that are merged, 0 to 1.

    Returns:
        Cluster of each probe, from 1, ``(K,)``.

    Raises:
        ValueError: if the similarities are not a symmetric matrix.
    """
    distances = 1 - np.asarray(similarities, float)
    if distances.ndim != 2 or not np.allclose(distances, distances.T, atol=1e-6):
        raise ValueError(
            f"expected a symmetric matrix of similarities, got one of shape {np.shape(similarities)}: compare all pairs"
        )
    if len(distances) == 1:
        return np.array([1])
    np.fill_diagonal(distances, 0)
    return fcluster(linkage(squareform(distances, checks=False), "average"), 1 - least, "distance")


def _check_probes(first: np.ndarray, second: np.ndarray) -> None:
    if first.ndim != 3 or second.ndim != 3 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"expected modes (M, N, N) of one size, got probes of shape {first.shape} and {second.shape}")
    if not np.any(first) or not np.any(second):
        raise ValueError("probe is all zeros; similarity is undefined")


def _norm(probe: np.ndarray) -> float:
    flat = probe.reshape(len(probe), -1)
    return float(np.linalg.norm(flat.conj() @ flat.T))


def _upsampled(spectrum: np.ndarray) -> np.ndarray:
    """Return the correlation of a cross-spectrum, on a grid ``UPSAMPLING`` times as fine."""
    length = spectrum.shape[-1]
    before = (UPSAMPLING - 1) * length // 2
    pad = [(0, 0)] * (spectrum.ndim - 2) + [(before, (UPSAMPLING - 1) * length - before)] * 2
    wide = np.pad(np.fft.fftshift(spectrum, axes=(-2, -1)), pad)
    return np.fft.ifft2(np.fft.ifftshift(wide, axes=(-2, -1))) * UPSAMPLING**2


def _parabola(values: np.ndarray, peak: tuple[int, ...]) -> tuple[float, list[float]]:
    """Return height and place of the top of a peak, by a parabola along each axis."""
    top, place = float(values[peak]), []
    for axis in (0, 1):
        before, after = (
            float(np.take(np.take(values, peak[1 - axis], 1 - axis), peak[axis] + d, mode="wrap")) for d in (-1, 1)
        )
        curve = before - 2 * values[peak] + after
        step = 0.5 * (before - after) / curve if curve < 0 else 0.0
        top += -0.25 * (before - after) * step
        place.append(peak[axis] + step)
    return top, place
