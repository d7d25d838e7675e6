"""The reconstruction of a whole scan with a network: prediction and stitching in one go, or learned refinement."""

import dataclasses
import time
from pathlib import Path

from ..config import Inference, Runtime, Stitching
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..io.patch_store import read_patches, seal
from ..models.checkpoint import Model
from ..networks.object_network import ObjectCorrector
from ..stitching.assembly import assemble
from ..stitching.canvas import CanvasStorage, memory_for
from .learned_refinement import run_learned_refinement
from .prediction import Prediction


def reconstruct_scan(
    trained: Model,
    scan: Scan,
    scratch: Path,
    inference: Inference,
    stitching: Stitching,
    runtime: Runtime,
    name: str = "reconstruction",
) -> Reconstruction | None:
    """Reconstruct a scan with a network, in memory.

    Patches of several processes are gathered in files under ``scratch``, as is a canvas larger than memory. A network
    for learned refinement predicts no patches: its result is the refined object.

    Args:
        trained: the network.
        scan: of patterns as large as those the network was trained on.
        scratch: folder for temporary files.
        inference: groups, precision.
        stitching: weights and phases.
        runtime: devices, memory.
        name: of the reconstruction.

    Returns:
        The reconstruction; None in every process but the first.

    Raises:
        ValueError: if scan and network do not suit each other.
    """
    began = time.perf_counter()
    if isinstance(trained.network, ObjectCorrector):
        return run_learned_refinement(trained, scan, inference, runtime, name)
    prediction = Prediction(trained, scan, inference, runtime)
    storage = CanvasStorage(memory_for(runtime), scratch / "canvas")
    storage.check(scan.positions, prediction.size)
    distributed = runtime.devices > 1
    writer, first = prediction.run((lambda: _made(scratch / "patches")) if distributed else None)
    if not first:
        return None
    if writer.folder is not None:
        seal(writer.folder, {})
    patches = writer.shard.in_memory() if writer.folder is None else read_patches(writer.folder)
    stitched = assemble(scan, patches, stitching, storage, prediction.clock, name)
    timing = prediction.timing(time.perf_counter() - began)
    seconds = {bucket: timing["seconds"][bucket] for bucket in ("synchronise", "assembly")}
    return dataclasses.replace(stitched, metadata=stitched.metadata | {"inference": timing, "seconds": seconds})


def _made(folder: Path) -> Path:
    """Make a folder and return it."""
    folder.mkdir()
    return folder
