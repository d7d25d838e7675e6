"""Detector pixels of each pattern: masking, centring, cropping and binning, and the statistics that they need."""

import dataclasses
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.scan import Scan, is_invalid_count
from .cropping import centre, coarsen_far_field, crop, far_field_of

logger = logging.getLogger(__name__)

MAX_LOST_SHARE = 0.01
"""Share of the probe's photons outside the field of view beyond which binned patterns do not match the probe."""

OUTLIER_FACTOR, OUTLIER_SIGMA = 4.0, 8.0
"""Ratio to the median counts, and robust standard deviations of their logarithm, beyond which a pattern is outlying."""


@dataclass(frozen=True)
class Pixels:
    """The operations on the pixels of a pattern, in this order.

    Attributes:
        size: side N of the patterns before, px.
        good: True where a pixel is valid, ``(N, N)``, and 0 is written elsewhere; None where all are.
        shift: whole pixels ``(y, x)`` by which patterns are moved; pixels moved in from outside are invalid.
        crop: side of the central square that is kept, px; None keeps all.
        binning: side of the squares of pixels that are summed into one.
    """

    size: int
    good: np.ndarray | None = None
    shift: tuple[int, int] = (0, 0)
    crop: int | None = None
    binning: int = 1

    def __post_init__(self) -> None:
        if self.cut > self.size:
            raise ValueError(f"packing.crop is {self.cut} px, but the patterns have {self.size} px: crop to less")
        if self.cut % (2 * self.binning):
            raise ValueError(
                f"packing.binning is {self.binning}, which does not divide {self.cut} px into an even number of "
                f"pixels: set packing.crop to a multiple of {2 * self.binning}"
            )
        if max(map(abs, self.shift)) >= self.size or not self._counts_left().any():
            raise ValueError("every detector pixel is masked: mask fewer pixels, or correct packing.centre")

    @property
    def cut(self) -> int:
        """Side of the kept square before binning, px."""
        return self.size if self.crop is None else self.crop

    @property
    def keeps_all(self) -> bool:
        """True if patterns stay unchanged."""
        return self.good is None and self.shift == (0, 0) and self.cut == self.size and self.binning == 1

    def of_counts(self, patterns: np.ndarray) -> np.ndarray:
        """Mask, move, crop and bin patterns, ``(n, N, N)`` to ``(n, N', N')``."""
        if self.good is not None:
            patterns = np.where(self.good, patterns, patterns.dtype.type(0))
        return sum_squares(self._square(patterns), self.binning)

    def of_mask(self) -> np.ndarray | None:
        """Return the mask of kept pixels, ``(N', N')``: valid if all that are summed into it are; None if all are."""
        kept = self._counts_left()
        return None if kept.all() else kept

    def of_scan(self, scan: Scan) -> Scan:
        """Return the scan with geometry, probe and mask of the kept patterns; its counts only carry their shape."""
        kept = dataclasses.replace(scan, mask=None)
        if self.cut < self.size:
            kept = crop(kept, self.cut)
        if self.binning > 1:
            kept = self._coarsened(kept)
        side = self.cut // self.binning
        done: dict[str, Any] = {"masked_pixels": 0 if self.good is None else int(np.sum(~self.good))}
        done["moved_px"] = list(self.shift)
        if self.binning > 1:
            done["summed_px"] = self.binning
        return dataclasses.replace(
            kept,
            counts=np.broadcast_to(np.zeros((), scan.counts.dtype), (len(scan), side, side)),
            mask=self.of_mask(),
            metadata=kept.metadata | {name: value for name, value in done.items() if np.any(value)},
        )

    def _counts_left(self) -> np.ndarray:
        good = np.ones((self.size, self.size), bool) if self.good is None else self.good
        return sum_squares(self._square(good[None])[0], self.binning) == self.binning**2

    def _coarsened(self, scan: Scan) -> Scan:
        probe = coarsen_far_field(scan.probe, self.binning)
        lost = 1 - float(np.sum(np.abs(probe) ** 2)) / scan.photons
        if lost > MAX_LOST_SHARE:
            logger.warning(
                "%.1f %% of the probe's photons lie outside the field of view that packing.binning %d leaves, so "
                "patterns will not match the probe: reduce packing.binning",
                100 * lost,
                self.binning,
            )
        return dataclasses.replace(scan, counts=scan.counts[:, : len(probe[0]), : len(probe[0])], probe=probe)

    def _square(self, patterns: np.ndarray) -> np.ndarray:
        """Return the central square of the moved patterns; 0 or False where it reaches beyond them."""
        window = centre(self.size, self.cut)
        spans = [(window.start - step, window.stop - step) for step in self.shift]
        inner = tuple(slice(max(0, first), max(0, end)) for first, end in spans)
        patterns = patterns[(slice(None), *inner)]
        before = [max(0, -first) for first, _ in spans]
        after = [self.cut - side - gap for side, gap in zip(patterns.shape[1:], before)]
        if not any(before) and not any(after):
            return patterns
        return np.pad(patterns, [(0, 0), *zip(before, after)])


