"""The arrays that figures and the report are drawn from: every stage of a reconstruction in one frame."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import KDTree

from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..metrics.alignment import window
from ..metrics.data_consistency import expected_by
from ..metrics.image import crop_to
from ..metrics.stage_metrics import STAGES, Reference, Stage


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
        ``patterns_expected`` and ``patterns_measured``, ``(K, N, N)``, NaN where masked.
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
    measured = np.stack([scan.counts[j] for j in patterns]).astype(np.float32)
    return {
        "patterns_expected": np.concatenate(list(expected)),
        "patterns_measured": measured if scan.mask is None else np.where(scan.mask, measured, np.nan),
    }
