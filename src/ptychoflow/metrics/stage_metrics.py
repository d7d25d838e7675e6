"""Metrics of the stages of one reconstruction: network, refined, and the uniform object as a baseline."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..config import Evaluation
from ..core.reconstruction import Reconstruction
from ..core.scan import GroundTruth, Scan
from ..io.count_reader import CountReader
from ..io.reconstruction_h5 import read_reconstruction
from ..physics.multislice import slice_transfer
from ..physics.propagation import propagator_of
from .alignment import Aligned, align, normalise_gauge, twin_correlation
from .data_consistency import DataConsistency, compare_counts, expected_by, expected_patterns, raster_artifact_ratio
from .frc import ring_correlation
from .image import image_metrics, phase_error, psnr, relative_std, rms, unwrapped_phase, value_range

STAGES = ("network", "refined")
"""Stages of a reconstruction, in the order in which they are made."""
PROBED_PATTERNS, WORSE_THAN_UNIFORM = 64, 1.25
"""Patterns on which a ground truth is checked; greatest ratio of its R-factor to that of a uniform object."""

HalfPaths = tuple[Path, Path]


@dataclass(frozen=True)
class Reference:
    """The object that reconstructions are aligned with: the ground truth, or without one the refined object.

    Attributes:
        object: complex transmission, ``(H, W)``.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px.
        coverage: True where it is known, ``(H, W)``; None where it is known everywhere.
    """

    object: np.ndarray
    origin: tuple[float, float]
    coverage: np.ndarray | None = None


@dataclass(frozen=True)
class Stage:
    """A reconstruction, its alignment with the reference, and its agreement with the counts."""

    reconstruction: Reconstruction
    aligned: Aligned
    consistency: DataConsistency


def read_stage(path: Path, scan: Scan) -> Reconstruction:
    """Read a reconstruction of a scan.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is damaged, belongs to another scan, or its coverage is empty.
    """
    reconstruction = read_reconstruction(path)
    if len(reconstruction.positions) != len(scan) or reconstruction.probe.shape[-1] != scan.size:
        raise ValueError(
            f"{path} was made from {len(reconstruction.positions)} patterns of {reconstruction.probe.shape[-1]} px, "
            f"{scan.name} has {len(scan)} of {scan.size} px: give the reconstruction of this scan"
        )
    if not reconstruction.coverage.any():
        raise ValueError(f"coverage of {path} is empty, expected covered pixels: reconstruct the scan again")
    return reconstruction


def check_ground_truth(scan: Scan, refined: Reconstruction) -> None:
    """Raise if the ground truth of a scan explains its counts worse than a uniform object.

    The ground truth of another object has about twice the R-factor of a uniform object, whatever the probe.

    Raises:
        ValueError: if the R-factor exceeds :data:`WORSE_THAN_UNIFORM` times that of the uniform object.
    """
    if scan.truth is None:
        return
    sampled = np.linspace(0, len(scan) - 1, min(len(scan), PROBED_PATTERNS)).astype(int)
    counts = CountReader(scan.counts).read(sampled)
    positions = scan.positions if scan.truth.positions is None else scan.truth.positions
    truth, transfer, propagate = np.asarray(scan.truth.object), None, propagator_of(scan.geometry, scan.size)
    if scan.truth.slices is not None:
        lengths = scan.size, scan.geometry.pixel_size_m, scan.geometry.wavelength_m
        truth = np.asarray(scan.truth.slices)
        transfer = slice_transfer(*lengths, scan.truth.slice_spacing_m).to(torch.complex64)
    known = scan.probe, positions[sampled]
    expected = {
        "ground truth": expected_patterns(truth, scan.truth.origin, *known, propagate=propagate, transfer=transfer),
        "uniform": expected_patterns(uniform_object(refined).object, refined.origin, *known, propagate=propagate),
    }
    r_factor = {name: compare_counts(patterns, counts, scan.mask).r_factor for name, patterns in expected.items()}
    if r_factor["ground truth"] > WORSE_THAN_UNIFORM * r_factor["uniform"]:
        raise ValueError(
            f"ground truth of {scan.name} explains its counts worse (R-factor {r_factor['ground truth']:.3g}) than a "
            f"uniform object ({r_factor['uniform']:.3g}): give the object that the scan was made of, or pack the scan "
            "without a ground truth"
        )


def reference_object(scan: Scan, refined: Reconstruction) -> Reference:
    """Return the ground truth of a scan, or without one the refined object without global phase and ramp."""
    if scan.truth is not None:
        return Reference(np.asarray(scan.truth.object), scan.truth.origin)
    return Reference(normalise_gauge(refined.object, refined.coverage), refined.origin, refined.coverage)


def uniform_object(reconstruction: Reconstruction) -> Reconstruction:
    """Replace the object by a uniform one of equal mean transmitted intensity."""
    known = reconstruction.object[reconstruction.coverage]
    uniform = np.full_like(reconstruction.object, np.sqrt(np.mean(np.abs(known) ** 2)))
    return dataclasses.replace(reconstruction, object=uniform, slices=None, slice_spacing_m=0.0)


def judge_stages(
    reconstructions: Mapping[str, Reconstruction], scan: Scan, reference: Reference, max_shift_px: float
) -> dict[str, Stage]:
    """Align every stage with the reference and compute its data consistency; add the uniform object.

    Args:
        reconstructions: by stage, at least ``refined``.
        scan: the counts and their mask.
        reference: object to align with.
        max_shift_px: bound of the registration, px; the uniform object is not registered.
    """
    stages = {name: _judge_stage(found, scan, reference, max_shift_px) for name, found in reconstructions.items()}
    return stages | {"uniform": _judge_stage(uniform_object(reconstructions["refined"]), scan, reference, 0.0)}


def reconstruction_metrics(
    stages: Mapping[str, Stage], scan: Scan, halves: Mapping[str, HalfPaths | None], evaluation: Evaluation
) -> dict:
    """Compute all metrics of a reconstruction, as plain data that JSON holds.

    Args:
        stages: as :func:`judge_stages` returns them.
        scan: the scan that was reconstructed.
        halves: files reconstructed from even and from odd patterns, by stage.
        evaluation: settings.
    """
    refined = stages["refined"]
    per_pattern = refined.consistency.per_pattern
    return replace_non_finite(
        {
            "method": refined.reconstruction.name.rpartition("/")[0] or refined.reconstruction.name,
            "scan": _scan_summary(scan),
            "stages": {name: _stage_metrics(stage, scan, evaluation) for name, stage in stages.items()},
            "split_half": {name: _split_half_metrics(pair, evaluation) for name, pair in halves.items() if pair},
            "progress": _progress_metrics(refined, scan),
            "patterns": [
                {"which": which, "index": j, "r_factor": float(per_pattern[j])}
                for which, j in representative_patterns(per_pattern).items()
            ],
            "reconstructions": {name: stages[name].reconstruction.metadata for name in STAGES if name in stages},
        }
    )


def representative_patterns(r_factors: np.ndarray) -> dict[str, int]:
    """Return the indices of the three worst, the median and the best pattern by R-factor ``(J,)``."""
    order = np.argsort(r_factors)[::-1].tolist()
    worst = {f"{name}worst": j for name, j in zip(("", "second ", "third "), order, strict=False)}
    return worst | {"median": order[len(order) // 2], "best": order[-1]}


def replace_non_finite(data):
    """Replace NaN and infinity in plain data by None, which JSON holds as null."""
    if isinstance(data, dict):
        return {key: replace_non_finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [replace_non_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _judge_stage(found: Reconstruction, scan: Scan, reference: Reference, max_shift_px: float) -> Stage:
    aligned = align(
        found.object,
        found.origin,
        found.coverage,
        reference.object,
        reference.origin,
        max_shift_px,
        reference.coverage,
    )
    return Stage(found, aligned, compare_counts(expected_by(found), scan.counts, scan.mask, scan.fano_factor))


def _stage_metrics(stage: Stage, scan: Scan, evaluation: Evaluation) -> dict:
    """Compute the metrics of one stage: against the counts, and against the ground truth where there is one."""
    found, aligned = stage.reconstruction, stage.aligned
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
        "r_factor": stage.consistency.r_factor,
        "noise_floor": stage.consistency.noise_floor,
        "r_factor_per_pattern": stage.consistency.per_pattern.tolist(),
        "coverage_px": int(aligned.mask.sum()),
        "spread": relative_std(normalise_gauge(aligned.object, aligned.mask), aligned.mask),
        "raster_artifact_ratio": raster_artifact_ratio(ratio, found.origin, found.positions, aligned.mask),
        "against_truth": against_truth,
    }


def _split_half_metrics(halves: HalfPaths, evaluation: Evaluation) -> dict:
    """Compute the agreement of two reconstructions, from even and from odd patterns."""
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


def _progress_metrics(refined: Stage, scan: Scan) -> dict:
    """Return the R-factor by epoch, and the phase PSNR of the snapshots where there is a ground truth."""
    reconstruction = refined.reconstruction
    history = reconstruction.history
    columns = {name: list(history.get(name, [])) for name in ("epoch", "seconds", "cpu_seconds")}
    snapshots: dict[str, list] = {name: [] for name in ("epoch", "seconds", "cpu_seconds", "phase_psnr")}
    if scan.truth is not None and reconstruction.snapshots is not None:
        epochs = reconstruction.metadata["snapshot_epochs"]
        for epoch, image in zip(epochs, reconstruction.snapshots, strict=True):
            snapshots["epoch"].append(epoch)
            snapshots["phase_psnr"].append(_snapshot_psnr(image, refined, scan.truth))
            for clock in ("seconds", "cpu_seconds"):
                snapshots[clock].append(_time_of_epoch(columns["epoch"], columns[clock], epoch))
    if "held_out" in history:
        columns["held_out_r_factor"] = list(history["held_out"])
    return columns | {"r_factor": list(history.get("error", [])), "snapshots": snapshots}


def _snapshot_psnr(image: np.ndarray, stage: Stage, truth: GroundTruth) -> float | None:
    """Compute the phase PSNR of a snapshot ``(H, W)``, dB, at the registration of the final object."""
    y, x = np.subtract(stage.reconstruction.origin, stage.aligned.shift)
    aligned = align(image, (y, x), stage.reconstruction.coverage, np.asarray(truth.object), truth.origin)
    peak = value_range(unwrapped_phase(aligned.truth, aligned.mask), aligned.mask)
    return psnr(rms(phase_error(aligned.object, aligned.truth), aligned.mask), peak)


def _time_of_epoch(epochs: list[float], clock: list[float], epoch: float) -> float | None:
    """Return the time after an epoch, s: 0 before the first, None where it was not recorded."""
    if epoch <= 0:
        return 0.0
    return clock[epochs.index(epoch)] if epoch in epochs and len(clock) == len(epochs) else None


def _scan_summary(scan: Scan) -> dict:
    counts = CountReader(scan.counts).read(np.arange(0, len(scan), max(1, len(scan) // 64))).astype(np.float64)
    return {
        "name": scan.name,
        "patterns": len(scan),
        "size_px": scan.size,
        "counts_per_pattern": float(counts.sum((1, 2)).mean()),
        "probe_photons": scan.photons,
        "fano_factor": scan.fano_factor,
        "probe_modes": len(scan.probe),
        "has_truth": scan.truth is not None,
        "pixel_size_m": scan.geometry.pixel_size_m,
        "wavelength_m": scan.geometry.wavelength_m,
        "nominal_geometry": bool(scan.metadata.get("nominal_geometry", False)),
        "metadata": scan.metadata,
    }
