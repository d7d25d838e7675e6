"""Assembly of the patches of a scan to its reconstruction: weighted, in phase, every patch accounted for."""

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
    scan: Scan, patches: PatchSet, stitching: Stitching, storage: CanvasStorage, clock: Clock, name: str
) -> Reconstruction:
    """Stitch the patches of a scan.

    Args:
        scan: the patches were predicted from it.
        patches: in memory or on disk; a bounded number is held at a time.
        stitching: weighting and phase synchronisation.
        storage: memory and folder for canvases.
        clock: takes the seconds of ``synchronise`` and ``assembly``.
        name: of the reconstruction.

    Returns:
        The reconstruction, uncovered pixels 1.

    Raises:
        ValueError: if the patches are of another scan, or some are missing and that is not allowed.
        OSError: if the canvas fits neither in memory nor on disk.
    """
    check_patches(scan, patches)
    usable = _usable(scan, patches, stitching)
    weights = patch_weights(scan, patches, stitching)
    with clock("synchronise"):
        phases = find_phases(patches, usable, weights, stitching.phase)
    parts = _parts(usable, phases.components, stitching)
    with clock("assembly"):
        stitched, component = _stitch(scan, patches, phases.factors, parts, usable, weights, storage)
    metadata = {
        "patches": len(usable),
        "patches_dropped": len(patches) - len(usable),
        "components": len(parts),
        "patches_of_components": [len(part) for part in parts],
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
        component=component,
        metadata=metadata,
    )


def check_patches(scan: Scan, patches: PatchSet) -> None:
    """Raise an error if patches cannot be of this scan.

    Args:
        scan: to stitch.
        patches: predicted.

    Raises:
        ValueError: if there are none, or their size, members or positions do not suit the scan.
    """
    if len(patches) == 0:
        raise ValueError("no patches found: run infer again")
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
    """Return the indices of the finite patches, where all are finite or missing ones are allowed.

    Raises:
        ValueError: if a pattern is in none of them, or one is not finite, and that is not allowed.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums = [patches.take(batch).sum((1, 2)) for batch in _batches(len(patches), patches)]
    finite = np.isfinite(np.concatenate(sums))
    usable = np.flatnonzero(finite)
    covered = np.zeros(len(scan), bool)
    covered[patches.members[usable]] = True
    if len(usable) == 0:
        raise ValueError(
            f"all {len(patches)} patches of {scan.name} hold NaN or infinity: train the network again, or check "
            "that the probe is in sqrt(photons)"
        )
    if covered.all() and finite.all():
        return usable
    missing = f"{int(np.sum(~finite))} of {len(patches)} patches of {scan.name} hold NaN or infinity, "
    missing += f"{int(np.sum(~covered))} of {len(scan)} patterns are in no finite patch"
    if not stitching.allow_missing_patches:
        raise ValueError(f"{missing}: run infer again, or set stitching.allow_missing_patches to stitch without them")
    logger.warning("%s: they are left out", missing)
    return usable


def _parts(usable: np.ndarray, components: np.ndarray, stitching: Stitching) -> list[np.ndarray]:
    """Divide the usable patches into the components that are stitched apart, their relative phases unknown."""
    count = int(components.max()) + 1
    if count == 1 or stitching.phase == "none":
        return [np.arange(len(usable))]
    parts = [np.flatnonzero(components == part) for part in range(count)]
    logger.warning(
        "%d components of the scan do not overlap, the largest of %d of %d patches: the phase between them is unknown, "
        "each is stitched apart",
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
    storage: CanvasStorage,
) -> tuple[Stitched, np.ndarray | None]:
    """Stitch all components on one area; return it and the component of each pixel, None for a single one.

    Where components meet, a pixel is that of the one with more weight: their relative phase is unknown.
    """
    grid, margin = patches.positions[0], (scan.size - patches.size) // 2
    everywhere = np.concatenate([scan.positions, patches.positions])
    whole = Canvas.around(everywhere, weights, grid, storage, margin)
    if len(parts) == 1:
        _fill(whole, patches, factors, usable)
        return whole.finish(storage), None
    stitched, label = whole.finish(storage), storage.array("part", whole.total.shape, np.int32)
    label[:] = -1
    for number, part in enumerate(parts):
        canvas = Canvas.around(patches.positions[usable[part]], weights, grid, storage)
        _fill(canvas, patches, factors[part], usable[part])
        _lay_over(stitched, label, canvas.finish(storage), number)
    return stitched, label


def _fill(canvas: Canvas, patches: PatchSet, factors: np.ndarray, which: np.ndarray) -> None:
    """Add some patches to a canvas, each multiplied with its phase factor."""
    for batch in _batches(len(which), patches):
        values = torch.from_numpy(patches.take(which[batch]))
        values *= torch.from_numpy(factors[batch, None, None])
        canvas.add(values, torch.from_numpy(patches.positions[which[batch]]))


def _lay_over(stitched: Stitched, label: np.ndarray, part: Stitched, number: int) -> None:
    """Overwrite the stitched object with a component wherever that has more weight."""
    y, x = np.round(np.subtract(part.origin, stitched.origin)).astype(int)
    area = np.s_[y : y + part.weight.shape[0], x : x + part.weight.shape[1]]
    more = part.coverage & (part.weight > stitched.weight[area])
    for target, source in ((stitched.object, part.object), (stitched.weight, part.weight)):
        target[area][more] = source[more]
    stitched.coverage[area] |= more
    label[area][more] = number


def _batches(count: int, patches: PatchSet) -> list[np.ndarray]:
    """Return the indices from 0 to ``count`` in batches of :data:`BATCH_BYTES`."""
    step = max(1, BATCH_BYTES // (8 * patches.size**2))
    return [np.arange(first, min(first + step, count)) for first in range(0, count, step)]
