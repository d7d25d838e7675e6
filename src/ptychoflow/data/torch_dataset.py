"""Torch datasets that read whole batches of counts: from memory maps in any process, or from a copy on the device."""

import itertools
import mmap
from collections.abc import Sequence
from typing import Any, NamedTuple

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
    """The rows of a batch and their counts as stored, which a loader passes on.

    Attributes:
        rows: scan and members of each group, ordered by scan, ``(B, 1 + C)``.
        counts: photons as stored, ``(B, C, N, N)``; None where they are on the device already.
    """

    rows: Tensor
    counts: Tensor | None


class GroupDataset(Dataset):
    """Read groups from scans; an index is a row ``(scan, member, member, ...)``, a batch takes one read per scan.

    Args:
        scans: to read; their counts may be memory maps, which every process opens for itself.

    Raises:
        ValueError: if the scans have patterns of several sizes.
    """

    def __init__(self, scans: Sequence[Scan]) -> None:
        check_pattern_sizes(scans)
        self.size = scans[0].size
        self.dtype = np.result_type(*(scan.counts.dtype for scan in scans))
        self._counts = [_SharedCounts(scan.counts) for scan in scans]

    def __getitem__(self, row: np.ndarray) -> Reading:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[np.ndarray] | np.ndarray) -> Reading:
        return Reading(*self.read(np.asarray(rows)))

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Read groups.

        Args:
            rows: scan and members of each group, ``(B, 1 + C)``.

        Returns:
            The rows ordered by scan, and their counts, photons, ``(B, C, N, N)``.
        """
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        counts = np.empty((len(rows), rows.shape[1] - 1, self.size, self.size), self.dtype)
        for index, first, end in _runs(rows[:, 0]):
            source, members = self._counts[index].array, rows[first:end, 1:]
            if source.dtype == self.dtype:  # with mode="raise" numpy would read to a buffer first
                np.take(source, members, axis=0, out=counts[first:end], mode="clip")
            else:
                counts[first:end] = source[members]
        return torch.from_numpy(rows), torch.from_numpy(counts)


class RowDataset(Dataset):
    """Pass on rows alone; their counts are on the device."""

    def __getitem__(self, row: np.ndarray) -> Reading:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[np.ndarray] | np.ndarray) -> Reading:
        return Reading(torch.from_numpy(np.asarray(rows)), None)


class ResidentCounts:
    """Keep the counts of all scans on one device, in the dtype in which they are stored.

    Args:
        scans: to copy, some megabytes at a time.
        device: to copy to.

    Raises:
        ValueError: if they do not fit, or have patterns of several sizes.
    """

    def __init__(self, scans: Sequence[Scan], device: torch.device | str) -> None:
        check_pattern_sizes(scans)
        lengths, size = [len(scan) for scan in scans], scans[0].size
        self._dtype = as_tensor(np.empty(0, np.result_type(*(scan.counts.dtype for scan in scans)))).dtype
        # torch supports few operations on unsigned types: store the same bits as signed ones
        with out_of_memory_hint("set runtime.counts_on_device to never"):
            self._patterns = torch.empty((sum(lengths), size, size), dtype=_signed(self._dtype), device=device)
        self._first = torch.tensor([0, *np.cumsum(lengths)[:-1]], device=device)
        done = 0
        for scan in scans:
            for piece in pieces(scan.counts):
                target = self._patterns[done : done + len(piece)]
                target.copy_(as_tensor(piece).to(self._dtype).view(target.dtype))
                done += len(piece)

    def read(self, rows: Tensor) -> Tensor:
        """Return the counts of groups, photons, ``(B, C, N, N)``.

        Args:
            rows: scan and members of each group, ``(B, 1 + C)``, on the device.
        """
        patterns = self._first[rows[:, 0]][:, None] + rows[:, 1:]
        counts = self._patterns.index_select(0, patterns.flatten())
        return counts.view(*patterns.shape, *counts.shape[1:]).view(self._dtype)


def stored_bytes(scans: Sequence[Scan]) -> int:
    """Return the bytes that the counts of all scans take on a device."""
    return sum(scan.counts.size for scan in scans) * np.result_type(*(scan.counts.dtype for scan in scans)).itemsize


def read_batch(scans: Sequence[Scan], rows: np.ndarray, labels: bool = True, group_size: int | None = None) -> Batch:
    """Read groups and make a batch of them on the CPU, without a loader.

    Args:
        scans: to read.
        rows: scan and members of each group, ``(B, 1 + C)``.
        labels: add the ground truth.
        group_size: number of members that the network sees; all without it.
    """
    ordered, counts = GroupDataset(scans).read(rows)
    return ScanTable(scans, labels, group_size=group_size).batch(counts, ordered)


def check_pattern_sizes(scans: Sequence[Scan]) -> None:
    """Refuse scans that one network cannot learn from together.

    Raises:
        ValueError: if their patterns differ in size.
    """
    sizes = {scan.name: scan.size for scan in scans}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"expected patterns of one size, got {sizes}: pack them with the same crop")


class _SharedCounts:
    """Counts that are pickled as the name of their file where they have one."""

    def __init__(self, counts: np.ndarray) -> None:
        self._map = counts if isinstance(counts, np.memmap) and isinstance(counts.base, mmap.mmap) else None
        self.array = np.asarray(counts)

    def __reduce__(self) -> tuple:
        if self._map is None:
            return _SharedCounts, (self.array,)
        return _reopen, (self._map.filename, self._map.dtype, "r", self._map.offset, self._map.shape)


def _reopen(*arguments: Any) -> _SharedCounts:
    """Open a memory map again in another process."""
    return _SharedCounts(np.memmap(*arguments))


def _runs(scan: np.ndarray) -> list[tuple[int, int, int]]:
    """Return each scan of a batch with its first row and the row after its last."""
    edges = [0, *(np.flatnonzero(np.diff(scan)) + 1).tolist(), len(scan)]
    return [(int(scan[first]), first, end) for first, end in itertools.pairwise(edges) if end > first]


def _signed(dtype: torch.dtype) -> torch.dtype:
    return {torch.uint16: torch.int16, torch.uint32: torch.int32}.get(dtype, dtype)
