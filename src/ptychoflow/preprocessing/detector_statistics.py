"""Statistics of patterns and positions: noise, bad pixels, beam centre, beam diameter, overlap of neighbours."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

MIN_MEAN_COUNTS = 0.02
"""Least mean counts of a pixel that is used for the noise statistics."""
HOT_PIXEL_SIGMA = 8.0
"""Robust standard deviations above its neighbours beyond which a pixel is hot."""
MIN_NEIGHBOUR_COUNTS = 20.0
"""Counts over the whole sample beyond which a pixel's neighbours show that a pixel without counts is dead."""


@dataclass(frozen=True)
class DetectorStatistics:
    """Statistics of a sample of patterns.

    Attributes:
        photons: mean, minimum and maximum of the counts per pattern.
        fano: Fano factor, variance over mean, of the pixels with the fewest counts; 1 for Poisson noise.
        whole: True if every value is an integer.
        quantum: the step between values, where they have one: 1 for counts.
        hot: pixels ``(y, x)`` far above their neighbours.
        dead: pixels ``(y, x)`` without counts whose neighbours have some.
        saturated: share of values at the largest one of the dtype.
        beam: centre of mass of the intensity, ``(y, x)`` px.
        corner: True if the direct beam lies at ``[0, 0]``.
    """

    photons: tuple[float, float, float]
    fano: float
    whole: bool
    quantum: float | None
    hot: tuple[tuple[int, int], ...]
    dead: tuple[tuple[int, int], ...]
    saturated: float
    beam: tuple[float, float]
    corner: bool

    @property
    def is_poisson(self) -> bool:
        """True unless the Fano factor is known to differ from 1."""
        return not np.isfinite(self.fano) or 0.8 <= self.fano <= 1.3

    @property
    def noise(self) -> str:
        """Verdict on the noise, for people."""
        if not np.isfinite(self.fano):
            return "unknown: too few patterns"
        if self.is_poisson:
            return "Poisson: photon counts"
        if self.fano < 0.8:
            return "sub-Poisson: amplitudes, or scaled or smoothed counts; set source.domain"
        return "super-Poisson: a gain, a background, or a fluctuating beam"


def fano_factor(counts: np.ndarray) -> float:
    """Fano factor: variance over mean of the pixels where patterns differ least, the quarter with the fewest counts.

    Where patterns differ by the object, the variance is larger; so a low quantile over those pixels is taken, and the
    factor is an upper bound for a scan with large steps.

    Args:
        counts: patterns, ``(K, H, W)``.

    Returns:
        The factor; NaN for fewer than 16 patterns or pixels with counts.
    """
    mean = counts.mean(0, dtype=np.float64)
    used = mean > MIN_MEAN_COUNTS
    if len(counts) < 16 or used.sum() < 16:
        return float("nan")
    variance = counts.var(0, dtype=np.float64, ddof=1)
    weak = used & (mean <= np.quantile(mean[used], 0.25))
    return float(np.quantile(variance[weak] / mean[weak], 0.35))


def quantum(counts: np.ndarray) -> float | None:
    """Return the step that all values are multiples of, or None: 1 for counts, a gain for scaled ones."""
    values = np.unique(counts[:64])
    values = values[values > 0]
    if len(values) < 2:
        return None
    step = float(np.diff(values[:512]).min())
    steps = values[:512] / step
    return step if step > 0 and np.abs(steps - np.rint(steps)).max() < 1e-3 else None


def hot_pixels(mean: np.ndarray) -> np.ndarray:
    """Find pixels of a mean pattern ``(H, W)`` far above their neighbours, indices ``(K, 2)``."""
    amplitude = np.sqrt(mean)
    around = ndimage.median_filter(amplitude, footprint=_RING, mode="nearest")
    excess = amplitude - around
    sigma = 1.4826 * ndimage.median_filter(abs(excess), size=7, mode="nearest") + 0.05 * around + 0.05
    return np.argwhere(excess > HOT_PIXEL_SIGMA * sigma)


def silent_pixels(counts: np.ndarray) -> np.ndarray:
    """Find pixels of patterns ``(K, H, W)`` without counts although their neighbours have some, indices ``(K, 2)``."""
    total = counts.sum(0, dtype=np.float64)
    around = ndimage.median_filter(total, footprint=_RING, mode="nearest")
    return np.argwhere((total == 0) & (around > MIN_NEIGHBOUR_COUNTS))


def inspect_detector(
    counts: np.ndarray, mask: np.ndarray, corner: bool, beam: tuple[float, float]
) -> DetectorStatistics:
    """Compute all statistics of the detector from a sample of patterns.

    Args:
        counts: some patterns, the beam in the middle, ``(K, H, W)``.
        mask: True where a pixel is valid, ``(H, W)``; the others are ignored.
        corner: True if the file keeps the beam in the corner.
        beam: centre of mass of the intensity, ``(y, x)`` px.
    """
    photons = counts.sum((1, 2), dtype=np.float64)
    good = np.where(mask, counts, 0)
    top = np.iinfo(counts.dtype).max if counts.dtype.kind in "ui" else np.inf
    return DetectorStatistics(
        photons=(float(photons.mean()), float(photons.min()), float(photons.max())),
        fano=fano_factor(good),
        whole=counts.dtype.kind in "ui" or bool(np.array_equal(counts, np.rint(counts))),
        quantum=quantum(good),
        hot=tuple(
            (int(y), int(x)) for y, x in hot_pixels(good.mean(0, dtype=np.float64)) if mask[y, x] and _far(y, x, beam)
        ),
        dead=tuple((int(y), int(x)) for y, x in silent_pixels(good) if mask[y, x]),
        saturated=float(np.mean(counts == top)),
        beam=beam,
        corner=corner,
    )


def _far(y: int, x: int, beam: tuple[float, float]) -> bool:
    """Return True if a pixel lies away from the direct beam, which may well be a sharp peak."""
    return bool(np.hypot(y - beam[0], x - beam[1]) > 4)


def beam_diameter(probe: np.ndarray, share: float = 0.9) -> float:
    """Beam diameter: of the disc around its centre of mass that holds ``share`` of the probe intensity, px.

    Args:
        probe: modes, ``(M, N, N)``.
        share: of the intensity.
    """
    intensity = np.sum(np.abs(probe) ** 2, axis=0)
    y, x = np.indices(intensity.shape)
    centre = [(grid * intensity).sum() / intensity.sum() for grid in (y, x)]
    radius = np.hypot(y - centre[0], x - centre[1]).ravel()
    order = np.argsort(radius)
    inside = np.cumsum(intensity.ravel()[order])
    return 2 * float(radius[order][np.searchsorted(inside, share * inside[-1])])


def typical_step(positions: np.ndarray) -> float:
    """Median distance of positions ``(J, 2)`` to their nearest neighbour, px; NaN for a single one."""
    if len(positions) < 2:
        return float("nan")
    return float(np.median(cKDTree(positions).query(positions, k=2)[0][:, 1]))


def disc_overlap(step: float, diameter: float) -> float:
    """Overlap: share of a disc of ``diameter`` that its copy ``step`` away covers."""
    ratio = min(1.0, step / diameter) if diameter > 0 else 1.0
    return float((2 / np.pi) * (np.arccos(ratio) - ratio * np.sqrt(1 - ratio**2)))


_RING = np.ones((3, 3), bool)
_RING[1, 1] = False
