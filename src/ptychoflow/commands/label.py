"""Take a reconstruction as the ground truth of a measured scan, so that networks can learn from measurements."""

import dataclasses
import logging
from pathlib import Path

import numpy as np

from ..core.reconstruction import Reconstruction
from ..core.scan import GroundTruth
from ..io.dataset import open_dataset, write_dataset
from ..io.provenance import different_input, record_provenance
from ..io.reconstruction_h5 import read_reconstruction
from ..runtime.memory import check_memory

logger = logging.getLogger(__name__)


def label(dataset: Path, reconstruction: Path, output: Path) -> None:
    """Label a measured dataset with its reconstruction, to train networks on.

    Reads a dataset and its reconstruction. Makes a dataset with the same counts and, as ground truth, the object, probe
    and positions of the reconstruction.

    The three belong together: a scale or shift that one of them leaves open, another one takes up. Patterns whose beam
    centre lies where the object is not known are left out.

    Args:
        dataset: the scan.
        reconstruction: the reconstruction of this scan, as ``refine`` or ``stitch`` wrote it.
        output: the dataset folder to make.

    Raises:
        FileNotFoundError: if the dataset or the reconstruction is missing.
        ValueError: if one is damaged, or the reconstruction is not of this scan.

    Example:
        ptychoflow dataset label datasets/siemens refined/rpie/siemens.h5 datasets/siemens_labelled
    """
    scan, labels = open_dataset(dataset), read_reconstruction(reconstruction)
    if len(labels.positions) != len(scan) or labels.probe.shape[-1] != scan.size:
        raise ValueError(
            f"expected a reconstruction from {len(scan)} patterns of {scan.size} px, {reconstruction} was made from "
            f"{len(labels.positions)} of {labels.probe.shape[-1]} px: give the reconstruction of {scan.name}"
        )
    covered = _covered_centres(labels)
    if not covered.any():
        raise ValueError(f"{reconstruction} covers no pattern of {scan.name}: reconstruct it again")
    if not covered.all():
        check_memory(
            scan.counts.nbytes * covered.mean(), f"the covered patterns of {scan.name}", "label it on another machine"
        )
    labelled = dataclasses.replace(
        scan,
        counts=scan.counts if covered.all() else scan.counts[covered],
        positions=labels.positions[covered],
        probe=labels.probe,
        truth=GroundTruth(labels.object, labels.origin),
        metadata=scan.metadata | {"ground_truth_source": labels.name},
    )
    record = record_provenance(None, dataset=dataset, reconstruction=reconstruction)
    if (other := different_input(labels.metadata, record)) is not None:
        logger.warning(
            "%s was made from another dataset than %s (%s): its object may be that of another sample",
            *(reconstruction, dataset, other),
        )
    write_dataset(output, labelled, provenance=lambda arrays: record)
    logger.info("labelled %s: %d of %d patterns, object from %s", output, len(labelled), len(scan), labels.name)


def _covered_centres(reconstruction: Reconstruction) -> np.ndarray:
    """Return True for each pattern whose beam centre lies on the coverage, ``(J,)``."""
    pixels = np.rint(reconstruction.positions - np.asarray(reconstruction.origin)).astype(int)
    inside = np.all((pixels >= 0) & (pixels < reconstruction.coverage.shape), axis=1)
    return inside & reconstruction.coverage[tuple(np.clip(pixels, 0, np.subtract(reconstruction.coverage.shape, 1)).T)]
