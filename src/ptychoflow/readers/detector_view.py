"""Patterns of a file as a scan needs them: dead pixels masked, the direct beam in the middle, a square around it."""

from dataclasses import dataclass

import numpy as np

from ..core.scan import is_invalid_count
from ..io.lazy_stack import Stack

N_SAMPLED = 64
"""Patterns that are sampled to find the direct beam and the flagged pixels."""
FEWEST_SAMPLED = 8
"""Sampled patterns from which on a constant value tells a flag from counts."""
COUNTER_LIMITS = 2.0 ** np.array([8, 12, 14, 15, 16, 20, 24, 31, 32, 63, 64]) - 1
"""Largest values of counters that detectors have or programs store."""


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
        piece = self._cut(piece, 0)
        if not self.square_counts:
            return piece
        amplitude = piece.astype(np.float32)
        return np.square(np.where(amplitude < 0, np.nan, amplitude))  # a negative amplitude is as invalid as a count

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


def flagged_pixels(sample: np.ndarray) -> np.ndarray:
    """Find pixels that every sampled pattern flags as bad: module gaps, dead and switched-off pixels.

    Flags are NaN, infinity, negative values, the largest value of the dtype, and, in at least ``FEWEST_SAMPLED``
    patterns, one and the same value ``2**k - 1`` of a narrower counter (65535 of 16 bits in uint32, 2**32 - 1 in
    floats, which float32 rounds to 2**32): counts vary by their noise.

    Args:
        sample: patterns, ``(K, H, W)``.

    Returns:
        True where flagged, ``(H, W)``.
    """
    invalid = is_invalid_count(sample)
    if sample.dtype.kind in "ui":
        invalid |= sample == np.iinfo(sample.dtype).max
    flagged = invalid.all(0)
    if len(sample) < FEWEST_SAMPLED:
        return np.asarray(flagged)
    first = np.where(flagged, 0, sample[0]).astype(np.float64)
    flags = np.concatenate([COUNTER_LIMITS, COUNTER_LIMITS.astype(np.float32).astype(np.float64)])
    return np.asarray(flagged | ((sample == sample[0]).all(0) & np.isin(first, flags)))


def is_whole(sample: np.ndarray) -> bool:
    """Return True if every value of a sample that is a count is an integer, and some are above 1."""
    valid = sample[~is_invalid_count(sample)]
    return bool(valid.max(initial=0) > 1 and np.array_equal(valid, np.rint(valid)))


def mean_of_valid(counts: np.ndarray) -> np.ndarray:
    """Return the mean pattern ``(H, W)`` over the values that are counts; 0 where none is."""
    bad = is_invalid_count(counts)
    total = np.where(bad, 0, counts).sum(0, dtype=np.float64)
    return np.asarray(total / np.maximum((~bad).sum(0), 1))


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
        size: requested side, px. None keeps the side of a square pattern whose beam lies within an eighth of it from
            the middle, else the largest square of even side around the beam that fits.

    Raises:
        ValueError: if the beam lies outside.
    """
    square = shape[0] == shape[1]
    if size is None and beam is None and square:
        return (0, 0), shape[0]
    centre = [side // 2 if beam is None else int(np.floor(beam[i] + 0.5)) for i, side in enumerate(shape)]
    if not all(0 <= at < side for at, side in zip(centre, shape)):
        raise ValueError(f"direct beam at {beam} is outside patterns of {shape} px: correct source.centre")
    if size is None and square and max(abs(at - shape[0] // 2) for at in centre) <= shape[0] // 8:
        size = shape[0]  # the file's probe keeps its size; the few pixels that the detector lacks are masked
    if size is None:
        size = 2 * min(min(at, side - at) for at, side in zip(centre, shape))
    if size < 2:
        raise ValueError(f"direct beam at the edge, {tuple(centre)} of {shape} px: give source.size")
    return (centre[0] - size // 2, centre[1] - size // 2), size
