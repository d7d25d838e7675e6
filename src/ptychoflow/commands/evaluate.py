"""Measure a reconstruction: against the truth where there is one, against the counts always."""

import dataclasses
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
import skimage
import torch
from scipy.spatial import KDTree

from ..config import HALVES, Evaluation
from ..core.reconstruction import Reconstruction
from ..core.scan import GroundTruth, Scan
from ..io.atomic import atomic_dir, write_json
from ..io.dataset import open_dataset
from ..io.provenance import different_input, record_provenance
from ..io.reconstruction_h5 import read_reconstruction
from ..metrics.alignment import Aligned, align, normalise_gauge, twin_correlation, window
from ..metrics.data_consistency import DataConsistency, compare_counts, expected_patterns, raster_artifact_ratio
from ..metrics.frc import ring_correlation
from ..metrics.image import crop_to, image_metrics, phase_error, psnr, relative_std, rms, unwrapped_phase, value_range
from ..reporting.figures import FILES, draw_all

logger = logging.getLogger(__name__)

FORMAT = 3
TRIED, WRONG = 64, 1.25
"""Patterns on which a truth is tried, and how much worse than an empty object's its misfit may be."""


@dataclass(frozen=True)
class Reference:
    """What objects are aligned with: the truth, or the refined object where there is none.

    Attributes:
        object: complex, ``(h, w)``.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px.
        coverage: where it is known; None where everywhere.
    """

    object: np.ndarray
    origin: tuple[float, float]
    coverage: np.ndarray | None = None


@dataclass(frozen=True)
class Stage:
    """A reconstruction in the frame it is judged in, and how it explains the counts."""

    reconstruction: Reconstruction
    aligned: Aligned
    fit: DataConsistency


def evaluate(
    dataset: Path,
    output: Path,
    *,
    refined: Path,
    stitched: Path | None = None,
    halves: tuple[Path, Path] | None = None,
    stitched_halves: tuple[Path, Path] | None = None,
    evaluation: Evaluation = Evaluation(),
) -> None:
    """Evaluate the reconstructions of a scan.

    Reads a dataset and its reconstructions. Makes a JSON file of metrics and, in a folder of the same stem, figures
    and arrays. Evaluated are the network's reconstruction, the refined one and, as a baseline, a uniform object: the
    score of a reconstruction that found nothing.

    Args:
        dataset: the scan.
        output: the metrics, ``.json``.
        refined: the refined reconstruction.
        stitched: the network's reconstruction that it started from.
        halves: the refined reconstructions of even and of odd patterns.
        stitched_halves: the network's reconstructions of even and of odd patterns.
        evaluation: how to evaluate.

    Raises:
        FileNotFoundError: if the dataset or a reconstruction is missing.
        ValueError: if one is damaged, is not of this scan, or covers nothing.

    Example:
        ptychoflow evaluate datasets/star star.json --refined refined.h5 --stitched star.h5
    """
    began = time.perf_counter()
    scan = open_dataset(dataset)
    paths = {"network": stitched, "refined": refined}
    found = {name: _read(path, scan) for name, path in paths.items() if path is not None}
    logger.info("read %s: %d patterns; %s", dataset, len(scan), ", ".join(str(paths[name]) for name in found))
    apart = {"network": stitched_halves, "refined": halves}
    provenance = record_provenance(evaluation, dataset=dataset, **paths, **_by_half(apart))
    for name, each in found.items():
        if (other := different_input(each.metadata, provenance)) is not None:
            logger.warning(
                "%s was made from another dataset than %s (%s): its counts and truth may be another object's",
                *(paths[name], dataset, other),
            )
    _check_truth(scan, found["refined"])
    reference = _reference(scan, found["refined"])
    stages = {name: _judge(each, scan, reference, evaluation.max_shift_px) for name, each in found.items()}
    stages["uniform"] = _judge(_emptied(found["refined"]), scan, reference, 0.0)
    patterns = _telling(stages["refined"].fit.per_pattern)
    metrics = {
        "format": FORMAT,
        "method": found["refined"].name.rpartition("/")[0] or found["refined"].name,
        "scan": _describe(scan),
        "stages": {name: _measures(stage, scan, evaluation) for name, stage in stages.items()},
        "split_half": {stage: _split_half(pair, evaluation) for stage, pair in apart.items() if pair},
        "progress": _progress(stages, scan, evaluation),
        "patterns": [
            {"which": which, "index": j, "r_factor": float(stages["refined"].fit.per_pattern[j])}
            for which, j in patterns.items()
        ],
        "reconstructions": {name: each.metadata for name, each in found.items()},
        "provenance": provenance,
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-image": skimage.__version__}
        | {"torch": torch.__version__},
    }
    metrics = _finite(metrics)
    arrays = _arrays(stages, scan, reference, list(patterns.values()))
    with atomic_dir(Path(output).with_suffix(""), ("arrays.npz", *FILES)) as folder:
        np.savez_compressed(folder / "arrays.npz", **arrays)
        draw_all(folder, arrays, metrics)
    write_json(output, metrics)
    _log(metrics)
    logger.info("evaluated %s in %.1f s", output, time.perf_counter() - began)


