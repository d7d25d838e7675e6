"""Stitch predicted patches into one object."""

import dataclasses
import logging
import time
from pathlib import Path

import torch

from ..config import Runtime, Stitching
from ..core.reconstruction import name_for
from ..io.atomic import staging_dir
from ..io.dataset import open_dataset
from ..io.json_file import check_schema, read_json
from ..io.metadata import InferenceTiming
from ..io.patch_store import read_patches
from ..io.provenance import different_input, record_provenance
from ..io.reconstruction_h5 import write_reconstruction
from ..runtime.timing import Clock
from ..stitching.assembly import assemble
from ..stitching.canvas import CanvasStorage, memory_for

logger = logging.getLogger(__name__)


def stitch(
    dataset: Path, patches: Path, output: Path, stitching: Stitching = Stitching(), runtime: Runtime = Runtime()
) -> None:
    """Stitch predicted patches into one object.

    Reads a dataset and its patches. Makes a reconstruction, a ptychodus product.

    Args:
        dataset: the scan the patches belong to.
        patches: folder that ``infer`` wrote.
        output: the reconstruction, ``.h5``.
        stitching: weights and phases.
        runtime: memory for the canvas, threads.

    Raises:
        FileNotFoundError: if the dataset or the patches are missing.
        ValueError: if either is damaged, they do not belong together, or the output is not a ``.h5``.
        OSError: if the canvas fits neither in memory nor on disk, or the output cannot be written.

    Example:
        ptychoflow stitch datasets/star patches/star star.h5 --set stitching.weighting=uniform
    """
    began, clock = time.perf_counter(), Clock()
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    scan, patch_set = open_dataset(dataset), read_patches(patches)
    logger.info("read %s and %s: %d patches of %d px", dataset, patches, len(patch_set), patch_set.size)
    provenance = record_provenance(stitching, dataset=dataset, patches=patches)
    if (other := different_input(patch_set.metadata, provenance)) is not None:
        raise ValueError(
            f"{patches} was predicted from another dataset than {dataset} ({other}): run infer on this dataset"
        )
    with staging_dir(output) as scratch:
        storage = CanvasStorage(memory_for(runtime), scratch / "canvas")
        result = assemble(scan, patch_set, stitching, storage, clock, name_for(output, scan.name))
        timing = Path(patches) / "timing.json"
        metadata = {
            "inference": _read_timing(timing) if timing.is_file() else None,
            "seconds": clock.seconds(),
            "provenance": provenance,
        }
        write_reconstruction(output, dataclasses.replace(result, metadata=result.metadata | metadata))
    logger.info("stitched %s: %s, in %.1f s", output, result.summary(), time.perf_counter() - began)


def _read_timing(path: Path) -> dict:
    timing = read_json(path)
    check_schema(timing, InferenceTiming, str(path), "run infer again")
    return timing
