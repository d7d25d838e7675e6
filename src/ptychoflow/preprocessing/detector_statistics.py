"""What patterns say about their detector and their beam: noise, bad pixels, centre, how much neighbours overlap."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

LEAST_LIGHT = 0.02
"""Mean counts from which a pixel is lit at all."""
FAR_OUT = 8.0
"""Robust standard deviations from its neighbours' by which a pixel is hot."""
EXPECTED = 20.0
"""Counts over the whole sample that a pixel's neighbours must have for its silence to mean that it is dead."""


@dataclass(frozen=True)
class Detector:
    """What a sample of patterns says.

    Attributes:
        photons: mean, least and most of a pattern.
        fano: variance over mean of the dimmest lit pixels; 1 for photons counted one by one.
        whole: whether every value is a whole number.
        quantum: the step between values, where they have one: 1 for counts.
        hot: pixels ``(y, x)`` far above their neighbours.
        dead: pixels ``(y, x)`` that stay dark among lit ones.
        saturated: share of values at the greatest one that the type holds.
        beam: where the light lies on average, ``(y, x)`` px.
        corner: whether the direct beam lies at ``[0, 0]``.
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
    def noise(self) -> str:
        """The noise in words."""
        if not np.isfinite(self.fano):
            return "too few patterns to tell"
        if 0.8 <= self.fano <= 1.3:
            return "Poisson: photons counted one by one"
        if self.fano < 0.8:
            return "less than Poisson: amplitudes, or counts that were scaled or smoothed; set source.domain"
        return "more than Poisson: a gain, a background, or an unsteady beam"


def fano_factor(counts: np.ndarray) -> float:
    """Variance over mean of the pixels where patterns differ least: the dimmest quarter of the lit ones.

    Where patterns differ by what they show, the variance is larger; so of those pixels the lower half counts, and the
    factor is an upper bound for a scan that moves much. NaN where there are too few pixels or patterns.
    """
    mean, variance = counts.mean(0, dtype=np.float64), counts.var(0, dtype=np.float64, ddof=1) if len(counts) > 1 else 0
    lit = mean > LEAST_LIGHT
    if len(counts) < 16 or lit.sum() < 16:
        return float("nan")
    dim = lit & (mean <= np.quantile(mean[lit], 0.25))
    return float(np.quantile(variance[dim] / mean[dim], 0.35))


def quantum(counts: np.ndarray) -> float | None:
    """The step that all values are multiples of, or None: 1 for counts, a gain for scaled ones."""
    values = np.unique(counts[:64])
    values = values[values > 0]
    if len(values) < 2:
        return None
    step = float(np.diff(values[:512]).min())
    steps = values[:512] / step
    return step if step > 0 and np.abs(steps - np.rint(steps)).max() < 1e-3 else None


def hot_pixels(mean: np.ndarray) -> np.ndarray:
    """Pixels far above what stands around them, ``(K, 2)``."""
    amplitude = np.sqrt(mean)
    around = ndimage.median_filter(amplitude, footprint=_RING, mode="nearest")
    excess = amplitude - around
    spread = 1.4826 * ndimage.median_filter(abs(excess), size=7, mode="nearest") + 0.05 * around + 0.05
    return np.argwhere(excess > FAR_OUT * spread)


def silent_pixels(counts: np.ndarray) -> np.ndarray:
    """Pixels that never count although their neighbours do, ``(K, 2)``."""
    total = counts.sum(0, dtype=np.float64)
    around = ndimage.median_filter(total, footprint=_RING, mode="nearest")
    return np.argwhere((total == 0) & (around > EXPECTED))


def look_at_detector(counts: np.ndarray, mask: np.ndarray, corner: bool, beam: tuple[float, float]) -> Detector:
    """All of these at once.

    Args:
        counts: some patterns, the beam in the middle, ``(K, H, W)``.
        mask: True where a pixel counts; the others are not looked at.
        corner: whether the file keeps the beam in the corner.
        beam: where the light lies.
    """
    photons = counts.sum((1, 2), dtype=np.float64)
    good = np.where(mask, counts, 0)
    top = np.iinfo(counts.dtype).max if counts.dtype.kind in "ui" else np.inf
    return Detector(
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
    """Whether a pixel lies away from the direct beam, which may well be a sharp peak."""
    return bool(np.hypot(y - beam[0], x - beam[1]) > 4)


def beam_diameter(probe: np.ndarray, share: float = 0.9) -> float:
    """Diameter of the disc around its centre that holds ``share`` of the probe's light, px."""
    light = np.sum(np.abs(probe) ** 2, axis=0)
    y, x = np.indices(light.shape)
    centre = [(grid * light).sum() / light.sum() for grid in (y, x)]
    radius = np.hypot(y - centre[0], x - centre[1]).ravel()
    order = np.argsort(radius)
    inside = np.cumsum(light.ravel()[order])
    return 2 * float(radius[order][np.searchsorted(inside, share * inside[-1])])


def typical_step(positions: np.ndarray) -> float:
    """Median distance of a position to its nearest other one, px; 0 where they coincide."""
    if len(positions) < 2:
        return float("nan")
    return float(np.median(cKDTree(positions).query(positions, k=2)[0][:, 1]))


def disc_overlap(step: float, diameter: float) -> float:
    """Share of a disc that its copy ``step`` away covers."""
    ratio = min(1.0, step / diameter) if diameter > 0 else 1.0
    return float((2 / np.pi) * (np.arccos(ratio) - ratio * np.sqrt(1 - ratio**2)))


_RING = np.ones((3, 3), bool)
_RING[1, 1] = False
