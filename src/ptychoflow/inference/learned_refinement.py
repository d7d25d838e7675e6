"""Learned refinement of a whole scan: epochs of rPIE, unrolled with a network that updates the object between them."""

import time
from collections.abc import Iterator
from typing import Any, cast

import torch

from ..config import Inference, Refinement, Runtime
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..models.checkpoint import Model
from ..networks.object_network import ObjectCorrector, object_features
from ..refinement.engine import RefinementEngine
from ..refinement.short_schedule import run_epoch
from ..runtime.distributed import HINT_SMALLER_PROBLEM, DistributedContext
from ..runtime.gpu import out_of_memory_hint
from ..runtime.progress import track
from ..runtime.timing import Clock, rates


@out_of_memory_hint(HINT_SMALLER_PROBLEM)
def run_learned_refinement(
    trained: Model, scan: Scan, inference: Inference, runtime: Runtime, name: str
) -> Reconstruction | None:
    """Refine a scan from a uniform object with its own probe, by rPIE and learned object updates.

    Args:
        trained: a network with ``input: object_estimate``.
        scan: of patterns as large as those it was trained on.
        inference: precision of the network.
        runtime: devices, threads; several processes share each batch of rPIE.
        name: of the reconstruction.

    Returns:
        The reconstruction; None in every process but the first.

    Raises:
        ValueError: if scan and network do not suit each other.
    """
    trained.check(scan)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    began, clock, ctx = time.perf_counter(), Clock(), DistributedContext.of(runtime)
    with clock("refinement", torch.device(ctx.device)):
        engine = RefinementEngine(scan, Refinement(), ctx=ctx)
    engine.warn(scan.name)
    history: dict[str, list[Any]] = {"epoch": [], "seconds": [], "error": []}
    network = cast(ObjectCorrector, trained.network)
    settings = network.settings
    errors = run_cascades(network, engine, inference, clock)
    epochs = settings.cascades * settings.physics_iterations
    for epoch, error in enumerate(track(errors, "refining", epochs), start=1):
        for column, value in zip(history.values(), (epoch, time.perf_counter() - began, error), strict=True):
            column.append(value)
    if ctx.rank > 0:
        return None
    return Reconstruction(
        object=engine.object.cpu().numpy(),
        origin=engine.origin,
        probe=scan.probe,
        positions=scan.positions,
        geometry=scan.geometry,
        weight=engine.illumination().cpu().numpy(),
        coverage=engine.coverage(),
        name=name,
        history=history,
        metadata={
            "cascades": settings.cascades,
            "inference": _timing(clock, len(scan), ctx, time.perf_counter() - began),
            "seconds": {},
        },
    )


def run_cascades(
    network: ObjectCorrector, engine: RefinementEngine, inference: Inference, clock: Clock
) -> Iterator[float]:
    """Run the cascades of a learned refinement: ``physics_iterations`` epochs of rPIE each, then one learned update.

    Args:
        network: updates the object from the object, the one before the last epoch, gradient and illumination.
        engine: newly made; its object is updated.
        inference: precision of the network.
        clock: takes the seconds of rPIE as ``refinement``, those of the network as ``inference``.

    Yields:
        R-factor of each epoch.
    """
    settings, device = network.settings, engine.object.device
    network.to(device)
    with clock("refinement", device):
        illumination = engine.illumination()
    for epoch in range(settings.cascades * settings.physics_iterations):
        ends_cascade = (epoch + 1) % settings.physics_iterations == 0
        with clock("refinement", device):
            before, error = run_epoch(engine, epoch)
            if ends_cascade:
                gradient = engine.preconditioned_gradient()
                features = object_features(engine.object, before, gradient, illumination)
        if ends_cascade:
            low = inference.precision == "bfloat16"
            with clock("inference", device), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, low):
                engine.object = network.correct(features)
        yield error


def _timing(clock: Clock, patterns: int, ctx: DistributedContext, total: float) -> dict[str, Any]:
    """Return seconds by bucket and patterns per second, plain data."""
    seconds = clock.seconds() | {"total": total}
    per_second = rates(seconds, patterns)
    per_second["end_to_end"] = per_second.pop("total")
    return {
        "patterns": patterns,
        "device": torch.device(ctx.device).type,
        "processes": ctx.world_size,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "patterns_per_second": per_second,
    }
