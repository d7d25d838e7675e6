"""A fit of a whole scan that a network corrects between its epochs."""

import time
from collections.abc import Iterator

import torch

from ..config import Inference, Refinement, Runtime
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..models.checkpoint import Model
from ..networks.object_network import ObjectCorrector, object_features
from ..refinement.engine import RefinementEngine
from ..refinement.short_schedule import one_epoch
from ..runtime.distributed import HINT_SMALLER_PROBLEM, DistributedContext
from ..runtime.gpu import out_of_memory_hint
from ..runtime.progress import track
from ..runtime.timing import Clock, rates


@out_of_memory_hint(HINT_SMALLER_PROBLEM)
def refine_with_network(
    trained: Model, scan: Scan, inference: Inference, runtime: Runtime, name: str
) -> Reconstruction | None:
    """Fit a scan from an empty object with its own probe, corrected by a network; None in every process but the first.

    Args:
        trained: a network with ``input: object_estimate``.
        scan: of patterns as large as those it was trained on.
        inference: precision of the network.
        runtime: devices, threads; several share each batch of the fit.
        name: of the reconstruction.

    Raises:
        ValueError: if scan and network do not suit each other.
    """
    trained.check(scan)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    began, clock, ctx = time.perf_counter(), Clock(), DistributedContext.of(runtime)
    with clock("refinement", torch.device(ctx.device)):
        fit = RefinementEngine(scan, Refinement(), ctx=ctx)
    fit.warn(scan.name)
    rows = {"epoch": [], "seconds": [], "error": []}
    settings = trained.network.settings
    errors = learned_updates(trained.network, fit, inference, clock)
    for epoch, error in enumerate(
        track(errors, "correcting", settings.cascades * settings.physics_iterations), start=1
    ):
        for column, value in zip(rows.values(), (epoch, time.perf_counter() - began, error), strict=True):
            column.append(value)
    if ctx.rank > 0:
        return None
    seconds = clock.seconds() | {"total": time.perf_counter() - began}
    timing = {"patterns": len(scan), "device": torch.device(ctx.device).type, "processes": ctx.world_size}
    timing |= {"threads": torch.get_num_threads(), "seconds": seconds}
    timing["patterns_per_second"] = rates(seconds, len(scan))
    timing["patterns_per_second"]["end_to_end"] = timing["patterns_per_second"].pop("total")
    return Reconstruction(
        object=fit.object.cpu().numpy(),
        origin=fit.origin,
        probe=scan.probe,
        positions=scan.positions,
        geometry=scan.geometry,
        weight=fit.light().cpu().numpy(),
        coverage=fit.covered(),
        name=name,
        history=rows,
        metadata={"corrections": settings.cascades, "inference": timing, "seconds": {}},
    )


def learned_updates(
    network: ObjectCorrector, fit: RefinementEngine, inference: Inference, clock: Clock
) -> Iterator[float]:
    """Epochs of a fresh fit, after every few of which a network corrects its object; gives the R-factor that each met.

    The seconds of physics go to ``refinement``, those of the network to ``inference``.
    """
    settings, device = network.settings, fit.object.device
    network.to(device)
    with clock("refinement", device):
        light = fit.light()
    for epoch in range(settings.cascades * settings.physics_iterations):
        last = (epoch + 1) % settings.physics_iterations == 0
        with clock("refinement", device):
            before, error = one_epoch(fit, epoch)
            seen = object_features(fit.object, before, fit.slope(), light) if last else None
        if last:
            low = inference.precision == "bfloat16"
            with clock("inference", device), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, low):
                fit.object = network.correct(seen)
        yield error
