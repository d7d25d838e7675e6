"""Reconstruct a scan with a network in one go, with no patches on disk."""

import dataclasses
import logging
import time
from pathlib import Path

from ..config import Inference, Runtime, Stitching
from ..core.reconstruction import name_for
from ..inference.scan_reconstruction import reconstruct_scan
from ..io.atomic import staging_dir
from ..io.dataset import open_dataset
from ..io.provenance import record_provenance
from ..io.reconstruction_h5 import write_reconstruction
from ..models.checkpoint import read_model

logger = logging.getLogger(__name__)


def reconstruct(
    model: Path,
    dataset: Path,
    output: Path,
    inference: Inference = Inference(),
    stitching: Stitching = Stitching(),
    runtime: Runtime = Runtime(),
) -> None:
    """Reconstruct a scan with a network: predict and stitch, with no patches on disk.

    Reads a checkpoint and a dataset. Makes a reconstruction, a ptychodus product, bit for bit that of ``infer`` and
    ``stitch``. A network for learned refinement predicts no patches: this is its command.

    Args:
        model: a checkpoint that ``train`` wrote.
        dataset: the scan, of patterns as large as those the network was trained on.
        output: the reconstruction, ``.h5``.
        inference: groups, precision of patches.
        stitching: weights and phases.
        runtime: devices, memory.

    Raises:
        FileNotFoundError: if the model or the dataset is missing.
        ValueError: if either is damaged, they do not suit each other, or the output is not a ``.h5``.
        OSError: if the output cannot be written.

    Example:
        ptychoflow reconstruct pinn.ckpt datasets/star star.h5
    """
    began = time.perf_counter()
    scan, trained = open_dataset(dataset), read_model(model)
    logger.info("read %s and %s: %d patterns of %d px", model, dataset, len(scan), scan.size)
    with staging_dir(output) as scratch:
        reconstruction = reconstruct_scan(
            trained, scan, scratch, inference, stitching, runtime, name_for(output, scan.name)
        )
        if reconstruction is None:
            return
        settings = {"inference": inference.model_dump(mode="json"), "stitching": stitching.model_dump(mode="json")}
        record = {"provenance": record_provenance(settings, model=model, dataset=dataset)}
        write_reconstruction(output, dataclasses.replace(reconstruction, metadata=reconstruction.metadata | record))
    logger.info("reconstructed %s: %s, in %.1f s", output, reconstruction.summary(), time.perf_counter() - began)
