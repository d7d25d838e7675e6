"""Patterns that a virtual dataset really has: those which some existing source covers."""

from collections.abc import Iterable

import h5py
import numpy as np

LONGEST_SCAN = 10_000_000
"""Number of patterns up to which the missing ones are counted."""


def covered_patterns(shape: tuple[int, ...], space: h5py.h5s.SpaceID, available: int | None = None) -> np.ndarray:
    """Return True for each pattern that a selection in a virtual dataset covers, ``(J,)``.

    Args:
        shape: of the virtual dataset, ``(J, H, W)`` or ``(Jy, Jx, H, W)``.
        space: selection in it that one source fills.
        available: number of patterns that the source holds along its first axis, counted from the first that is
            mapped; None for all that are selected.
    """
    axes = [_selected(space, axis, shape[axis]) for axis in range(max(1, len(shape) - 2))]
    if available is not None:
        axes[0] = axes[0][:available]
    covered = np.zeros(shape[: len(axes)], bool)
    covered[np.ix_(*axes)] = True
    return covered.reshape(-1)


def first_selected(space: h5py.h5s.SpaceID) -> int:
    """Return the first index along the first axis that a selection in a source begins at."""
    return int(space.get_select_bounds()[0][0]) if space.get_select_type() == h5py.h5s.SEL_HYPERSLABS else 0


def written_patterns(data: h5py.Dataset) -> np.ndarray | None:
    """Return True for each pattern of a chunked dataset that was ever written, ``(J,)``; None where all were."""
    if not data.chunks or data.ndim < 3 or np.prod(data.shape[:-2], dtype=np.float64) > LONGEST_SCAN:
        return None
    scan = data.shape[:-2]
    expected = np.prod([-(-side // chunk) for side, chunk in zip(data.shape, data.chunks)], dtype=np.float64)
    if data.id.get_num_chunks() >= expected:
        return None
    written = np.zeros(scan, bool)
    for offset in _chunk_offsets(data):
        written[tuple(slice(at, at + chunk) for at, chunk in zip(offset[: len(scan)], data.chunks))] = True
    return None if written.all() else written.reshape(-1)


def _chunk_offsets(data: h5py.Dataset) -> Iterable[tuple[int, ...]]:
    offsets: list[tuple[int, ...]] = []
    data.id.chunk_iter(lambda info: offsets.append(info.chunk_offset))
    return offsets


def _selected(space: h5py.h5s.SpaceID, axis: int, side: int) -> np.ndarray:
    """Return the indices that a selection covers along an axis of ``side``."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
        return np.arange(side if space.get_select_type() == h5py.h5s.SEL_ALL else 0)
    if not space.is_regular_hyperslab():
        lowest, highest = (int(bound[axis]) for bound in space.get_select_bounds())
        return np.arange(lowest, min(highest + 1, side))
    start, stride, count, block = (int(part[axis]) for part in space.get_regular_hyperslab())
    starts = np.arange(start, min(start + stride * min(count, side), side), max(1, stride))  # counts may be unlimited
    indices = (starts[:, None] + np.arange(min(block, side))).ravel()
    return indices[indices < side]
