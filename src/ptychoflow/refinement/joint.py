"""Joint refinement of several scans that share an object or a probe."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ..config import Refinement
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..runtime.distributed import DistributedContext
from .engine import RefinedVariables, RefinementEngine
from .initial_guess import make_initial_guess
from .run import reconstruction_from

Shared = Literal["object", "probe"]


def refine_jointly(
    scans: Sequence[Scan],
    settings: Refinement,
    share: Shared,
    ctx: DistributedContext = DistributedContext(),
    on_epoch_end: Callable[[dict[str, float]], bool] = lambda row: True,
) -> list[Reconstruction]:
    """Refine several scans together, from a uniform object.

    In each epoch the scans follow one another, and each begins with what the one before made of that which they share.

    Args:
        scans: measurements of one pixel size and one number of pixels; positions in one frame where the object is
            shared.
        settings: of the refinement. All epochs are run.
        share: what the scans have in common: an object (views and repeated scans of about the same area) or a probe
            (several samples).
        ctx: device, and the processes that share each batch.
        on_epoch_end: called after each epoch with its number, seconds and mean R-factor; False ends the refinement.

    Returns:
        A reconstruction of each scan. A shared object is the same in all; coverage and weight are those of each scan.

    Raises:
        ValueError: if the scans do not belong together, the settings ask for what a joint refinement has not, or it
            diverges.
        OSError: if memory does not hold the object.
    """
    shares_object, shares_probe = share == "object", share == "probe"
    _check_settings(settings, shares_probe)
    _check_scans(scans)
    starts = _common_starts(scans, settings) if shares_object else [None] * len(scans)
    engines = [RefinementEngine(scan, settings, start, ctx) for scan, start in zip(scans, starts, strict=True)]
    last, histories = engines[0], [_empty_history() for _ in engines]
    for engine in engines[1:]:
        engine.take_over(last, shares_object, shares_probe)
    began = np.array([time.perf_counter(), time.process_time()])
    for epoch in range(1, settings.epochs + 1):
        progress = (epoch - 1) / max(settings.epochs - 1, 1)
        for scan, engine, history in zip(scans, engines, histories, strict=True):
            engine.take_over(last, shares_object, shares_probe)
            with_low_order_phase = epoch <= settings.low_order_phase_epochs
            stats = engine.epoch(RefinedVariables.in_epoch(epoch, settings), progress, with_low_order_phase)
            if not np.isfinite(stats.error):
                raise ValueError(f"the refinement of {scan.name} diverged in epoch {epoch}: lower refinement.step_size")
            spent = (np.array([time.perf_counter(), time.process_time()]) - began).tolist()
            for column, value in zip(history.values(), (epoch, *spent, stats.error, stats.phase_change), strict=True):
                column.append(value)
            last = engine
        error = float(np.mean([history["error"][-1] for history in histories]))
        if not on_epoch_end({"epoch": epoch, "seconds": histories[-1]["seconds"][-1], "error": error}):
            break
    for engine in engines:
        engine.take_over(last, shares_object, shares_probe)
    return [_reconstruction(*parts, share=share) for parts in zip(engines, scans, histories, strict=True)]


def _empty_history() -> dict[str, list[float]]:
    return {name: [] for name in ("epoch", "seconds", "cpu_seconds", "error", "phase_change")}


def _check_settings(settings: Refinement, shares_probe: bool) -> None:
    """Refuse settings that a joint refinement has not."""
    for name, asked in (
        ("prior", settings.prior != "none"),
        ("uncertainty", settings.uncertainty),
        ("slices", settings.slices > 1),
        ("stop: held_out", settings.stop == "held_out"),
    ):
        if asked:
            raise ValueError(f"several scans are refined without {name}: remove it, or refine each scan by itself")
    if shares_probe and settings.position_start_epoch is not None:
        raise ValueError(
            "positions are not refined where scans share a probe, since a shift of all positions is one of the "
            "probe: remove position_start_epoch, or share the object only"
        )
    if shares_probe and settings.probe_variations:
        raise ValueError("probe variations belong to one scan: remove probe_variations, or share the object only")


def _check_scans(scans: Sequence[Scan]) -> None:
    """Refuse scans whose pixels differ."""
    if len(scans) < 2:
        raise ValueError(f"got {len(scans)} scan, expected two or more to refine together")
    first = scans[0]
    for scan in scans[1:]:
        if scan.size != first.size or len(scan.probe) != len(first.probe):
            raise ValueError(
                f"{scan.name} has {len(scan.probe)} modes of {scan.size} px, {first.name} {len(first.probe)} of "
                f"{first.size} px: pack both with the same crop and binning, and give probes of as many modes"
            )
        pixel_m, first_pixel_m = scan.geometry.pixel_size_m, first.geometry.pixel_size_m
        if abs(pixel_m - first_pixel_m) > 1e-3 * first_pixel_m:
            raise ValueError(
                f"{scan.name} has object pixels of {pixel_m:.4g} m, {first.name} of {first_pixel_m:.4g} m: expected "
                "equal ones, check lengths and energy"
            )


def _common_starts(scans: Sequence[Scan], settings: Refinement) -> list[Reconstruction]:
    """Return a uniform start of each scan on one canvas that holds all of them."""
    everywhere = dataclasses.replace(
        scans[0],
        counts=np.broadcast_to(np.zeros((), np.uint8), (sum(map(len, scans)), scans[0].size, scans[0].size)),
        positions=np.concatenate([scan.positions for scan in scans]),
        truth=None,
    )
    guess = make_initial_guess(everywhere, settings, None)
    image = guess.object.numpy()
    known = np.ones(image.shape, bool)
    return [
        Reconstruction(image, guess.origin, scan.probe, scan.positions, scan.geometry, known.astype(np.float32), known)
        for scan in scans
    ]


def _reconstruction(
    engine: RefinementEngine, scan: Scan, history: dict[str, list[float]], share: Shared
) -> Reconstruction:
    found = reconstruction_from(engine, scan, history, engine.coverage())
    return dataclasses.replace(found, metadata={"shared": share} | found.metadata)
