"""Reader of some patterns of a scan at a time, in the dtype of its file, without mapping the file into memory."""

import mmap
import os
from collections.abc import Iterator

import numpy as np


class CountReader:
    """Patterns of a scan by their numbers.

    Pages that are read through a memory map count as memory of the process for as long as the map is open. So a map is
    read like a file, into an array of its own; other arrays are indexed.

    Args:
        counts: ``(J, N, N)``, an array or a memory map.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self._counts = counts
        self._file: int | None = None
        self._offset = 0  # of the first pattern in the file, bytes
        if isinstance(counts, np.memmap) and _is_whole_map(counts):
            self._file = os.open(os.fspath(str(counts.filename)), os.O_RDONLY)
            self._offset = counts.offset

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read patterns.

        Args:
            rows: numbers of the patterns, int64, ``(b,)``.

        Returns:
            Counts as stored, ``(b, N, N)``.

        Raises:
            OSError: if the file has become shorter.
        """
        if self._file is None:
            return np.asarray(self._counts[rows])
        from ..physics.kernels.pie import read_patterns  # here: convert and pack need no torch

        patterns = np.empty((len(rows), *self._counts.shape[1:]), self._counts.dtype)
        pattern_bytes = self._counts.dtype.itemsize * int(np.prod(self._counts.shape[1:]))
        if read_patterns(self._file, self._offset, pattern_bytes, rows, patterns):
            return patterns
        ends = np.flatnonzero(np.diff(rows) != 1) + 1  # of runs of neighbours in the file
        for first, end in zip([0, *ends.tolist()], [*ends.tolist(), len(rows)], strict=True):
            if end > first:
                _read_exactly(self._file, patterns[first:end], self._offset + int(rows[first]) * pattern_bytes)
        return patterns

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Read all patterns in order, in blocks ``(b, N, N)`` of ``size`` and a last one."""
        for first in range(0, len(self._counts), size):
            yield self.read(np.arange(first, min(first + size, len(self._counts))))


def _is_whole_map(counts: np.memmap) -> bool:
    """Return True if an array is all of the map of a file, and files can be read at a place."""
    direct = isinstance(counts.base, mmap.mmap) and counts.flags.c_contiguous
    return direct and counts.filename is not None and hasattr(os, "preadv")


def _read_exactly(file: int, target: np.ndarray, offset: int) -> None:
    """Fill a contiguous array from a place in a file."""
    view, done = target.data.cast("B"), 0
    while done < len(view):
        count = os.preadv(file, [view[done:]], offset + done)
        if count == 0:
            raise OSError("the counts end too early: the dataset was changed while it was read, pack it again")
        done += count
