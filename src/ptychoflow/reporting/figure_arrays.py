"""The arrays that figures and the report are drawn from: every stage of a reconstruction in one frame."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import KDTree

from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..io.count_reader import CountReader
from ..metrics.alignment import window
from ..metrics.data_consistency import expected_by
from ..metrics.image import crop_to
from ..metrics.stage_metrics import STAGES, Reference, Stage

BROWSED_PATTERNS, BROWSED_PX = 400, 64
"""Most patterns that a reader of the page can look at, and their greatest side, px."""
MASKED, STEPS = 255, 254
"""Value of a masked pixel in a pattern to look at, and of the largest count."""


def figure_arrays(
    stages: Mapping[str, Stage], scan: Scan, reference: Reference, patterns: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return the arrays of ``arrays.npz``, cropped to the coverage of the refined object, ``(H, W)``.

    Args:
        stages: the judged stages, by name.
        scan: the scan that was reconstructed.
        reference: the object that the stages are aligned with.
        patterns: indices of the patterns to show.

    Returns:
        By name: ``origin``, position ``(y, x)`` of the first pixel of the frame, px; for each stage its complex object,
        its ``_mask`` and its ``_r_map``, the R-factor of the nearest pattern; ``truth`` where it is known; ``weight``,
        relative illumination; ``phase_uncertainty``, rad, where it was estimated; ``probe``, ``(M, N, N)``; where they
        were fitted, ``probe_variations``, ``(K, N, N)``, ``variation_weights``, ``(J, K)``, the first of them at the
        nearest pattern as ``variation_map``, and ``background``, counts, ``(N, N)``;
        ``patterns_expected`` and ``patterns_measured``, ``(K, N, N)``, NaN where masked; ``positions`` and
        ``positions_recorded`` in the frame, px, ``(J, 2)``, ``r_factors``, ``(J,)``; and the patterns to look at, see
        :func:`browsed_patterns`.
    """
    aligned = stages["refined"].aligned
    rows, columns = crop_to(aligned.mask)
    corner = np.add(aligned.corner, (rows.start, columns.start))
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    arrays = {"origin": np.asarray(reference.origin) + corner}
    for name in [name for name in STAGES if name in stages]:
        arrays |= _stage_arrays(name, stages[name], corner, shape)
    if scan.truth is not None:
        arrays["truth"] = aligned.truth[rows, columns].astype(np.complex64)
    refined = stages["refined"].reconstruction
    arrays["weight"] = (refined.weight / max(float(refined.weight.max()), 1e-30))[rows, columns].astype(np.float16)
    if refined.phase_uncertainty is not None:
        phase_std = window(refined.phase_uncertainty, corner - aligned.corner, shape)[0]
        arrays["phase_uncertainty"] = phase_std.astype(np.float32)
    arrays["probe"] = refined.probe.astype(np.complex64)
    arrays |= _instrument_arrays(refined, arrays["origin"], shape)
    start = corner - aligned.corner + np.asarray(refined.origin)
    arrays |= _position_arrays(stages["refined"], scan, start)
    arrays |= browsed_patterns(stages["refined"], scan)
    return arrays | _pattern_arrays(stages["refined"], scan, list(patterns))


