"""Which detector pixels are kept of each pattern, and how: masked, moved, cut, summed."""

import dataclasses
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..core.scan import Scan, is_invalid_count
from .cropping import centre, coarsen_far_field, crop, far_field_of

logger = logging.getLogger(__name__)

LIGHT_TO_LOSE = 0.01
"""Share of the beam outside the field of view beyond which a binned pattern is not what the probe makes."""


@dataclass(frozen=True)
class Pixels:
    """What becomes of the pixels of a pattern, in this order.

    Attributes:
        size: side of the patterns as they come, px.
        good: True where a pixel counts, ``(N, N)``, and 0 is written elsewhere; None where all do.
        shift: whole pixels ``(y, x)`` by which patterns are moved; what comes in from outside does not count.
        crop: side of the central square that is kept, px; None keeps all.
        bin: side of the squares of pixels that are summed into one.
    """

    size: int
    good: np.ndarray | None = None
    shift: tuple[int, int] = (0, 0)
    crop: int | None = None
    bin: int = 1

    def __post_init__(self) -> None:
        if self.cut > self.size:
            raise ValueError(f"packing.crop is {self.cut} px but the patterns are {self.size} px: crop to less")
        if self.cut % (2 * self.bin):
            raise ValueError(
                f"packing.binning is {self.bin}, which does not cut {self.cut} px into an even number of pixels: set "
                f"packing.crop to a multiple of {2 * self.bin}"
            )
        if max(map(abs, self.shift)) >= self.size or not self._counts_left().any():
            raise ValueError("no detector pixel is left that counts: mask fewer, or correct packing.centre")

    @property
    def cut(self) -> int:
        """Side of the square that is kept, before pixels are summed."""
        return self.size if self.crop is None else self.crop

    @property
    def keeps_all(self) -> bool:
        """Whether patterns stay as they are."""
        return self.good is None and self.shift == (0, 0) and self.cut == self.size and self.bin == 1

    def of_counts(self, patterns: np.ndarray) -> np.ndarray:
        """The patterns ``(n, N, N)`` as they are kept, ``(n, N', N')``."""
        if self.good is not None:
            patterns = np.where(self.good, patterns, patterns.dtype.type(0))
        return sum_squares(self._square(patterns), self.bin)

    def of_mask(self) -> np.ndarray | None:
        """True where a kept pixel counts, ``(N', N')``: all that were summed into it do; None where all do."""
        kept = self._counts_left()
        return None if kept.all() else kept

    def of_scan(self, scan: Scan) -> Scan:
        """The scan with geometry and probe of the patterns as they are kept; its counts only announce their shape."""
        kept = dataclasses.replace(scan, mask=None)
        if self.cut < self.size:
            kept = crop(kept, self.cut)
        if self.bin > 1:
            kept = self._coarsened(kept)
        side = self.cut // self.bin
        done = {"masked_pixels": 0 if self.good is None else int(np.sum(~self.good)), "moved_px": list(self.shift)}
        if self.bin > 1:
            done["summed_px"] = self.bin
        return dataclasses.replace(
            kept,
            counts=np.broadcast_to(np.zeros((), scan.counts.dtype), (len(scan), side, side)),
            mask=self.of_mask(),
            metadata=kept.metadata | {name: value for name, value in done.items() if np.any(value)},
        )

    def _counts_left(self) -> np.ndarray:
        good = np.ones((self.size, self.size), bool) if self.good is None else self.good
        return sum_squares(self._square(good[None])[0], self.bin) == self.bin**2

    def _coarsened(self, scan: Scan) -> Scan:
        probe = coarsen_far_field(scan.probe, self.bin)
        lost = 1 - float(np.sum(np.abs(probe) ** 2)) / scan.photons
        if lost > LIGHT_TO_LOSE:
            logger.warning(
                "%.1f %% of the beam lies outside the field of view that packing.binning %d leaves: the patterns will not "
                "be what the probe makes; bin less",
                100 * lost,
                self.bin,
            )
        return dataclasses.replace(scan, counts=scan.counts[:, : len(probe[0]), : len(probe[0])], probe=probe)

    def _square(self, patterns: np.ndarray) -> np.ndarray:
        """The central square of the moved patterns; 0 or False where it reaches beyond them."""
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
    """Sums over squares of ``side`` pixels, ``(..., N / side, N / side)``, in a dtype that holds them."""
    if side == 1:
        return patterns
    kind = patterns.dtype.kind
    dtype = np.float64 if kind == "f" else np.uint32 if patterns.dtype.itemsize <= 2 else np.uint64
    total = 0
    for y in range(side):
        for x in range(side):
            total = total + patterns[..., y::side, x::side].astype(dtype)
    return total


@dataclass(frozen=True)
class Survey:
    """What a first pass over all patterns finds.

    Attributes:
        mean: mean counts of each pixel over the values that are possible, ``(N, N)``.
        impossible: True where a pixel holds NaN, infinity or a negative value in any pattern, ``(N, N)``.
        saturated: True where a pixel reaches the saturation in any pattern, ``(N, N)``.
        flawed: True for each pattern that holds an impossible value, ``(J,)``.
    """

    mean: np.ndarray
    impossible: np.ndarray
    saturated: np.ndarray
    flawed: np.ndarray


def survey(chunks: Iterable[np.ndarray], shape: tuple[int, int, int], saturation: int | None = None) -> Survey:
    """Look at all patterns once, in pieces ``(n, N, N)``; without any pieces nothing is found.

    Args:
        chunks: the patterns.
        shape: of all patterns, ``(J, N, N)``.
        saturation: photons at which a pixel is saturated.
    """
    total, seen = np.zeros(shape[1:]), np.zeros(shape[1:], np.int64)
    never, saturated, flawed = np.zeros(shape[1:], bool), np.zeros(shape[1:], bool), np.zeros(shape[0], bool)
    done = 0
    for piece in chunks:
        bad = is_invalid_count(piece)
        total += np.where(bad, 0, piece).sum(0, dtype=np.float64)
        seen += (~bad).sum(0)
        never |= bad.any(0)
        flawed[done : done + len(piece)] = bad.any((1, 2))
        if saturation is not None:
            saturated |= (piece >= saturation).any(0)
        done += len(piece)
    return Survey(total / np.maximum(seen, 1), never, saturated, flawed)


def displacement(mean: np.ndarray, probe: np.ndarray, good: np.ndarray | None = None) -> tuple[int, int]:
    """How far the patterns lie from where the probe puts them: whole pixels ``(y, x)``.

    The best match of the mean pattern with the far field of the probe, both as amplitudes.

    Args:
        mean: mean pattern, ``(N, N)``.
        probe: modes, ``(M, N, N)``.
        good: True where a pixel counts.
    """
    seen = np.sqrt(mean if good is None else np.where(good, mean, 0))
    expected = np.sqrt(np.sum(np.abs(far_field_of(probe)) ** 2, axis=0))
    match = np.fft.ifft2(np.fft.fft2(seen) * np.fft.fft2(expected).conj()).real
    best = np.unravel_index(np.argmax(match), match.shape)
    return tuple(int((at + side // 2) % side - side // 2) for at, side in zip(best, match.shape))
