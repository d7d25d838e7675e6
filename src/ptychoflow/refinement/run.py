"""A whole refinement in memory: from a scan to its reconstruction with history and uncertainty."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..config import Refinement
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..runtime.distributed import DistributedContext
from .engine import RefinementEngine
from .loop import RefinementCancelled, RefinementLoop
from .multislice import MultisliceEngine, make_engine
from .position_correction import count_at_limit
from .position_model import fit_position_model
from .position_search import search_positions
from .resume import ResumableState
from .uncertainty import bootstrap_phase_uncertainty


def refine_scan(
    scan: Scan,
    settings: Refinement,
    start: Reconstruction | None,
    ctx: DistributedContext,
    resumable: ResumableState | None,
    on_epoch_end: Callable[[dict[str, float]], bool],
) -> Reconstruction:
    """Refine a scan, and estimate its phase uncertainty where the settings ask for it.

    Args:
        scan: the measurement.
        settings: epochs, step sizes, variables to refine.
        start: reconstruction to start from; a uniform object without it.
        ctx: device, and the processes that share each batch.
        resumable: where the state is saved, and read from first.
        on_epoch_end: called after each epoch with its row of the history, and after each epoch of the repetitions for
            the uncertainty, which have a ``repetition``; False cancels.

    Returns:
        The reconstruction; ``metadata["partial"]`` says what a cancelled one lacks.

    Raises:
        ValueError: if the scan holds no photon, the start does not suit it, or the refinement diverges.
        OSError: if memory does not hold the object.
    """
    searched = settings.position_model != "none" or settings.position_search_rounds > 0
    if searched and start is not None:
        raise ValueError(
            "a position model or search begins with a uniform object, but a start is given: leave the start out, or "
            "set refinement.position_model to none and refinement.position_search_rounds to 0"
        )
    scan = search_positions(fit_position_model(scan, settings, ctx), settings, ctx)
    loop = RefinementLoop(make_engine(scan, settings, start, ctx), resumable)
    loop.engine.warn(scan.name)
    cancelled = loop.run(scan.name, on_epoch_end)
    at_limit = count_at_limit(scan.positions, loop.engine.positions.cpu().numpy(), settings)
    partial = f"stopped after epoch {loop.history['epoch'][-1]} of {settings.epochs}" if cancelled else ""
    coverage, phase_std = loop.engine.coverage(), None
    if settings.uncertainty and not cancelled:
        try:
            with loop.saved_on_interruption():
                phase_std = bootstrap_phase_uncertainty(scan, loop.engine, coverage, start, ctx, on_epoch_end)
        except RefinementCancelled:
            partial = "stopped before the phase uncertainty was estimated"
    metadata = ({"partial": partial} if partial else {}) | ({"positions_at_limit": at_limit} if at_limit else {})
    return _reconstruction(loop, scan, coverage, phase_std, metadata)


def _reconstruction(
    loop: RefinementLoop,
    scan: Scan,
    coverage: np.ndarray,
    phase_std: np.ndarray | None,
    metadata: dict[str, Any],
) -> Reconstruction:
    kept = {} if loop.kept_epoch is None else {"kept_epoch": loop.kept_epoch}
    found = reconstruction_from(loop.engine, scan, loop.history, coverage)
    return dataclasses.replace(
        found,
        phase_uncertainty=phase_std,
        snapshots=torch.stack(loop.snapshots).numpy(),
        metadata=metadata | {"snapshot_epochs": loop.snapshot_epochs} | found.metadata | kept,
    )


def reconstruction_from(
    engine: RefinementEngine, scan: Scan, history: dict[str, list[Any]], coverage: np.ndarray
) -> Reconstruction:
    """Return what an engine has refined of a scan, with the seconds that its history says in the metadata."""
    return Reconstruction(
        object=engine.object.cpu().numpy(),
        origin=engine.origin,
        probe=engine.probe.cpu().numpy(),
        positions=engine.positions.cpu().numpy(),
        geometry=scan.geometry,
        weight=engine.illumination().cpu().numpy(),
        coverage=coverage,
        probe_scale=None if engine.intensity_is_constant else engine.probe_scale.cpu().numpy(),
        instrument=engine.instrument(),
        **(engine.slice_arrays() if isinstance(engine, MultisliceEngine) else {}),  # type: ignore[arg-type]
        name=scan.name,
        history=history,
        metadata={name: history[name][-1] for name in ("seconds", "cpu_seconds")},
    )