def sum_squares(patterns: np.ndarray, side: int) -> np.ndarray:
    """Sum patterns over squares of ``side`` pixels, ``(..., N / side, N / side)``, in a dtype that holds the sums."""
    if side == 1:
        return patterns
    kind = patterns.dtype.kind
    dtype = np.float64 if kind == "f" else np.uint32 if patterns.dtype.itemsize <= 2 else np.uint64
    total: Any = 0
    for y in range(side):
        for x in range(side):
            total = total + patterns[..., y::side, x::side].astype(dtype)
    return np.asarray(total)


@dataclass(frozen=True)
class Survey:
    """Statistics of all patterns.

    Attributes:
        mean: mean counts of each pixel over its valid values, ``(N, N)``.
        impossible: True where a pixel holds NaN, infinity or a negative value in any pattern, ``(N, N)``.
        saturated: True where a pixel reaches the saturation in any pattern, ``(N, N)``.
        flawed: True for each pattern with an impossible value, ``(J,)``.
        totals: counts of each pattern on its valid pixels, ``(J,)``.
    """

    mean: np.ndarray
    impossible: np.ndarray
    saturated: np.ndarray
    flawed: np.ndarray
    totals: np.ndarray


def survey(chunks: Iterable[np.ndarray], shape: tuple[int, int, int], saturation: int | None = None) -> Survey:
    """Compute the statistics of all patterns in one pass.

    Args:
        chunks: the patterns in pieces ``(n, N, N)``; without any, every statistic is zero or False.
        shape: of all patterns, ``(J, N, N)``.
        saturation: photons at which a pixel is saturated.
    """
    total, seen = np.zeros(shape[1:]), np.zeros(shape[1:], np.int64)
    never, saturated, flawed = np.zeros(shape[1:], bool), np.zeros(shape[1:], bool), np.zeros(shape[0], bool)
    totals = np.zeros(shape[0])
    done = 0
    for piece in chunks:
        bad = is_invalid_count(piece)
        valid = np.where(bad, 0, piece)
        total += valid.sum(0, dtype=np.float64)
        totals[done : done + len(piece)] = valid.sum((1, 2), dtype=np.float64)
        seen += (~bad).sum(0)
        never |= bad.any(0)
        flawed[done : done + len(piece)] = bad.any((1, 2))
        if saturation is not None:
            saturated |= (piece >= saturation).any(0)
        done += len(piece)
    return Survey(total / np.maximum(seen, 1), never, saturated, flawed, totals)


def outlying_patterns(totals: np.ndarray) -> np.ndarray:
    """Return True for patterns whose total counts lie far from the others', ``(J,)``.

    Far is a factor of ``OUTLIER_FACTOR``, and ``OUTLIER_SIGMA`` robust standard deviations of the logarithm.

    Args:
        totals: counts of each pattern, ``(J,)``.
    """
    if not np.any(totals > 0):
        return np.zeros(len(totals), bool)
    logarithm = np.log(np.maximum(totals, 1e-3 * np.median(totals[totals > 0])))
    deviation = abs(logarithm - np.median(logarithm))
    sigma = 1.4826 * float(np.median(deviation))
    return np.asarray(deviation > max(np.log(OUTLIER_FACTOR), OUTLIER_SIGMA * sigma))


def displacement(mean: np.ndarray, probe: np.ndarray, good: np.ndarray | None = None) -> tuple[int, int]:
    """Compute the shift of the patterns against the far field of the probe, whole pixels ``(y, x)``.

    It is the maximum of the cross-correlation of the two, both as amplitudes.

    Args:
        mean: mean pattern, ``(N, N)``.
        probe: modes, ``(M, N, N)``.
        good: True where a pixel is valid, ``(N, N)``; None where all are.
    """
    measured = np.sqrt(mean if good is None else np.where(good, mean, 0))
    expected = np.sqrt(np.sum(np.abs(far_field_of(probe)) ** 2, axis=0))
    correlation = np.fft.ifft2(np.fft.fft2(measured) * np.fft.fft2(expected).conj()).real
    best = np.unravel_index(np.argmax(correlation), correlation.shape)
    y, x = (int((at + side // 2) % side - side // 2) for at, side in zip(best, correlation.shape))
    return y, x
