"""Detector model: from expected photons to recorded counts."""

import numpy as np
from torch import Tensor

from ..config import Detector
from ..physics.detector_response import point_spread_matrix, spread_counts
from .rng import seeded_rng


def detector_mask(detector: Detector, size: int, seed: int) -> np.ndarray | None:
    """Make the mask of a detector with dead pixels and a beamstop.

    A detector with dark counts has a mask in any case: without one no background can be fitted.

    Args:
        detector: fraction of dead pixels, diameter of the beamstop, dark counts.
        size: side N of a pattern, px.
        seed: of the scan.

    Returns:
        True where a pixel is valid, ``(N, N)``; None where all are and nothing is added to counts.

    Raises:
        ValueError: if none is.
    """
    if detector.dead_pixels == 0 and detector.beamstop_px == 0 and detector.dark_counts == 0:
        return None
    axis = np.arange(size) - size // 2
    behind = np.hypot(axis[:, None], axis) < detector.beamstop_px / 2
    mask = ~behind & (seeded_rng(seed, "mask").random((size, size)) >= detector.dead_pixels)
    if not mask.any():
        raise ValueError("simulation.detector: dead_pixels and beamstop_px leave no valid pixel: lower them")
    return mask


def blur_counts(expected: Tensor, sigma_px: float) -> Tensor:
    """Blur expected counts by a Gaussian point-spread function; counts beyond the edge are lost.

    Args:
        expected: photons, ``(..., N, N)``.
        sigma_px: standard deviation, px.

    Returns:
        Blurred counts, ``(..., N, N)``.
    """
    if sigma_px == 0:
        return expected
    return spread_counts(expected, point_spread_matrix(expected.shape[-1], sigma_px).to(expected))


def draw_counts(expected: np.ndarray, detector: Detector, mask: np.ndarray | None, seed: int, index: int) -> np.ndarray:
    """Draw the counts of one pattern: Poisson noise, read noise, saturation, mask.

    The random numbers are those of this seed and index alone: a pattern is the same whichever others are drawn before,
    after or beside it.

    Args:
        expected: photons, ``(N, N)``.
        detector: read noise and saturation.
        mask: True where a pixel is valid, ``(N, N)``.
        seed: of the scan.
        index: of the pattern.

    Returns:
        Counts, int64, ``(N, N)``.
    """
    rng = seeded_rng(seed, "noise", index)
    counts = rng.poisson(expected)
    if detector.read_noise > 0:
        counts = np.maximum(np.rint(counts + rng.normal(0, detector.read_noise, counts.shape)), 0).astype(np.int64)
    if detector.saturation is not None:
        counts = np.minimum(counts, detector.saturation)
    return counts if mask is None else counts * mask