def _read(path: Path, scan: Scan) -> Reconstruction:
    reconstruction = read_reconstruction(path)
    if len(reconstruction.positions) != len(scan) or reconstruction.probe.shape[-1] != scan.size:
        raise ValueError(
            f"{path} was made from {len(reconstruction.positions)} patterns of {reconstruction.probe.shape[-1]} px, "
            f"{scan.name} has {len(scan)} of {scan.size} px: give the reconstruction of this scan"
        )
    if not reconstruction.coverage.any():
        raise ValueError(f"{path} covers nothing, so nothing can be measured: reconstruct it again")
    return reconstruction


def _check_truth(scan: Scan, refined: Reconstruction) -> None:
    """Refuse a truth that explains the counts worse than an object without features: it is another object's.

    An unlike object leaves about twice the misfit of an empty one, whatever the probe.
    """
    if scan.truth is None:
        return
    some = np.linspace(0, len(scan) - 1, min(len(scan), TRIED)).astype(int)
    counts = np.stack([scan.counts[j] for j in some])
    positions = scan.positions if scan.truth.positions is None else scan.truth.positions
    misfit = {}
    for name, image in {"truth": np.asarray(scan.truth.object), "uniform": _emptied(refined).object}.items():
        origin = scan.truth.origin if name == "truth" else refined.origin
        misfit[name] = compare_counts(
            expected_patterns(image, origin, scan.probe, positions[some]), counts, scan.mask
        ).r_factor
    if misfit["truth"] > WRONG * misfit["uniform"]:
        raise ValueError(
            f"the truth of {scan.name} explains its counts worse (R-factor {misfit['truth']:.3g}) than an empty image "
            f"({misfit['empty']:.3g}): give the object that the scan was made of, or pack the scan without a truth"
        )


def _reference(scan: Scan, refined: Reconstruction) -> Reference:
    if scan.truth is not None:
        return Reference(np.asarray(scan.truth.object), scan.truth.origin)
    return Reference(normalise_gauge(refined.object, refined.coverage), refined.origin, refined.coverage)


def _emptied(reconstruction: Reconstruction) -> Reconstruction:
    """An object without features that lets as much light through."""
    known = reconstruction.object[reconstruction.coverage]
    flat = np.full_like(reconstruction.object, np.sqrt(np.mean(np.abs(known) ** 2)))
    return dataclasses.replace(reconstruction, object=flat)


def _judge(each: Reconstruction, scan: Scan, reference: Reference, max_shift: float) -> Stage:
    aligned = align(
        each.object, each.origin, each.coverage, reference.object, reference.origin, max_shift, reference.coverage
    )
    expected = expected_patterns(each.object, each.origin, each.probe, each.positions, each.probe_scale)
    return Stage(each, aligned, compare_counts(expected, scan.counts, scan.mask))


