"""Census of the counts that cannot be, while patterns stream past."""

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from ..core.scan import describe_invalid, is_invalid_count

logger = logging.getLogger(__name__)


class InvalidCounts:
    """Counts values that are not counts, and those at the largest value of their dtype, in a stream of patterns."""

    def __init__(self) -> None:
        self._values = self._patterns = self._done = self._greatest = 0
        self._first: tuple[int, ...] = ()
        self._kind = ""

    def watch(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield pieces ``(n, N, N)`` unchanged after counting."""
        for piece in chunks:
            bad = is_invalid_count(piece)
            if bad.any():
                if not self._values:
                    pattern, y, x = (int(index) for index in np.argwhere(bad)[0])
                    self._first, self._kind = (self._done + pattern, y, x), describe_invalid(piece[bad])
                self._values += int(bad.sum())
                self._patterns += int(bad.any((1, 2)).sum())
            if piece.dtype.kind in "ui" and piece.dtype.itemsize > 1:
                self._greatest += int((piece == np.iinfo(piece.dtype).max).sum())
            self._done += len(piece)
            yield piece

    def report(self, name: str) -> None:
        """Warn of what was counted, with the setting that acts on it."""
        if self._values:
            logger.warning(
                "%s: counts hold %d %s in %d patterns, the first at %s: pack stops there unless packing.invalid_counts "
                "is mask, drop or clip",
                *(name, self._values, self._kind, self._patterns, self._first),
            )
        if self._greatest:
            logger.warning(
                "%s: %d values are the largest of their type, saturated or flags: set packing.saturation to mask them",
                *(name, self._greatest),
            )
