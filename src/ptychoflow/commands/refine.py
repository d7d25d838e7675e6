"""Refine object, probe and positions of a scan by rPIE, from a reconstruction or a uniform object."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from ..config import Refinement, Runtime
from ..core.doubt import as_data, join_doubts, log_doubts
from ..core.reconstruction import Reconstruction, name_for
from ..io.dataset import open_dataset
from ..io.provenance import different_input, record_provenance
from ..io.reconstruction_h5 import read_reconstruction, write_reconstruction
from ..metrics.reconstruction_doubts import doubt_refinement
from ..preprocessing.scan_doubts import doubt_scan
from ..readers.formats.ptychodus_product import read_product, reconstruction_of
from ..refinement.resume import ResumableState
from ..refinement.run import refine_scan
from ..runtime.distributed import HINT_SMALLER_PROBLEM, DistributedContext
from ..runtime.gpu import out_of_memory_hint

logger = logging.getLogger(__name__)


@out_of_memory_hint(HINT_SMALLER_PROBLEM)
def refine(
    dataset: Path,
    output: Path,
    refinement: Refinement = Refinement(),
    start: Path | None = None,
    runtime: Runtime = Runtime(),
    on_epoch_end: Callable[[dict[str, float]], bool] = lambda row: True,
) -> None:
    """Refine an object against the diffraction patterns, from a reconstruction or a uniform object.

    Reads a dataset and, with ``start``, a reconstruction. Makes a reconstruction, a ptychodus product with its history.
    Without ``start`` this is iterative ptychography (rPIE) from a uniform object.

    A refinement that was interrupted resumes after its last complete epoch: Ctrl-C and SIGTERM save the state at once,
    and each minute it is saved in case of a crash.

    Args:
        dataset: the scan.
        output: the refined reconstruction, ``.h5``.
        refinement: epochs, steps, what to refine.
        start: the reconstruction to start from, such as ``stitch`` or an earlier ``refine`` wrote, or a product of
            ptychodus: its object, probe and positions; a uniform object without it.
        runtime: devices and threads.
        on_epoch_end: called after each epoch with its row of the history, and after each epoch of the repetitions for
            the uncertainty, which have a ``repetition``; False ends the refinement, and the output is marked partial.

    Raises:
        FileNotFoundError: if the dataset or the start is missing.
        ValueError: if either is damaged, the output is no ``.h5``, or the refinement diverges.
        OSError: if the output cannot be written.

    Example:
        ptychoflow refine datasets/star refined.h5 --start star.h5 --set refinement.epochs=20
    """
    scan = open_dataset(dataset)
    initial = None if start is None else _read_start(start)
    source = start or "a uniform object"
    logger.info("read %s: %d patterns of %d px; starting from %s", dataset, len(scan), scan.size, source)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    ctx = DistributedContext.of(runtime)
    provenance = record_provenance(refinement, dataset=dataset, start=start)
    if initial is not None and (other := different_input(initial.metadata, provenance)) is not None:
        logger.warning(
            "%s was made from another dataset than %s (%s): its object, probe and positions are used for this one",
            *(start, dataset, other),
        )
    resumable = ResumableState(output, provenance)
    result = refine_scan(scan, refinement, initial, ctx, resumable, on_epoch_end)
    if ctx.rank > 0:
        return
    metadata = {"start": None if start is None else Path(start).name, "patterns": len(scan), "devices": ctx.world_size}
    doubts = join_doubts(doubt_scan(scan), doubt_refinement(scan, result))
    log_doubts(logger, scan.name, doubts)
    metadata |= result.metadata | {"provenance": provenance, "doubts": as_data(doubts)}
    write_reconstruction(output, dataclasses.replace(result, name=name_for(output, scan.name), metadata=metadata))
    resumable.remove()
    epochs, seconds = (result.history[name][-1] for name in ("epoch", "seconds"))
    error = result.history["error"][result.metadata.get("kept_epoch", epochs) - 1]
    logger.info("refined %s: R-factor %.4f after %d epochs, %.1f s", output, error, epochs, seconds)


def _read_start(path: Path) -> Reconstruction:
    """Read a reconstruction of ours, or a ptychodus product of another program."""
    try:
        return read_reconstruction(path)
    except ValueError as error:
        try:
            return reconstruction_of(read_product(Path(path)))
        except ValueError:
            raise error from None
