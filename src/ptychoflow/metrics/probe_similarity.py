"""How alike probes are, whatever their place, global phase, brightness and the order of their modes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from ..physics.propagation import near_field

FINER = 4
"""Shifts are tried on a grid so many times finer than the pixels, then on a parabola through the best."""


@dataclass(frozen=True)
class ProbeSimilarity:
    """How alike two probes are where they are most alike.

    Attributes:
        value: from 0, nothing in common, to 1, the same but for what does not count.
        shift: ``(y, x)`` px by which the second lies off the first.
        distance_m: how far the first was propagated to become most like the second.
    """

    value: float
    shift: tuple[float, float]
    distance_m: float = 0.0


def probe_similarity(first: np.ndarray, second: np.ndarray) -> ProbeSimilarity:
    """Compare two probes.

    ``sqrt(sum_mn |<P_m, Q_n>|^2 / sqrt(sum |<P_m, P_n>|^2 sum |<Q_m, Q_n>|^2))`` at the best shift: the overlap of what
    the two do to any object, which no change of basis of the modes alters. For single modes the magnitude of their
    normalised overlap.

    Args:
        first: modes, ``(M, N, N)``.
        second: modes, ``(K, N, N)``.

    Raises:
        ValueError: if their sizes differ or one is empty.
    """
    _check(first, second)
    spectra = [np.fft.fft2(probe) for probe in (first, second)]
    cross = spectra[0].conj()[:, None] * spectra[1][None]
    overlaps = np.sum(np.abs(_finer(cross)) ** 2, (0, 1))
    peak = np.unravel_index(np.argmax(overlaps), overlaps.shape)
    top, place = _parabola(overlaps, peak)
    length = overlaps.shape[0]
    shift = tuple(float((p + length / 2) % length - length / 2) / FINER for p in place)
    return ProbeSimilarity(float(min(np.sqrt(top / (_norm(first) * _norm(second))), 1)), shift)


def similarity_at_best_focus(
    first: np.ndarray, second: np.ndarray, distances_m: Sequence[float], pixel_size_m: float, wavelength_m: float
) -> ProbeSimilarity:
    """The greatest :func:`probe_similarity` that the first probe has on its way, propagated by each of some distances."""
    _check(first, second)
    found = []
    for distance_m in distances_m:
        propagate = near_field(first.shape[-1], pixel_size_m, wavelength_m, float(distance_m))
        there = propagate(torch.from_numpy(np.ascontiguousarray(first, np.complex128))).numpy()
        found.append((probe_similarity(there, second), float(distance_m)))
    best, distance_m = max(found, key=lambda each: each[0].value)
    return ProbeSimilarity(best.value, best.shift, distance_m)


def clusters(likenesses: np.ndarray, least: float) -> np.ndarray:
    """The group of each probe, from 1: those whose members are on average at least so much alike.

    Args:
        likenesses: of each with each, ``(K, K)``, symmetric, 1 on the diagonal.
        least: 0 to 1.
    """
    apart = 1 - np.asarray(likenesses, float)
    if not np.allclose(apart, apart.T, atol=1e-6) or apart.ndim != 2:
        raise ValueError(f"likenesses of shape {np.shape(likenesses)} are not symmetric: compare each with each")
    if len(apart) == 1:
        return np.array([1])
    np.fill_diagonal(apart, 0)
    return fcluster(linkage(squareform(apart, checks=False), "average"), 1 - least, "distance")


def _check(first: np.ndarray, second: np.ndarray) -> None:
    if first.ndim != 3 or second.ndim != 3 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"probes of shape {first.shape} and {second.shape}: expected modes (M, N, N) of one size")
    if not np.any(first) or not np.any(second):
        raise ValueError("a probe is zero everywhere: it is like nothing")


def _norm(probe: np.ndarray) -> float:
    flat = probe.reshape(len(probe), -1)
    return float(np.linalg.norm(flat.conj() @ flat.T))


def _finer(spectrum: np.ndarray) -> np.ndarray:
    """The correlation that a cross-spectrum stands for, on a grid ``FINER`` times as fine."""
    length = spectrum.shape[-1]
    before = (FINER - 1) * length // 2
    pad = [(0, 0)] * (spectrum.ndim - 2) + [(before, (FINER - 1) * length - before)] * 2
    wide = np.pad(np.fft.fftshift(spectrum, axes=(-2, -1)), pad)
    return np.fft.ifft2(np.fft.ifftshift(wide, axes=(-2, -1))) * FINER**2


def _parabola(values: np.ndarray, peak: tuple[int, ...]) -> tuple[float, list[float]]:
    """Height and place of the top of a peak, by a parabola along each axis."""
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
