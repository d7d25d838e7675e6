"""Whole batches of counts out of the scans: from memory maps by any process, or from a copy on the device."""

import itertools
import mmap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..core.arrays import as_tensor
from ..core.scan import Scan
from ..io.dataset import pieces
from ..runtime.gpu import out_of_memory_hint
from .batch import Batch, ScanTable


class Reading(NamedTuple):
    """What a loader hands over: as few bytes as there are.

    Attributes:
        rows: scan and members of each group, ordered by scan, ``(B, 1 + C)``.
        counts: as they are stored, ``(B, C, N, N)``; None where they lie on the device already.
    """

    rows: Tensor
    counts: Tensor | None


class GroupDataset(Dataset):
    """Reads groups out of scans; an index is a row ``(scan, member, member, ...)``, a batch one read per scan.

    Args:
        scans: what to read; their counts may be memory maps, which every process opens for itself.

    Raises:
        ValueError: if the scans have patterns of several sizes.
    """

    def __init__(self, scans: Sequence[Scan]) -> None:
        check_sizes(scans)
        self.size = scans[0].size
        self.dtype = np.result_type(*(scan.counts.dtype for scan in scans))
        self._counts = [_SharedCounts(scan.counts) for scan in scans]

    def __getitem__(self, row: np.ndarray) -> Reading:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[np.ndarray]) -> Reading:
        rows = np.asarray(rows)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        counts = np.empty((len(rows), rows.shape[1] - 1, self.size, self.size), self.dtype)
        for index, first, end in _runs(rows[:, 0]):
            source, members = self._counts[index].array, rows[first:end, 1:]
            if source.dtype == self.dtype:  # clip, because numpy reads to a buffer first where it may have to raise
                np.take(source, members, axis=0, out=counts[first:end], mode="clip")
            else:
                counts[first:end] = source[members]
        return Reading(torch.from_numpy(rows), torch.from_numpy(counts))


class RowDataset(Dataset):
    """Hands on which groups come next; their counts lie on the device."""

    def __getitem__(self, row: np.ndarray) -> Reading:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[np.ndarray]) -> Reading:
        return Reading(torch.from_numpy(np.asarray(rows)), None)


class ResidentCounts:
    """The counts of all scans on one device, in the dtype in which they are stored.

    Args:
        scans: what to copy, some megabytes at a time.
        device: where to.

    Raises:
        ValueError: if they do not fit, or have patterns of several sizes.
    """

    def __init__(self, scans: Sequence[Scan], device: torch.device | str) -> None:
        check_sizes(scans)
        lengths, size = [len(scan) for scan in scans], scans[0].size
        self._dtype = as_tensor(np.empty(0, np.result_type(*(scan.counts.dtype for scan in scans)))).dtype
        # torch computes with few unsigned types, but moves any
        with out_of_memory_hint("set runtime.counts_on_device to never"):
            self._patterns = torch.empty((sum(lengths), size, size), dtype=_signed(self._dtype), device=device)
        self._first = torch.tensor([0, *np.cumsum(lengths)[:-1]], device=device)
        done = 0
        for scan in scans:
            for piece in pieces(scan.counts):
                here = self._patterns[done : done + len(piece)]
                here.copy_(as_tensor(piece).to(self._dtype).view(here.dtype))
                done += len(piece)

    def read(self, rows: Tensor) -> Tensor:
        """The counts of groups, ``(B, C, N, N)``."""
        patterns = self._first[rows[:, 0]][:, None] + rows[:, 1:]
        found = self._patterns.index_select(0, patterns.flatten())
        return found.view(*patterns.shape, *found.shape[1:]).view(self._dtype)


def stored_bytes(scans: Sequence[Scan]) -> int:
    """How much room the counts of all scans take on a device."""
    return sum(scan.counts.size for scan in scans) * np.result_type(*(scan.counts.dtype for scan in scans)).itemsize


def read_batch(scans: Sequence[Scan], rows: np.ndarray, labels: bool = True, group_size: int | None = None) -> Batch:
    """Groups read and made ready at once, without a loader."""
    reading = GroupDataset(scans).__getitems__(rows)
    return ScanTable(scans, labels, group_size=group_size).batch(reading.counts, reading.rows)


def check_sizes(scans: Sequence[Scan]) -> None:
    """Refuse scans that no network can learn from together.

    Raises:
        ValueError: if their patterns differ in size.
    """
    sizes = {scan.name: scan.size for scan in scans}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"expected patterns of one size, got {sizes}: pack them with the same crop")


class _SharedCounts:
    """Counts that travel to another process as the name of their file where they have one."""

    def __init__(self, counts: np.ndarray) -> None:
        self._map = counts if isinstance(counts, np.memmap) and isinstance(counts.base, mmap.mmap) else None
        self.array = np.asarray(counts)

    def __reduce__(self) -> tuple:
        if self._map is None:
            return _SharedCounts, (self.array,)
        told = (self._map.filename, self._map.dtype, "r", self._map.offset, self._map.shape)
        return _reopen, told


def _reopen(*told) -> _SharedCounts:
    return _SharedCounts(np.memmap(*told))


def _runs(scan: np.ndarray) -> list[tuple[int, int, int]]:
    """Each scan of a batch with the first row of it and the one after its last."""
    edges = [0, *(np.flatnonzero(np.diff(scan)) + 1).tolist(), len(scan)]
    return [(int(scan[first]), first, end) for first, end in itertools.pairwise(edges) if end > first]


def _signed(dtype: torch.dtype) -> torch.dtype:
    return {torch.uint16: torch.int16, torch.uint32: torch.int32}.get(dtype, dtype)
