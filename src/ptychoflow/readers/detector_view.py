"""How a pattern of a file becomes one of ours: dead pixels out, the beam to the middle, a square around it."""

from dataclasses import dataclass

import numpy as np

from ..core.scan import check_counts
from .lazy_stack import Stack

N_SAMPLED = 64
"""Patterns that are looked at to find the light and the dead pixels."""


@dataclass(frozen=True)
class View:
    """What is kept of each pattern.

    Attributes:
        file: what messages call the file.
        mask: True where a detector pixel counts, as the file lays it out, ``(H, W)``.
        corner: True where the direct beam lies at ``[0, 0]``.
        first: row and column of the kept square's first pixel, after the beam came to the middle; may lie outside.
        size: side of the kept square, px.
        square_counts: True where patterns are square roots of counts.
    """

    file: str
    mask: np.ndarray
    corner: bool
    first: tuple[int, int]
    size: int
    square_counts: bool = False

    def counts(self, patterns: Stack) -> Stack:
        """Every pattern as counts seen through this view, left on disk; float32 where they were amplitudes."""
        dtype = np.dtype(np.float32) if self.square_counts else patterns.dtype
        return patterns.map(self._see, (self.size, self.size), dtype)

    def seen_mask(self) -> np.ndarray:
        """The mask through this view; False outside the detector."""
        return self._cut(self.mask, False)

    @property
    def whole(self) -> bool:
        """Whether nothing is cut off or added."""
        return self.mask.shape == (self.size, self.size) and self.first == (0, 0)

    def _see(self, piece: np.ndarray) -> np.ndarray:
        if not self.mask.all():
            piece = np.where(self.mask, piece, np.zeros((), piece.dtype))
        check_counts(piece, f"{self.file}: counts")
        piece = self._cut(piece, 0)
        return np.square(piece, dtype=np.float32) if self.square_counts else piece

    def _cut(self, piece: np.ndarray, outside: float) -> np.ndarray:
        if self.corner:
            piece = np.fft.fftshift(piece, axes=(-2, -1))
        if self.whole:
            return piece
        edges = [(start, start + self.size) for start in self.first]
        inner = tuple(slice(max(0, start), max(0, stop)) for start, stop in edges)
        piece = piece[(..., *inner)]
        missing = [
            (max(0, -start), self.size - side - max(0, -start)) for (start, _), side in zip(edges, piece.shape[-2:])
        ]
        return np.pad(piece, [(0, 0)] * (piece.ndim - 2) + missing, constant_values=outside)


def look(patterns: Stack) -> np.ndarray:
    """Some patterns from all over the scan, ``(K, H, W)``."""
    return patterns[np.unique(np.linspace(0, len(patterns) - 1, N_SAMPLED).astype(int))]


def dead_pixels(sample: np.ndarray) -> np.ndarray:
    """Pixels that say in every pattern that they do not count: negative, NaN, or the greatest number there is."""
    if sample.dtype.kind == "f":
        return ~(sample >= 0).any(0)
    if sample.dtype.kind == "i":
        return (sample < 0).all(0)
    return (sample == np.iinfo(sample.dtype).max).all(0)


def beam_in_corner(mean: np.ndarray) -> bool:
    """Whether the light of a mean pattern lies around ``[0, 0]`` and its wrapped neighbours, not around the middle."""
    height, width = mean.shape
    middle = np.s_[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return bool(np.fft.fftshift(mean)[middle].sum() > mean[middle].sum())


def kept_square(
    shape: tuple[int, int], beam: tuple[float, float] | None, size: int | None
) -> tuple[tuple[int, int], int]:
    """First pixel and side of the square to keep.

    Args:
        shape: of the patterns, px.
        beam: pixel of the direct beam; the middle without it.
        size: side asked for, px; the whole pattern where it is square and the beam not told, else the largest square
            of even side around the beam that fits.

    Raises:
        ValueError: if the beam lies outside.
    """
    if size is None and beam is None and shape[0] == shape[1]:
        return (0, 0), shape[0]
    centre = [side // 2 if beam is None else int(np.floor(beam[i] + 0.5)) for i, side in enumerate(shape)]
    if not all(0 <= at < side for at, side in zip(centre, shape)):
        raise ValueError(f"the direct beam lies at {beam}, outside patterns of {shape} px: correct source.centre")
    if size is None:
        size = 2 * min(min(at, side - at) for at, side in zip(centre, shape))
    if size < 2:
        raise ValueError(f"the direct beam lies at the edge, {tuple(centre)} of {shape} px: give source.size")
    return (centre[0] - size // 2, centre[1] - size // 2), size
