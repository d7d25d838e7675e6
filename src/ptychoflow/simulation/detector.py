"""Detectors to simulate: what becomes of expected photons between the sensor and the file."""

import numpy as np
import torch
from torch import Tensor

from ..config import Detector
from .rng import seeded_rng


def detector_mask(detector: Detector, size: int, seed: int) -> np.ndarray | None:
    """True where a pixel counts, ``(size, size)``: neither dead nor behind the beamstop; None where all do."""
    if detector.dead_pixels == 0 and detector.beamstop_px == 0:
        return None
    axis = np.arange(size) - size // 2
    behind = np.hypot(axis[:, None], axis) < detector.beamstop_px / 2
    mask = ~behind & (seeded_rng(seed, "mask").random((size, size)) >= detector.dead_pixels)
    if not mask.any():
        raise ValueError("simulation.detector: dead_pixels and beamstop_px leave no pixel that counts")
    return mask


def spread_charge(expected: Tensor, sigma_px: float) -> Tensor:
    """Expected counts blurred by a Gaussian point spread, ``(..., N, N)``; what spreads over the edge is lost."""
    if sigma_px == 0:
        return expected
    axis = torch.arange(expected.shape[-1], dtype=torch.float64)
    kernel = torch.exp(-((axis[:, None] - axis) ** 2) / (2 * sigma_px**2))
    reach = torch.arange(-int(8 * sigma_px) - 1, int(8 * sigma_px) + 2, dtype=torch.float64)
    kernel = (kernel / torch.exp(-(reach**2) / (2 * sigma_px**2)).sum()).to(expected)
    return kernel @ expected @ kernel


def count(expected: np.ndarray, detector: Detector, mask: np.ndarray | None, seed: int, index: int) -> np.ndarray:
    """Counts of one pattern, whole numbers, int64, ``(N, N)``.

    The random numbers are those of this seed and index alone: a pattern is the same whichever others are drawn before,
    after or beside it.
    """
    rng = seeded_rng(seed, "noise", index)
    counts = rng.poisson(expected)
    if detector.read_noise > 0:
        counts = np.maximum(np.rint(counts + rng.normal(0, detector.read_noise, counts.shape)), 0).astype(np.int64)
    if detector.saturation is not None:
        counts = np.minimum(counts, detector.saturation)
    return counts if mask is None else counts * mask
