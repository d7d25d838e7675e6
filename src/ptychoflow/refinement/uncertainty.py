"""Phase uncertainty of a refined object by parametric bootstrap: refinements of scans simulated from the result.

The error of a reconstruction is known where the ground truth is. So take the result as ground truth, draw counts from
it, refine them in the same way from the same start, and compare: noise, slow convergence and errors of probe and
positions are all included. But the result has already lost detail, and what is lost cannot be lost again: such a
repetition underestimates the error where the object is fine. So two repetitions measure what a refinement loses, that
is added to the result as far as both lost the same, and a third, with the sum as ground truth, gives the error.
The standard deviation of overlapping patches and the difference of half sets miss the errors that all patterns share.
"""

import dataclasses
import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..metrics.alignment import align
from ..metrics.data_consistency import expected_patterns
from ..runtime.distributed import DistributedContext
from .engine import RefinementEngine
from .loop import RefinementCancelled, RefinementLoop
from .measured_amplitudes import RESIDENT_BYTES

logger = logging.getLogger(__name__)

NEIGHBOURHOOD_PX = 3.0
"""Standard deviation of the Gaussian over which errors are averaged, px."""
INFLATION = 1.03
"""Factor that was still missing on dead leaves, lines, a photograph and two other kinds, 1e4 to 1e6 photons.
`docs/results/coverage.md` gives the coverage on objects that it was not calibrated on."""
UNKNOWN = np.pi / np.sqrt(3)
"""Standard deviation of a phase of which nothing is known, rad."""


def bootstrap_phase_uncertainty(
    scan: Scan,
    engine: RefinementEngine,
    coverage: np.ndarray,
    start: Reconstruction | None,
    ctx: DistributedContext,
    on_epoch_end: Callable[[dict[str, float]], bool],
) -> np.ndarray:
    """Estimate the phase uncertainty of a refinement from three repetitions of it.

    Args:
        scan: the measurement.
        engine: refined on it.
        coverage: where its object is known, ``(H, W)``.
        start: reconstruction that the refinement started from.
        ctx: device, and the processes that share each batch.
        on_epoch_end: called after each epoch with its row of the history and the number of the ``repetition``.

    Returns:
        Standard deviation of the phase, rad, ``(H, W)``.

    Raises:
        RefinementCancelled: if ``on_epoch_end`` returns False.
    """
    began, numbers = time.perf_counter(), itertools.count(1)

    def refit(simulated: Scan) -> RefinementEngine:
        loop, number = RefinementLoop(RefinementEngine(simulated, engine.settings, start, ctx)), next(numbers)
        if loop.run(f"a repetition of {scan.name}", lambda row: on_epoch_end(row | {"repetition": number})):
            raise RefinementCancelled
        return loop.engine

    phase_std = phase_uncertainty(scan, engine, coverage, refit)
    if ctx.rank == 0:
        logger.info(
            "estimated phase uncertainty from 3 repeated fits: median σ = %.2g rad (%.1f s)",
            *(np.median(phase_std[coverage]), time.perf_counter() - began),
        )
    return phase_std


def phase_uncertainty(
    scan: Scan, engine: RefinementEngine, coverage: np.ndarray, refit: Callable[[Scan], RefinementEngine]
) -> np.ndarray:
    """Compute the standard deviation of the phase at each pixel, a ramp and a constant apart.

    It is ``sqrt(pi / 2)`` times the mean absolute error, as for normal errors: a few large errors, at an edge, raise it
    less than their square.

    Args:
        scan: the measurement.
        engine: refined on it.
        coverage: where its object is known, ``(H, W)``.
        refit: refines another scan as this one was refined.

    Returns:
        Standard deviation of the phase, rad, ``(H, W)``.
    """
    result = engine.object.cpu().numpy()
    first, second = (result - _repeated(scan, engine, result, coverage, refit, seed) for seed in (0, 1))
    truth = result + _agreement(first, second, coverage) * (first + second)
    repetition = _repeated(scan, engine, truth, coverage, refit, seed=2)
    error = np.abs(np.angle(repetition * truth.conj()))
    phase_std = INFLATION * np.sqrt(np.pi / 2) * _local_mean(error, coverage)
    return np.where(coverage, np.minimum(phase_std, UNKNOWN), UNKNOWN).astype(np.float32)


def _repeated(
    scan: Scan,
    engine: RefinementEngine,
    truth: np.ndarray,
    coverage: np.ndarray,
    refit: Callable[[Scan], RefinementEngine],
    seed: int,
) -> np.ndarray:
    """Return the object refined from counts of this ground truth, aligned to it; the truth where nothing is known."""
    with _simulated(scan, engine, truth, seed) as simulated:
        repetition = refit(simulated)
    aligned = align(
        repetition.object.cpu().numpy(), repetition.origin, coverage, truth, engine.origin, truth_coverage=coverage
    )
    return np.where(aligned.mask, aligned.object, truth).astype(truth.dtype)


@contextmanager
def _simulated(scan: Scan, engine: RefinementEngine, truth: np.ndarray, seed: int) -> Iterator[Scan]:
    """Yield the scan with counts of this object under the refined probe and positions, with the scan's noise.

    Counts that are too many for memory lie in a temporary file, which is removed at the end.
    """
    arrays = (engine.probe, engine.positions, engine.probe_scale)
    probe, positions, probe_scale = (array.cpu().numpy() for array in arrays)
    rng = np.random.default_rng((seed, 6))
    expected = expected_patterns(
        truth, engine.origin, probe, positions, probe_scale, engine.instrument(), engine.propagate.to("cpu")
    )
    fano = scan.fano_factor  # counts of another Fano factor are multiples of Poisson counts
    dtype = np.dtype(np.uint32 if fano == 1 else np.float32)
    drawn = ((fano * rng.poisson(block / fano)).astype(dtype) for block in expected)
    if dtype.itemsize * scan.counts.size <= RESIDENT_BYTES // 8:  # in memory beside amplitudes, and twice when joined
        yield dataclasses.replace(scan, counts=np.concatenate(list(drawn)), truth=None)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts"
        with path.open("wb") as file:  # written, not mapped: pages of a map count as memory of the process
            for block in drawn:
                block.tofile(file)
        counts = np.memmap(path, dtype, "r", shape=scan.counts.shape)
        yield dataclasses.replace(scan, counts=counts, truth=None)


def _agreement(first: np.ndarray, second: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Return the local agreement of two images, 0 for independent noise to 1 where they are equal, ``(H, W)``."""
    product = _local_mean((first * second.conj()).real, coverage)
    power = _local_mean((np.abs(first) ** 2 + np.abs(second) ** 2) / 2, coverage)
    return np.clip(product / np.maximum(power, np.finfo(np.float32).tiny), 0, 1).astype(np.float32)


def _local_mean(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mean over the neighbourhood of each pixel, on the mask."""
    known = gaussian_filter(mask.astype(np.float64), NEIGHBOURHOOD_PX)
    return gaussian_filter(np.where(mask, image, 0).astype(np.float64), NEIGHBOURHOOD_PX) / np.maximum(known, 1e-6)
