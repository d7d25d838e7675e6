"""How far to trust each pixel's phase: what a fit makes of data simulated from its own result.

Where the truth is known, the error can be looked at. So take the result for the truth, draw counts for it, fit them in
the same way from the same start, and see how far the fit comes to lie from what went in: noise, slow convergence and
what is wrong about probe and positions are all in it. The spread of overlapping patches and the difference of half sets
are of no such use: both miss what all patterns get wrong alike.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from scipy.ndimage import gaussian_filter

from ..metrics.alignment import align
from ..metrics.consistency import expected_patterns
from ..scan import Scan
from .fit import Fit

NEAR_PX = 6.0
"""Standard deviation of the neighbourhood over which squared errors are averaged, px."""
INFLATION = 1.1
"""Errors exceed those of the repetition by about this, because its truth has been fitted once already: 1.2 on dead
leaves, 1.1 on a photograph, 1e4 to 1e6 photons. `docs/refinement.md` tells the coverage on other objects."""
UNKNOWN = np.pi / np.sqrt(3)
"""Standard deviation of a phase of which nothing is known, rad."""


def simulated_again(scan: Scan, fit: Fit, seed: int) -> Scan:
    """The scan with other counts: Poisson draws of what the fit expects."""
    image, probe, positions, brightness = (
        part.cpu().numpy() for part in (fit.object, fit.probe, fit.positions, fit.brightness)
    )
    rng = np.random.default_rng((seed, 6))
    expected: Iterator[np.ndarray] = expected_patterns(image, fit.origin, probe, positions, brightness)
    counts = np.concatenate([rng.poisson(block).astype(np.uint32) for block in expected])
    return dataclasses.replace(scan, counts=counts, truth=None)


def phase_uncertainty(
    scan: Scan, fit: Fit, coverage: np.ndarray, again: Callable[[Scan], Fit], repeats: int
) -> np.ndarray | None:
    """Standard deviation of the phase at each pixel, rad, ``(H, W)``, a ramp and a constant apart.

    Args:
        scan: the measurement.
        fit: what was found.
        coverage: where the object is known, ``(H, W)``.
        again: fits another scan as this one was fitted.
        repeats: how many scans to simulate and fit; 0 gives None.
    """
    if repeats == 0:
        return None
    total, known = np.zeros(coverage.shape), np.zeros(coverage.shape)
    image = fit.object.cpu().numpy()
    for repeat in range(repeats):
        other = again(simulated_again(scan, fit, repeat))
        found = align(other.object.cpu().numpy(), other.origin, coverage, image, fit.origin, truth_coverage=coverage)
        error = np.where(found.mask, np.angle(found.object * found.truth.conj()), 0)
        total += gaussian_filter(error**2, NEAR_PX)
        known += gaussian_filter(found.mask.astype(float), NEAR_PX)
    spread = INFLATION * np.sqrt(total / np.maximum(known, 1e-6))
    return np.where(coverage, np.minimum(spread, UNKNOWN), UNKNOWN).astype(np.float32)
