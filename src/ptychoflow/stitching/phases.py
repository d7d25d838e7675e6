"""The phase of every patch, from those it overlaps with."""

import numpy as np
from scipy.spatial import KDTree
from torch import Tensor

from ..io.patch_store import PatchSet
from ..physics.phase_synchronisation import Synchronised, neighbour_pairs, overlaps, synchronise

BATCH_BYTES = 1 << 26
"""Bytes of patches to hold at a time."""


def find_phases(patches: PatchSet, usable: np.ndarray, weights: Tensor, phase: str) -> Synchronised:
    """The phase factor of every usable patch.

    Args:
        patches: of the scan.
        usable: which of them to look at, ``(n,)``.
        weights: of the pixels of a patch, ``(S, S)``.
        phase: ``synchronise``, or ``none`` to find out only how well they agree as they are.
    """
    positions = patches.positions[usable]
    pairs = neighbour_pairs(positions, reach=patches.size)
    overlap, bound = _overlaps(patches, usable, weights.numpy(), pairs)
    found = synchronise(len(usable), pairs, overlap, bound)
    if phase == "synchronise":
        return found
    agreement = float(overlap.real.sum() / max(bound.sum(), 1e-30))
    return Synchronised(np.ones(len(usable), np.complex64), found.components, agreement)


def _overlaps(patches: PatchSet, usable: np.ndarray, weights: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Overlap and bound of every pair; near pairs come together, so that few patches are held at a time."""
    positions = patches.positions[usable]
    overlap, bound = np.zeros(len(pairs), complex), np.zeros(len(pairs))
    turn = np.empty(len(usable), np.int64)
    turn[KDTree(positions).indices] = np.arange(len(usable))
    order = np.argsort(turn[pairs[:, 0]], kind="stable")
    step = max(8, BATCH_BYTES // (12 * patches.size**2))
    for first in range(0, len(pairs), step):
        here = order[first : first + step]
        needed, local = np.unique(pairs[here], return_inverse=True)
        values = patches.take(usable[needed]) * weights
        shifts = np.round(positions[pairs[here, 1]] - positions[pairs[here, 0]]).astype(np.int64)
        overlap[here], bound[here] = overlaps(values, local.reshape(-1, 2), shifts)
    return overlap, bound
