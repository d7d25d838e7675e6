"""Fit object, probe, positions to the counts: the last mile from the network's result, the whole way from nothing."""

import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..config import Refinement, Runtime
from ..core.reconstruction import Reconstruction, name_for
from ..core.scan import Scan
from ..io.atomic import check_output
from ..io.dataset import open_dataset
from ..io.provenance import different_input, record_provenance
from ..io.reconstruction_h5 import ENDINGS, read_reconstruction, write_reconstruction
from ..refinement.engine import RefinementEngine
from ..refinement.loop import RefinementCancelled, RefinementLoop
from ..refinement.resume import ResumableState
from ..refinement.uncertainty import phase_uncertainty
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
    go_on: Callable[[dict[str, float]], bool] = lambda row: True,
) -> None:
    """Refine an object against the diffraction patterns, from a reconstruction or a uniform object.

    Reads a dataset and, with ``start``, a reconstruction. Makes a reconstruction, a ptychodus product with its history.
    Without ``start`` this is iterative ptychography (rPIE) from a uniform object.

    A refinement that was interrupted after more than a minute resumes.

    Args:
        dataset: the scan.
        output: the refined reconstruction, ``.h5``.
        refinement: epochs, steps, what to refine.
        start: the reconstruction to start from, such as ``stitch`` or an earlier ``refine`` wrote: its object, probe
            and positions; a uniform object without it.
        runtime: devices and threads.
        go_on: is called after each epoch with its row of the history, and after each epoch of the fits that repeat it
            for its uncertainty, which have a ``repetition``; False ends the refinement there, and what is written says
            that it is partial.

    Raises:
        FileNotFoundError: if the dataset or the start is missing.
        ValueError: if either is damaged, the output is no ``.h5``, or the fit fails.
        OSError: if the output cannot be written.

    Example:
        ptychoflow refine datasets/star refined.h5 --start star.h5 --set refinement.epochs=20
    """
    check_output(output, *ENDINGS)
    scan = open_dataset(dataset)
    begin = None if start is None else read_reconstruction(start)
    logger.info("read %s: %d patterns of %d px; starting from %s", dataset, len(scan), scan.size, start or "nothing")
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    ctx = DistributedContext.of(runtime)
    provenance = record_provenance(refinement, dataset=dataset, start=start)
    if begin is not None and (other := different_input(begin.metadata, provenance)) is not None:
        logger.warning(
            "%s was made from another dataset than %s (%s): its object, probe and positions are taken for this one's",
            *(start, dataset, other),
        )
    course = RefinementLoop(RefinementEngine(scan, refinement, begin, ctx), ResumableState(output, provenance))
    course.fit.warn(scan.name)
    stopped = course.run(scan.name, go_on)
    partial = f"stopped after epoch {course.history['epoch'][-1]} of {refinement.epochs}" if stopped else ""
    coverage, spread = course.fit.covered(), None
    if refinement.uncertainty and not stopped:
        try:
            spread = _spread(scan, course.fit, coverage, begin, ctx, go_on)
        except RefinementCancelled:
            partial = "stopped before it was known how certain the phase is"
    if ctx.rank > 0:
        return
    metadata = {"start": None if start is None else Path(start).name, "patterns": len(scan), "devices": ctx.world_size}
    metadata |= {"partial": partial} if partial else {}
    metadata["provenance"] = provenance
    write_reconstruction(output, _result(course, scan, coverage, spread, output, metadata))
    course.forget()
    error, epochs, seconds = (course.history[name][-1] for name in ("error", "epoch", "seconds"))
    logger.info("refined %s: R-factor %.4f after %d epochs, %.1f s", output, error, epochs, seconds)


def _spread(
    scan: Scan,
    fit: RefinementEngine,
    coverage: np.ndarray,
    begin: Reconstruction | None,
    ctx: DistributedContext,
    go_on: Callable[[dict[str, float]], bool],
) -> np.ndarray:
    """How far each pixel's phase is to be trusted, rad, from repetitions of a fit.

    Raises:
        RefinementCancelled: if ``go_on`` ends one of them.
    """
    began, numbers = time.perf_counter(), itertools.count(1)

    def again(other: Scan) -> RefinementEngine:
        repetition, number = RefinementLoop(RefinementEngine(other, fit.settings, begin, ctx)), next(numbers)
        if repetition.run(f"a repetition of {scan.name}", lambda row: go_on(row | {"repetition": number})):
            raise RefinementCancelled
        return repetition.fit

    spread = phase_uncertainty(scan, fit, coverage, again)
    if ctx.rank == 0:
        middle, took = np.median(spread[coverage]), time.perf_counter() - began
        logger.info("repeated the fit thrice, %.1f s: phases are certain to %.2g rad (median deviation)", took, middle)
    return spread


def _result(
    course: RefinementLoop, scan: Scan, coverage: np.ndarray, spread: np.ndarray | None, output: Path, metadata: dict
) -> Reconstruction:
    fit = course.fit
    spent = {name: course.history[name][-1] for name in ("seconds", "cpu_seconds")}
    return Reconstruction(
        object=fit.object.cpu().numpy(),
        origin=fit.origin,
        probe=fit.probe.cpu().numpy(),
        positions=fit.positions.cpu().numpy(),
        geometry=scan.geometry,
        weight=fit.light().cpu().numpy(),
        coverage=coverage,
        phase_uncertainty=spread,
        probe_scale=None if fit.intensity_is_constant else fit.probe_scale.cpu().numpy(),
        name=name_for(output, scan.name),
        history=course.history,
        snapshots=torch.stack(course.snapshots).numpy(),
        metadata=metadata | {"snapshot_epochs": course.kept} | spent,
    )