def _measures(stage: Stage, scan: Scan, evaluation: Evaluation) -> dict:
    """Everything measured about one stage, plain data."""
    each, aligned = stage.reconstruction, stage.aligned
    against_truth = None
    ratio = aligned.object
    if scan.truth is not None:
        ratio = aligned.object * aligned.truth.conj() / np.maximum(np.abs(aligned.truth) ** 2, 1e-6)
        against_truth = image_metrics(aligned.object, aligned.truth, aligned.mask, scan.size / 8) | {
            "low_frequency_below_cycles": scan.size / 8,
            "shift_px": aligned.shift,
            "scale": abs(aligned.gauge.scale),
            "ramp_rad_per_px": aligned.gauge.ramp,
            "twin_correlation": twin_correlation(aligned.object, aligned.truth, aligned.mask),
            "frc": ring_correlation(aligned.object, aligned.truth, aligned.mask, evaluation.taper_px).summary(
                scan.geometry.pixel_size_m
            ),
        }
    return {
        "r_factor": stage.fit.r_factor,
        "noise_floor": stage.fit.noise_floor,
        "r_factor_per_pattern": stage.fit.per_pattern.tolist(),
        "coverage_px": int(aligned.mask.sum()),
        "spread": relative_std(normalise_gauge(aligned.object, aligned.mask), aligned.mask),
        "raster_artifact_ratio": raster_artifact_ratio(ratio, each.origin, each.positions, aligned.mask),
        "against_truth": against_truth,
    }


def _by_half(apart: dict[str, tuple[Path, Path] | None]) -> dict[str, Path]:
    """Paths of reconstructed halves, each with a name."""
    return {
        f"{stage}_{half}": path
        for stage, pair in apart.items()
        if pair
        for half, path in zip(HALVES, pair, strict=True)
    }


def _split_half(halves: tuple[Path, Path], evaluation: Evaluation) -> dict:
    """How far two reconstructions from different patterns agree."""
    even, odd = map(read_reconstruction, halves)
    pair = align(
        odd.object,
        odd.origin,
        odd.coverage,
        normalise_gauge(even.object, even.coverage),
        even.origin,
        evaluation.max_shift_px,
        truth_coverage=even.coverage,
    )
    curve = ring_correlation(pair.object, pair.truth, pair.mask, evaluation.taper_px)
    return {
        "frc": curve.summary(even.geometry.pixel_size_m),
        "shift_px": pair.shift,
        "correlation": pair.correlation,
        "patterns": [len(even.positions), len(odd.positions)],
    }


def _progress(stages: dict[str, Stage], scan: Scan, evaluation: Evaluation) -> dict:
    """How the refined object came about: R-factor by epoch, and phase PSNR of the snapshots where there is a truth."""
    refined = stages["refined"].reconstruction
    history = refined.history
    columns = {name: list(history.get(name, [])) for name in ("epoch", "seconds", "cpu_seconds")}
    snapshots = {name: [] for name in ("epoch", "seconds", "cpu_seconds", "phase_psnr")}
    if scan.truth is not None and refined.snapshots is not None:
        epochs = refined.metadata["snapshot_epochs"]
        for epoch, image in zip(epochs, refined.snapshots, strict=True):
            snapshots["epoch"].append(epoch)
            snapshots["phase_psnr"].append(_phase_psnr(image, stages["refined"], scan.truth))
            for clock in ("seconds", "cpu_seconds"):
                snapshots[clock].append(_at(columns["epoch"], columns[clock], epoch))
    return columns | {"r_factor": list(history.get("error", [])), "snapshots": snapshots}


def _phase_psnr(image: np.ndarray, stage: Stage, truth: GroundTruth) -> float | None:
    """Of an object on the way, placed where the final one was found to lie."""
    origin = np.subtract(stage.reconstruction.origin, stage.aligned.shift)
    aligned = align(image, tuple(origin), stage.reconstruction.coverage, np.asarray(truth.object), truth.origin)
    peak = value_range(unwrapped_phase(aligned.truth, aligned.mask), aligned.mask)
    return psnr(rms(phase_error(aligned.object, aligned.truth), aligned.mask), peak)


