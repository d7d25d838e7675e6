"""From the patches of a scan to its reconstruction: weighted, in phase, every patch counted."""

import logging

import numpy as np
import torch
from torch import Tensor

from ..config import Stitching
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan
from ..io.patch_store import PatchSet
from ..runtime.timing import Clock
from .canvas import Canvas, CanvasStorage, Stitched
from .phases import find_phases
from .weights import patch_weights

logger = logging.getLogger(__name__)

BATCH_BYTES = 1 << 22
"""Bytes of patches to hold at a time: few enough for a processor's cache."""


def assemble(
    scan: Scan, patches: PatchSet, stitching: Stitching, room: CanvasStorage, clock: Clock, name: str
) -> Reconstruction:
    """Stitch the patches of a scan.

    Args:
        scan: what the patches were predicted from.
        patches: of it, in memory or on disk; a bounded number is held at a time.
        stitching: weights and phases.
        room: where canvases may lie.
        clock: takes the seconds of ``synchronise`` and ``assembly``.
        name: of the reconstruction.

    Raises:
        ValueError: if the patches are another scan's, or some are lost and that is not allowed.
        OSError: if the canvas fits neither in memory nor on disk.
    """
    check(scan, patches)
    usable = _usable(scan, patches, stitching)
    weights = patch_weights(scan, patches, stitching)
    with clock("synchronise"):
        phases = find_phases(patches, usable, weights, stitching.phase)
    parts = _parts(usable, phases.components, stitching)
    with clock("assembly"):
        stitched, part = _stitch(scan, patches, phases.factors, parts, usable, weights, room)
    metadata = {
        "patches": len(usable),
        "patches_dropped": len(patches) - len(usable),
        "components": len(parts),
        "patches_of_components": [len(each) for each in parts],
        "agreement": phases.agreement,
    }
    return Reconstruction(
        object=stitched.object,
        origin=stitched.origin,
        probe=scan.probe,
        positions=scan.positions,
        geometry=scan.geometry,
        weight=stitched.weight,
        coverage=stitched.coverage,
        name=name,
        component=part,
        metadata=metadata,
    )


def check(scan: Scan, patches: PatchSet) -> None:
    """Refuse patches that cannot be this scan's.

    Raises:
        ValueError: saying why.
    """
    if len(patches) == 0:
        raise ValueError("there are no patches to stitch: run infer again")
    if patches.size > scan.size:
        raise ValueError(f"patches have {patches.size} px, the patterns of {scan.name} {scan.size} px: run infer again")
    if patches.members.min() < 0 or patches.members.max() >= len(scan):
        raise ValueError(
            f"patches were predicted from {patches.members.max() + 1} patterns or more, {scan.name} has {len(scan)}: "
            "run infer on this dataset"
        )
    distance = np.abs(scan.positions[patches.members[:, 0]] - patches.positions).max()
    if distance > scan.size:
        raise ValueError(f"patches lie up to {distance:.0f} px from their patterns in {scan.name}: run infer again")


def _usable(scan: Scan, patches: PatchSet, stitching: Stitching) -> np.ndarray:
    """Indices of the patches that hold numbers; none other may be left out unless that is allowed.

    Raises:
        ValueError: if a pattern is in none of them, or one is not finite, and that is not allowed.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums = [patches.take(here).sum((1, 2)) for here in _pieces(len(patches), patches)]
    finite = np.isfinite(np.concatenate(sums))
    usable = np.flatnonzero(finite)
    seen = np.zeros(len(scan), bool)
    seen[patches.members[usable]] = True
    if len(usable) == 0:
        raise ValueError(
            f"all {len(patches)} patches of {scan.name} hold NaN or infinity: train the model again, or see whether "
            "the probe is in sqrt(photons)"
        )
    if seen.all() and finite.all():
        return usable
    lost = f"{int(np.sum(~finite))} of {len(patches)} patches of {scan.name} hold NaN or infinity, "
    lost += f"{int(np.sum(~seen))} of {len(scan)} patterns are in no other"
    if not stitching.allow_missing_patches:
        raise ValueError(f"{lost}: run infer again, or set stitching.allow_missing_patches to go on without them")
    logger.warning("%s: they are left out", lost)
    return usable


def _parts(usable: np.ndarray, components: np.ndarray, stitching: Stitching) -> list[np.ndarray]:
    """Which of the usable patches to stitch together: those whose phases are known relative to each other."""
    count = int(components.max()) + 1
    if count == 1 or stitching.phase == "none":
        return [np.arange(len(usable))]
    parts = [np.flatnonzero(components == part) for part in range(count)]
    logger.warning(
        "%d parts of the scan do not overlap, the largest of %d of %d patches: the phase between them is unknown, each "
        "is stitched apart",
        count,
        len(parts[0]),
        len(usable),
    )
    return parts


def _stitch(
    scan: Scan,
    patches: PatchSet,
    factors: np.ndarray,
    parts: list[np.ndarray],
    usable: np.ndarray,
    weights: Tensor,
    room: CanvasStorage,
) -> tuple[Stitched, np.ndarray | None]:
    """All parts on one area, and which part each pixel shows; None for a single one.

    Where parts meet, a pixel is that of the one with more weight: their sum would be that of unknown phases.
    """
    grid, margin = patches.positions[0], (scan.size - patches.size) // 2
    everywhere = np.concatenate([scan.positions, patches.positions])
    whole = Canvas.around(everywhere, weights, grid, room, margin)
    if len(parts) == 1:
        _fill(whole, patches, factors, usable)
        return whole.finish(room), None
    stitched, label = whole.finish(room), room.array("part", whole.total.shape, np.int32)
    label[:] = -1
    for number, part in enumerate(parts):
        canvas = Canvas.around(patches.positions[usable[part]], weights, grid, room)
        _fill(canvas, patches, factors[part], usable[part])
        _lay_over(stitched, label, canvas.finish(room), number)
    return stitched, label


def _fill(canvas: Canvas, patches: PatchSet, factors: np.ndarray, which: np.ndarray) -> None:
    """Put some patches on a canvas, each multiplied with its phase factor."""
    for here in _pieces(len(which), patches):
        values = torch.from_numpy(patches.take(which[here]))
        values *= torch.from_numpy(factors[here, None, None])
        canvas.add(values, torch.from_numpy(patches.positions[which[here]]))


def _lay_over(stitched: Stitched, label: np.ndarray, part: Stitched, number: int) -> None:
    """Show a part wherever it has more weight than what is there."""
    y, x = np.round(np.subtract(part.origin, stitched.origin)).astype(int)
    here = np.s_[y : y + part.weight.shape[0], x : x + part.weight.shape[1]]
    more = part.coverage & (part.weight > stitched.weight[here])
    for ours, theirs in ((stitched.object, part.object), (stitched.weight, part.weight)):
        ours[here][more] = theirs[more]
    stitched.coverage[here] |= more
    label[here][more] = number


def _pieces(count: int, patches: PatchSet) -> list[np.ndarray]:
    """Indices from 0 to ``count``, as many at a time as there is room for."""
    step = max(1, BATCH_BYTES // (8 * patches.size**2))
    return [np.arange(first, min(first + step, count)) for first in range(0, count, step)]
