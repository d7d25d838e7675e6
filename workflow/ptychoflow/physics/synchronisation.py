"""One phase for all patches: each is known up to a phase factor, and overlapping patches must agree."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree
from torch import Tensor

STEPS = 10
"""Steps of inverse iteration: each divides what is wrong by its eigenvalue over SHIFT."""
SHIFT = 1e-6
"""Added to the Laplacian so that it can be inverted, relative to its mean diagonal."""


@dataclass(frozen=True)
class Synchronised:
    """Phase factors that make patches agree.

    Attributes:
        factors: what to multiply each patch with, modulus 1, complex64, ``(n,)``.
        components: which connected part each patch belongs to, ``(n,)``; parts do not know each other's phase.
        agreement: how well overlapping patches then agree, 0 to 1: ``Re sum of overlaps / sum of their bounds``.
    """

    factors: np.ndarray
    components: np.ndarray
    agreement: float


def neighbour_pairs(positions: np.ndarray, reach: float, most: int = 8) -> np.ndarray:
    """Pairs to compare, each once: every patch with its ``most`` nearest within ``reach`` px, ``(p, 2)``."""
    count = min(most + 1, len(positions))
    distance, near = KDTree(positions).query(positions, k=range(1, count + 1), distance_upper_bound=reach)
    own = np.repeat(np.arange(len(positions)), count)
    known = np.isfinite(distance).ravel()
    pairs = np.sort(np.stack([own[known], near.ravel()[known]], axis=1), axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def overlaps(patches: Tensor, weights: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """How well pairs of patches agree where both lie, ``sum_r w_a w_b O_a conj(O_b)``, and the most that could be.

    Args:
        patches: first and second of each pair, complex, ``(2, p, S, S)``.
        weights: of each pixel, ``(2, p, S, S)``.
        shifts: position of the second less that of the first, whole px, int64, ``(p, 2)``.

    Returns:
        Overlaps, complex, and the same sum of moduli, real, ``(p,)`` each.
    """
    size = patches.shape[-1]
    line = torch.arange(size, device=patches.device)
    # pixel r of the first patch is pixel r - shift of the second
    rows, columns = line - shifts[:, :1], line - shifts[:, 1:]
    pixels = rows.clamp(0, size - 1)[:, :, None] * size + columns.clamp(0, size - 1)[:, None, :]
    both = ((rows == rows.clamp(0, size - 1))[:, :, None] & (columns == columns.clamp(0, size - 1))[:, None, :]).float()
    theirs, light = (a[1].flatten(1).gather(1, pixels.flatten(1)).view_as(a[0]) for a in (patches, weights))
    product = (both * light * weights[0]) * patches[0] * theirs.conj()
    return product.sum((1, 2)), product.abs().sum((1, 2))


def synchronise(count: int, pairs: np.ndarray, overlap: np.ndarray, bound: np.ndarray) -> Synchronised:
    """Solve for the phase factors under which all pairs agree best.

    The lowest eigenvector of the connection Laplacian ``D - W`` (Singer 2011, Angular synchronization by eigenvectors),
    by inverse iteration; each connected part has its own.

    Args:
        count: number of patches, n.
        pairs: indices, ``(p, 2)``.
        overlap: ``sum O_a conj(O_b)`` of each pair, complex, ``(p,)``.
        bound: the most that it could be, ``(p,)``.
    """
    # a poor agreement says less about the phase than its light suggests
    link = overlap * np.abs(overlap) / np.maximum(bound, 1e-30)
    known = np.abs(link) > 1e-6 * np.abs(link).max(initial=0)
    first, second, link = pairs[known, 0], pairs[known, 1], link[known]
    strength = coo_array((np.abs(link), (first, second)), (count, count))
    degree = strength.sum(0) + strength.sum(1)
    components = connected_components(strength, directed=False)[1]
    connection = coo_array((link, (first, second)), (count, count)).tocsc()
    scale = degree.mean() or 1.0
    laplacian = diags_array(degree / scale + SHIFT) - (connection + connection.conj().T) / scale
    solve = splu(laplacian.tocsc().astype(np.complex128)).solve
    vector = np.ones(count, np.complex128)
    for _ in range(STEPS):
        vector = solve(vector)
        vector /= np.maximum(np.abs(vector), 1e-30)
    for part in range(components.max(initial=0) + 1):
        mean = vector[components == part].sum()
        vector[components == part] *= mean.conj() / max(abs(mean), 1e-30)
    # the eigenvector holds each patch's own phase: what removes it is the conjugate
    factors = vector.conj()
    agreed = (factors[pairs[:, 0]] * overlap * factors[pairs[:, 1]].conj()).real.sum()
    return Synchronised(factors.astype(np.complex64), components, float(agreed / max(bound.sum(), 1e-30)))