def _at(epochs: list[float], clock: list[float], epoch: float) -> float | None:
    """What the clock said after an epoch; 0 before the first."""
    if epoch <= 0:
        return 0.0
    return clock[epochs.index(epoch)] if epoch in epochs and len(clock) == len(epochs) else None


def _describe(scan: Scan) -> dict:
    counts = np.asarray(scan.counts[:: max(1, len(scan) // 64)], np.float64)
    return {
        "name": scan.name,
        "patterns": len(scan),
        "size_px": scan.size,
        "counts_per_pattern": float(counts.sum((1, 2)).mean()),
        "probe_photons": scan.photons,
        "probe_modes": len(scan.probe),
        "has_truth": scan.truth is not None,
        "pixel_size_m": scan.geometry.pixel_size_m,
        "wavelength_m": scan.geometry.wavelength_m,
        "nominal_geometry": bool(scan.metadata.get("nominal_geometry", False)),
        "metadata": scan.metadata,
    }


def _arrays(stages: dict[str, Stage], scan: Scan, reference: Reference, patterns: list[int]) -> dict[str, np.ndarray]:
    """What pictures are made of, every stage in the frame that the refined coverage reaches over.

    ``origin`` is the position of the frame's first pixel.
    """
    refined = stages["refined"]
    rows, columns = crop_to(refined.aligned.mask)
    corner = np.add(refined.aligned.corner, (rows.start, columns.start))
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    arrays = {"origin": np.asarray(reference.origin) + corner}
    for name in [name for name in ("network", "refined") if name in stages]:
        stage = stages[name]
        start = corner - stage.aligned.corner
        image, inside = window(stage.aligned.object, start, shape)
        arrays[name] = image.astype(np.complex64)
        arrays[f"{name}_mask"] = window(stage.aligned.mask, start, shape)[0] & inside
        grid = np.stack(np.indices(shape), -1) + start + np.asarray(stage.reconstruction.origin)
        nearest = KDTree(stage.reconstruction.positions).query(grid)[1]
        arrays[f"{name}_r_map"] = stage.fit.per_pattern[nearest].astype(np.float32)
    if scan.truth is not None:
        arrays["truth"] = refined.aligned.truth[rows, columns].astype(np.complex64)
    each = refined.reconstruction
    arrays["weight"] = (each.weight / max(float(each.weight.max()), 1e-30))[rows, columns].astype(np.float16)
    if each.phase_uncertainty is not None:
        spread = window(each.phase_uncertainty, corner - refined.aligned.corner, shape)[0]
        arrays["phase_uncertainty"] = spread.astype(np.float32)
    arrays["probe"] = each.probe.astype(np.complex64)
    light = None if each.probe_scale is None else each.probe_scale[patterns]
    expected = expected_patterns(each.object, each.origin, each.probe, each.positions[patterns], light)
    arrays["patterns_expected"] = np.concatenate(list(expected))
    measured = np.stack([scan.counts[j] for j in patterns]).astype(np.float32)
    arrays["patterns_measured"] = measured if scan.mask is None else np.where(scan.mask, measured, np.nan)
    return arrays


def _telling(r_factors: np.ndarray) -> dict[str, int]:
    """The patterns worth looking at: the worst fits first, then what is usual and what is possible."""
    order = np.argsort(r_factors)[::-1].tolist()
    worst = {f"{name}worst": j for name, j in zip(("", "second ", "third "), order, strict=False)}
    return worst | {"median": order[len(order) // 2], "best": order[-1]}


def _finite(data):
    """Plain data that JSON can hold: what is not a number becomes null."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _log(metrics: dict) -> None:
    for name, found in metrics["stages"].items():
        truth = found["against_truth"]
        against = "" if truth is None else f", phase PSNR {truth['phase_psnr_truth_range']:.1f} dB"
        logger.info("%s: R-factor %.4g (noise alone %.4g)%s", name, found["r_factor"], found["noise_floor"], against)
