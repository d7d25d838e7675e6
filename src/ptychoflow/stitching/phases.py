"""Phase factors of the patches of a scan, from their overlaps."""

import numpy as np
from scipy.spatial import KDTree
from torch import Tensor

from ..io.patch_store import PatchSet
from ..physics.phase_synchronisation import Synchronised, neighbour_pairs, overlaps, synchronise

BATCH_BYTES = 1 << 26
"""Bytes of patches to hold at a time."""


def find_phases(patches: PatchSet, usable: np.ndarray, weights: Tensor, phase: str) -> Synchronised:
    """Find the phase factor of every usable patch.

    Args:
        patches: of the scan.
        usable: indices of the patches to take, ``(n,)``.
        weights: of the pixels of a patch, ``(S, S)``.
        phase: ``synchronise``, or ``none`` to compute only their agreement as they are.

    Returns:
        Phase factors, connected components and agreement.
    """
    positions = patches.positions[usable]
    pairs = neighbour_pairs(positions, reach=patches.size)
    overlap, bound = _overlaps(patches, usable, weights.numpy(), pairs)
    synchronised = synchronise(len(usable), pairs, overlap, bound)
    if phase == "synchronise":
        return synchronised
    agreement = float(overlap.real.sum() / max(bound.sum(), 1e-30))
    return Synchronised(np.ones(len(usable), np.complex64), synchronised.components, agreement)


def _overlaps(patches: PatchSet, usable: np.ndarray, weights: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Compute overlap and bound of every pair, near pairs together, so that few patches are held at a time."""
    positions = patches.positions[usable]
    overlap, bound = np.zeros(len(pairs), complex), np.zeros(len(pairs))
    rank = np.empty(len(usable), np.int64)
    rank[KDTree(positions).indices] = np.arange(len(usable))
    order = np.argsort(rank[pairs[:, 0]], kind="stable")
    step = max(8, BATCH_BYTES // (12 * patches.size**2))
    for first in range(0, len(pairs), step):
        batch = order[first : first + step]
        needed, local = np.unique(pairs[batch], return_inverse=True)
        values = patches.take(usable[needed]) * weights
        shifts = np.round(positions[pairs[batch, 1]] - positions[pairs[batch, 0]]).astype(np.int64)
        overlap[batch], bound[batch] = overlaps(values, local.reshape(-1, 2), shifts)
    return overlap, bound
