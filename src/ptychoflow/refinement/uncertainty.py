"""How far to trust each pixel's phase: what a fit makes of data simulated from its own result.

Where the truth is known, the error can be looked at. So take the result for the truth, draw counts for it, fit them in
the same way from the same start, and see how far the fit comes to lie from what went in: noise, slow convergence and
what is wrong about probe and positions are all in it. But the result has lost detail already, and what it has lost
cannot be lost again: its repetition errs too little where the object is fine and too much nowhere. So two repetitions
find out what such a fit loses, the result is given that back, as far as both have lost the same, and a third, with it
for the truth, is asked for the error. The spread of overlapping patches and the difference of half sets are of no such
use: both miss what all patterns get wrong alike.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from scipy.ndimage import gaussian_filter

from ..core.scan import Scan
from ..metrics.alignment import align
from ..metrics.data_consistency import expected_patterns
from .engine import RefinementEngine

NEAR_PX = 3.0
"""Standard deviation of the neighbourhood over which errors are averaged, px."""
INFLATION = 1.03
"""What was still missing on dead leaves, lines, a photograph and two other kinds, 1e4 to 1e6 photons.
`docs/results/coverage.md` tells the coverage on objects that it was not set with."""
UNKNOWN = np.pi / np.sqrt(3)
"""Standard deviation of a phase of which nothing is known, rad."""


def phase_uncertainty(
    scan: Scan, fit: RefinementEngine, coverage: np.ndarray, again: Callable[[Scan], RefinementEngine]
) -> np.ndarray:
    """Standard deviation of the phase at each pixel, rad, ``(H, W)``, a ramp and a constant apart.

    Of normal errors it is ``sqrt(pi / 2)`` times their mean size, which few large ones, at an edge, raise less than
    their square.

    Args:
        scan: the measurement.
        fit: what was found.
        coverage: where the object is known, ``(H, W)``.
        again: fits another scan as this one was fitted.
    """
    result = fit.object.cpu().numpy()
    one, other = (result - _repeated(scan, fit, result, coverage, again, seed) for seed in (0, 1))
    truth = result + _agreement(one, other, coverage) * (one + other)
    repetition = _repeated(scan, fit, truth, coverage, again, seed=2)
    spread = INFLATION * np.sqrt(np.pi / 2) * _near(np.abs(np.angle(repetition * truth.conj())), coverage)
    return np.where(coverage, np.minimum(spread, UNKNOWN), UNKNOWN).astype(np.float32)


def _repeated(
    scan: Scan,
    fit: RefinementEngine,
    truth: np.ndarray,
    coverage: np.ndarray,
    again: Callable[[Scan], RefinementEngine],
    seed: int,
) -> np.ndarray:
    """What is found where this was the truth, freed of ramp and scale; where nothing is known, the truth."""
    found = again(_simulated(scan, fit, truth, seed))
    aligned = align(found.object.cpu().numpy(), found.origin, coverage, truth, fit.origin, truth_coverage=coverage)
    return np.where(aligned.mask, aligned.object, truth).astype(truth.dtype)


def _simulated(scan: Scan, fit: RefinementEngine, truth: np.ndarray, seed: int) -> Scan:
    """The scan with other counts: Poisson draws of what this object gives under the fit's probe and positions."""
    probe, positions, probe_scale = (part.cpu().numpy() for part in (fit.probe, fit.positions, fit.probe_scale))
    rng = np.random.default_rng((seed, 6))
    expected: Iterator[np.ndarray] = expected_patterns(truth, fit.origin, probe, positions, probe_scale)
    counts = np.concatenate([rng.poisson(block).astype(np.uint32) for block in expected])
    return dataclasses.replace(scan, counts=counts, truth=None)


def _agreement(one: np.ndarray, other: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """How much of two images is the same near each pixel, 0 to 1: 0 for noise, 1 where they are equal."""
    both = _near((one * other.conj()).real, coverage)
    each = _near((np.abs(one) ** 2 + np.abs(other) ** 2) / 2, coverage)
    return np.clip(both / np.maximum(each, np.finfo(np.float32).tiny), 0, 1).astype(np.float32)


def _near(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean over the neighbourhood of each pixel, of what the mask holds of it."""
    known = gaussian_filter(mask.astype(np.float64), NEAR_PX)
    return gaussian_filter(np.where(mask, image, 0).astype(np.float64), NEAR_PX) / np.maximum(known, 1e-6)