def _instrument_arrays(found: Reconstruction, origin: np.ndarray, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return variations of the probe and background, where they were fitted."""
    instrument, arrays = found.instrument, {}
    if instrument.probe_variations is not None and instrument.variation_weights is not None:
        nearest = KDTree(found.positions).query(np.moveaxis(np.indices(shape), 0, -1) + origin)[1]
        arrays = {
            "probe_variations": instrument.probe_variations.astype(np.complex64),
            "variation_weights": instrument.variation_weights.astype(np.float32),
            "variation_map": instrument.variation_weights[nearest, 0].astype(np.float32),
        }
    return arrays | ({} if instrument.background is None else {"background": instrument.background.astype(np.float32)})


def browsed_patterns(stage: Stage, scan: Scan) -> dict[str, np.ndarray]:
    """Return patterns to look at, evenly spread over the scan, small and on a logarithmic scale.

    Returns:
        By name: ``browse_indices``, ``(K,)``; ``browse_patterns``, measured and expected, ``(2, K, S, S)`` uint8,
        ``log10(1 + counts)`` with :data:`STEPS` at ``browse_most`` and :data:`MASKED` where masked, counts averaged
        over squares of ``browse_binning`` px.
    """
    count = min(len(scan), BROWSED_PATTERNS)
    indices = np.linspace(0, len(scan) - 1, count).round().astype(int)
    binning = max(1, -(-scan.size // BROWSED_PX))
    side = scan.size // binning
    known = np.ones((scan.size, scan.size), bool) if scan.mask is None else scan.mask
    pairs = np.empty((2, count, side, side), np.float32)
    expected = (pattern for block in expected_by(stage.reconstruction, indices.tolist()) for pattern in block)
    reader = CountReader(scan.counts)
    for row, pattern in enumerate(expected):
        pairs[0, row] = _binned(reader.read(indices[row : row + 1])[0], known, binning)
        pairs[1, row] = _binned(pattern, known, binning)
    logarithm = np.log10(1 + np.maximum(pairs, 0))
    most = max(float(np.nanmax(logarithm, initial=0.0, where=np.isfinite(logarithm))), 1e-3)
    levels = np.rint(np.nan_to_num(logarithm) / most * STEPS).astype(np.uint8)
    return {
        "browse_indices": indices,
        "browse_patterns": np.where(np.isfinite(logarithm), levels, np.uint8(MASKED)),
        "browse_binning": np.asarray(binning),
        "browse_most": np.asarray(most),
    }


def _binned(counts: np.ndarray, known: np.ndarray, binning: int) -> np.ndarray:
    """Return the mean of the unmasked counts in squares of ``binning`` px; NaN where all are masked."""
    side = counts.shape[-1] // binning
    inner = (slice(0, side * binning),) * 2
    shape = (side, binning, side, binning)
    number = known[inner].reshape(shape).sum((1, 3))
    total = np.where(known, counts, 0)[inner].astype(np.float32).reshape(shape).sum((1, 3))
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _position_arrays(stage: Stage, scan: Scan, start: np.ndarray) -> dict[str, np.ndarray]:
    """Return positions in the frame; the recorded ones without the shift of all, which is an ambiguity."""
    refined = stage.reconstruction.positions
    shift = np.median(refined - scan.positions, axis=0)
    return {
        "positions": (refined - start).astype(np.float32),
        "positions_recorded": (scan.positions + shift - start).astype(np.float32),
        "r_factors": stage.consistency.per_pattern.astype(np.float32),
    }


def _stage_arrays(name: str, stage: Stage, corner: np.ndarray, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    start = corner - stage.aligned.corner
    image, inside = window(stage.aligned.object, start, shape)
    grid = np.moveaxis(np.indices(shape), 0, -1) + start + np.asarray(stage.reconstruction.origin)
    nearest = KDTree(stage.reconstruction.positions).query(grid)[1]
    return {
        name: image.astype(np.complex64),
        f"{name}_mask": window(stage.aligned.mask, start, shape)[0] & inside,
        f"{name}_r_map": stage.consistency.per_pattern[nearest].astype(np.float32),
    }


def _pattern_arrays(stage: Stage, scan: Scan, patterns: list[int]) -> dict[str, np.ndarray]:
    expected = expected_by(stage.reconstruction, patterns)
    measured = CountReader(scan.counts).read(np.array(patterns, np.int64)).astype(np.float32)
    return {
        "patterns_expected": np.concatenate(list(expected)),
        "patterns_measured": measured if scan.mask is None else np.where(scan.mask, measured, np.nan),
    }
