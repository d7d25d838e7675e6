"""Where a fit begins: from empty space and the scan's probe, or from a reconstruction."""

from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..config import Refinement
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan, check_scan_extent
from ..physics.probe_modes import more_modes

MODE_SHARE = 0.05
"""Share of the light that a mode made from the first one begins with."""
PIXEL_BYTES = 48
"""What a fit needs for a pixel of its object at least: before and after an epoch, snapshots, light, differences."""


@dataclass(frozen=True)
class Start:
    """The first guess of a fit.

    Attributes:
        object: complex, ``(H, W)``, holds every window and, where positions are free, as far as they may move.
        origin: position of its pixel ``[0, 0]``, px.
        probe: modes, ``(M, N, N)``.
        positions: px, ``(J, 2)``.
        probe_scale: amplitude of each pattern's beam relative to the probe, ``(J,)``.
    """

    object: Tensor
    origin: tuple[float, float]
    probe: Tensor
    positions: np.ndarray
    probe_scale: np.ndarray


def begin(scan: Scan, settings: Refinement, found: Reconstruction | None) -> Start:
    """Begin with all that a reconstruction found, or with nothing but what the scan says.

    Raises:
        ValueError: if all positions are the same, or the reconstruction is not of this scan.
        OSError: if memory does not hold an object under all positions.
    """
    check_scan_extent(scan)
    if found is not None:
        _check(scan, found)
    positions = scan.positions if found is None else found.positions
    known = None if found is None else found.probe_scale
    margin = int(np.ceil(settings.max_position_shift_px)) + 1 if settings.position_start_epoch else 0
    image, origin = _empty(scan, margin) if found is None else _grown(found, scan.size, margin)
    probe = torch.from_numpy((scan if found is None else found).probe.astype(np.complex64))
    probe = probe if settings.probe_modes is None else more_modes(probe, settings.probe_modes, MODE_SHARE)
    probe_scale = np.ones(len(scan)) if known is None else known
    return Start(image, origin, probe, np.array(positions), probe_scale.astype(np.float32))


def _empty(scan: Scan, margin: int) -> tuple[Tensor, tuple[float, float]]:
    first = np.floor(scan.positions.min(0)) - scan.size // 2 - 1 - margin
    height, width = (np.ceil(scan.positions.max(0) - first).astype(int) + scan.size // 2 + 1 + margin).tolist()
    needed, free = PIXEL_BYTES * height * width, psutil.virtual_memory().available
    if needed > free:
        raise OSError(
            f"an object of {height} x {width} px needs {needed / 2**30:.3g} GiB, {free / 2**30:.3g} GiB of memory are "
            "free: make room, or check the unit of the positions"
        )
    return torch.ones(height, width, dtype=torch.complex64), (float(first[0]), float(first[1]))


def _grown(found: Reconstruction, size: int, margin: int) -> tuple[Tensor, tuple[float, float]]:
    """The object found, with empty space around it where positions need room."""
    first, last = _reach(found.positions, found.origin, size)
    before = np.maximum(0, margin - first)
    after = np.maximum(0, last + margin - found.object.shape)
    image = pad(torch.from_numpy(found.object), (before[1], after[1], before[0], after[0]), value=1.0)
    return image.contiguous(), (found.origin[0] - float(before[0]), found.origin[1] - float(before[1]))


def _check(scan: Scan, found: Reconstruction) -> None:
    if len(found.positions) != len(scan) or found.probe.shape[-1] != scan.size:
        raise ValueError(
            f"the start was made from {len(found.positions)} patterns of {found.probe.shape[-1]} px, {scan.name} has "
            f"{len(scan)} of {scan.size} px: give a reconstruction of this scan"
        )
    ours, theirs = scan.geometry.pixel_size_m, found.geometry.pixel_size_m
    if abs(ours - theirs) > 1e-3 * ours:
        raise ValueError(
            f"the start has pixels of {theirs:.4g} m, {scan.name} of {ours:.4g} m: give a reconstruction of this scan"
        )
    moved = np.abs(found.positions - scan.positions).max()
    if moved > scan.size / 2:
        raise ValueError(
            f"positions of the start lie up to {moved:.0f} px from those of {scan.name}: give a reconstruction of this "
            "scan"
        )
    for positions in (scan.positions, found.positions):
        first, last = _reach(positions, found.origin, scan.size)
        if first.min() < 0 or (last > found.object.shape).any():
            raise ValueError(
                f"the start is {found.object.shape} px and does not hold all windows of {scan.name}: stitch this scan "
                "again"
            )


def _reach(positions: np.ndarray, origin: tuple[float, float], size: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel of all windows together, and the one after their last."""
    places = np.round(positions - origin).astype(int)
    return places.min(0) - size // 2, places.max(0) + size // 2
