"""Predict and stitch in one go: the object of a scan, with no patches on disk."""

import dataclasses
import logging
import time
from pathlib import Path

from ..config import Inference, Runtime, Stitching
from ..core.reconstruction import Reconstruction, name_for
from ..core.scan import Scan
from ..inference.learned_refinement import run_learned_refinement
from ..inference.prediction import Prediction
from ..io.atomic import check_output, staging_dir
from ..io.dataset import open_dataset
from ..io.patch_store import read_patches, seal
from ..io.provenance import record_provenance
from ..io.reconstruction_h5 import ENDINGS, write_reconstruction
from ..models.checkpoint import Model, read_model
from ..networks.object_network import ObjectCorrector
from ..stitching.assembly import assemble
from ..stitching.canvas import CanvasStorage, memory_for

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
        ValueError: if either is damaged, they do not suit each other, or the output is no ``.h5``.
        OSError: if the output cannot be written.

    Example:
        ptychoflow reconstruct pinn.ckpt datasets/star star.h5
    """
    began = time.perf_counter()
    check_output(output, *ENDINGS)
    scan, trained = open_dataset(dataset), read_model(model)
    logger.info("read %s and %s: %d patterns of %d px", model, dataset, len(scan), scan.size)
    with staging_dir(output) as scratch:
        found = reconstruct_scan(trained, scan, scratch, inference, stitching, runtime, name_for(output, scan.name))
        if found is None:
            return
        settings = {"inference": inference.model_dump(mode="json"), "stitching": stitching.model_dump(mode="json")}
        record = {"provenance": record_provenance(settings, model=model, dataset=dataset)}
        write_reconstruction(output, dataclasses.replace(found, metadata=found.metadata | record))
    logger.info("reconstructed %s: %s, in %.1f s", output, found.summary(), time.perf_counter() - began)


def reconstruct_scan(
    trained: Model,
    scan: Scan,
    scratch: Path,
    inference: Inference,
    stitching: Stitching,
    runtime: Runtime,
    name: str = "reconstruction",
) -> Reconstruction | None:
    """The same in memory; None in every process but the first.

    Patches of several processes meet in files under ``scratch``, as does a canvas that memory does not hold. A network
    that corrects a fit makes no patches: its object is that of the fit.
    """
    began = time.perf_counter()
    if isinstance(trained.network, ObjectCorrector):
        return run_learned_refinement(trained, scan, inference, runtime, name)
    prediction = Prediction(trained, scan, inference, runtime)
    room = CanvasStorage(memory_for(runtime), scratch / "canvas")
    room.check(scan.positions, prediction.size)
    several = runtime.devices > 1
    writer, first = prediction.run((lambda: _made(scratch / "patches")) if several else None)
    if not first:
        return None
    if several:
        seal(writer.folder, {})
    patches = read_patches(writer.folder) if several else writer.shard.in_memory()
    found = assemble(scan, patches, stitching, room, prediction.clock, name)
    timing = prediction.timing(time.perf_counter() - began)
    stitched = {bucket: timing["seconds"][bucket] for bucket in ("synchronise", "assembly")}
    return dataclasses.replace(found, metadata=found.metadata | {"inference": timing, "seconds": stitched})


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
