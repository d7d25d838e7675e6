"""The ``evaluate`` command: metrics of the reconstructions of one scan, with figures."""

import logging
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..config import HALVES, Evaluation
from ..core.doubt import Doubt, as_data, from_data, join_doubts, log_doubts
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..io.atomic import atomic_dir, write_json
from ..io.dataset import open_dataset
from ..io.provenance import different_input, record_provenance, sha256
from ..io.reconstruction_h5 import read_reconstruction
from ..metrics.reconstruction_doubts import doubt_reconstruction
from ..metrics.stage_metrics import (
    HalfPaths,
    Stage,
    check_ground_truth,
    judge_stages,
    read_stage,
    reconstruction_metrics,
    reference_object,
)
from ..preprocessing.scan_doubts import doubt_scan
from ..reporting.figure_arrays import figure_arrays
from ..reporting.figures import FILES, draw_all
from ..reporting.results import FORMAT
from ..runtime.memory import check_memory

logger = logging.getLogger(__name__)

PIXEL_BYTES = 100
"""Memory per pixel of an object at least: stages and reference in one frame, their spectra, maps to draw."""
TRIAL_KINDS = ("order", "orientation")
"""Doubts that only trial reconstructions after a refinement find."""


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
    and arrays. Evaluated are the network's object, the refined object and, as a baseline, a uniform object: its metrics
    are those of a failed reconstruction.

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
        ValueError: if a reconstruction is damaged, belongs to another scan or covers nothing.

    Example:
        ptychoflow evaluate datasets/star star.json --refined refined.h5 --stitched star.h5
    """
    began = time.perf_counter()
    scan = open_dataset(dataset)
    paths = {name: path for name, path in (("network", stitched), ("refined", refined)) if path is not None}
    reconstructions = {name: read_stage(path, scan) for name, path in paths.items()}
    logger.info("read %s: %d patterns; %s", dataset, len(scan), ", ".join(map(str, paths.values())))
    check_memory(
        PIXEL_BYTES * max(each.object.size for each in reconstructions.values()),
        f"the evaluation of {dataset}",
        "free memory, or reconstruct a part of the scan",
    )
    half_paths = {"network": stitched_halves, "refined": halves}
    for pair in filter(None, half_paths.values()):
        _check_halves(*pair)
    provenance = record_provenance(evaluation, dataset=dataset, **paths, **_name_halves(half_paths))
    _warn_of_other_datasets(paths, reconstructions, dataset, provenance)
    check_ground_truth(scan, reconstructions["refined"])
    reference = reference_object(scan, reconstructions["refined"])
    stages = judge_stages(reconstructions, scan, reference, evaluation.max_shift_px)
    metrics = reconstruction_metrics(stages, scan, half_paths, evaluation) | {
        "format": FORMAT,
        "doubts": as_data(_doubts(scan, stages["refined"])),
        "provenance": provenance,
        "versions": {name: version(name) for name in ("numpy", "scipy", "scikit-image", "torch")},
    }
    arrays = figure_arrays(stages, scan, reference, [pattern["index"] for pattern in metrics["patterns"]])
    with atomic_dir(Path(output).with_suffix(""), ("arrays.npz", *FILES)) as folder:
        np.savez_compressed(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]  # stub: keywords are allow_pickle
        draw_all(folder, arrays, metrics)
        metrics["arrays_sha256"] = sha256(folder / "arrays.npz")
    write_json(output, metrics)
    _log_metrics(metrics)
    logger.info("evaluated %s in %.1f s", output, time.perf_counter() - began)


def _check_halves(even: Path, odd: Path) -> None:
    """Refuse two reconstructions of one half: their correlation would be 1 at every frequency.

    Raises:
        ValueError: if both are one file, or were made from one dataset.
    """
    inputs = [read_reconstruction(path).metadata.get("provenance", {}).get("inputs", {}) for path in (even, odd)]
    datasets = [recorded.get("dataset", {}).get("sha256") for recorded in inputs]
    if sha256(even) == sha256(odd) or (datasets[0] is not None and datasets[0] == datasets[1]):
        raise ValueError(
            f"{even} and {odd} were made from the same patterns, expected the even and the odd ones: give the "
            "reconstruction of each half"
        )


def _name_halves(half_paths: dict[str, HalfPaths | None]) -> dict[str, Path]:
    """Return the paths of reconstructed halves by ``stage_half``."""
    return {
        f"{stage}_{half}": path
        for stage, pair in half_paths.items()
        if pair
        for half, path in zip(HALVES, pair, strict=True)
    }


def _warn_of_other_datasets(
    paths: dict[str, Path], reconstructions: dict[str, Reconstruction], dataset: Path, provenance: dict
) -> None:
    """Warn of reconstructions that were made from another dataset."""
    for name, found in reconstructions.items():
        if (other := different_input(found.metadata, provenance)) is not None:
            logger.warning(
                "%s was made from another dataset than %s (%s): its counts and ground truth may belong to another "
                "object",
                *(paths[name], dataset, other),
            )


def _doubts(scan: Scan, refined: Stage) -> tuple[Doubt, ...]:
    """Return and log the doubts about a scan and its refined object, with those that ``refine`` found by trials."""
    found = refined.reconstruction
    by_trials = [doubt for doubt in from_data(found.metadata.get("doubts")) if doubt.kind in TRIAL_KINDS]
    doubts = join_doubts(doubt_scan(scan), by_trials, doubt_reconstruction(scan, found, refined.consistency))
    log_doubts(logger, scan.name, doubts)
    return doubts


def _log_metrics(metrics: dict) -> None:
    for name, stage in metrics["stages"].items():
        psnr = (stage["against_truth"] or {}).get("phase_psnr_truth_range")
        suffix = "" if psnr is None else f", phase PSNR {psnr:.1f} dB"
        logger.info("%s: R-factor %.4g (noise floor %.4g)%s", name, stage["r_factor"], stage["noise_floor"], suffix)
