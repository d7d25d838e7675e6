"""Patterns of a file as a scan needs them: dead pixels masked, the direct beam in the middle, a square around it."""

from dataclasses import dataclass

import numpy as np

from ..core.scan import check_counts
from ..io.lazy_stack import Stack

N_SAMPLED = 64
"""Patterns that are sampled to find the direct beam and the dead pixels."""


@dataclass(frozen=True)
class DetectorView:
    """The part of each pattern that is kept.

    Attributes:
        file: name of the file in messages.
        mask: True where a detector pixel is valid, in the layout of the file, ``(H, W)``.
        corner: True where the direct beam lies at ``[0, 0]``.
        first: row and column of the kept square's first pixel, after a shift of the beam to the middle; may lie
            outside.
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
        """Return the kept counts of every pattern, left on disk, ``(J, N, N)``; float32 where they were amplitudes."""
        dtype = np.dtype(np.float32) if self.square_counts else patterns.dtype
        return patterns.map(self._kept_counts, (self.size, self.size), dtype)

    def kept_mask(self) -> np.ndarray:
        """Return the mask of the kept square, ``(N, N)``; False outside the detector."""
        return self._cut(self.mask, False)

    @property
    def whole(self) -> bool:
        """True if nothing is cut off or added."""
        return self.mask.shape == (self.size, self.size) and self.first == (0, 0)

    def _kept_counts(self, piece: np.ndarray) -> np.ndarray:
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
        piece = piece[..., inner[0], inner[1]]
        missing = [
            (max(0, -start), self.size - side - max(0, -start)) for (start, _), side in zip(edges, piece.shape[-2:])
        ]
        return np.pad(piece, [(0, 0)] * (piece.ndim - 2) + missing, constant_values=outside)


def sample_patterns(patterns: Stack) -> np.ndarray:
    """Return up to ``N_SAMPLED`` patterns spread evenly over the scan, ``(K, H, W)``."""
    stored = np.arange(len(patterns)) if patterns.absent is None else np.flatnonzero(~patterns.absent)
    return patterns[stored[np.unique(np.linspace(0, len(stored) - 1, N_SAMPLED).astype(int))]]


def dead_pixels(sample: np.ndarray) -> np.ndarray:
    """Find pixels that are flagged invalid in every sampled pattern: negative, NaN, or the largest integer.

    Args:
        sample: patterns, ``(K, H, W)``.

    Returns:
        True where dead, ``(H, W)``.
    """
    if sample.dtype.kind == "f":
        return np.asarray(~(sample >= 0).any(0))
    if sample.dtype.kind == "i":
        return np.asarray((sample < 0).all(0))
    return np.asarray((sample == np.iinfo(sample.dtype).max).all(0))


def beam_in_corner(mean: np.ndarray) -> bool:
    """Return True if the intensity of a mean pattern ``(H, W)`` lies around ``[0, 0]`` (wrapped), not the middle."""
    height, width = mean.shape
    middle = np.s_[height // 4 : height - height // 4, width // 4 : width - width // 4]
    return bool(np.fft.fftshift(mean)[middle].sum() > mean[middle].sum())


def kept_square(
    shape: tuple[int, int], beam: tuple[float, float] | None, size: int | None
) -> tuple[tuple[int, int], int]:
    """Return first pixel and side of the square to keep.

    Args:
        shape: of the patterns, px.
        beam: pixel of the direct beam; None for the middle.
        size: requested side, px. None keeps the whole pattern if it is square and ``beam`` is None, else the largest
            square of even side around the beam that fits.

    Raises:
        ValueError: if the beam lies outside.
    """
    if size is None and beam is None and shape[0] == shape[1]:
        return (0, 0), shape[0]
    centre = [side // 2 if beam is None else int(np.floor(beam[i] + 0.5)) for i, side in enumerate(shape)]
    if not all(0 <= at < side for at, side in zip(centre, shape)):
        raise ValueError(f"direct beam at {beam} is outside patterns of {shape} px: correct source.centre")
    if size is None:
        size = 2 * min(min(at, side - at) for at, side in zip(centre, shape))
    if size < 2:
        raise ValueError(f"direct beam at the edge, {tuple(centre)} of {shape} px: give source.size")
    return (centre[0] - size // 2, centre[1] - size // 2), size
