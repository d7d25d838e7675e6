"""Initial guess of a refinement: a uniform object and the scan's probe, or a reconstruction."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..config import Refinement
from ..core.instrument import IDEAL, Instrument
from ..core.reconstruction import Reconstruction
from ..core.scan import Scan, check_scan_extent
from ..physics.probe_modes import add_modes
from ..runtime.memory import check_memory

NEW_MODE_FRACTION = 0.05
"""Fraction of the photons that a mode added to the probe begins with."""
PIXEL_BYTES = 48
"""Memory per pixel of the object at least: object before and after an epoch, snapshots, illumination, differences."""


@dataclass(frozen=True)
class InitialGuess:
    """Initial guess of everything that a refinement may change.

    Attributes:
        object: complex, ``(H, W)``; it holds every window and, where positions are refined, their greatest shifts.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px.
        probe: modes, sqrt(photons), ``(M, N, N)``.
        positions: px, ``(J, 2)``.
        probe_scale: amplitude of the probe at each pattern relative to ``probe``, ``(J,)``.
        instrument: variations of the probe, background and point spread.
        slices: slices of the start, ``(S, H, W)``; None where it is thin.
    """

    object: Tensor
    origin: tuple[float, float]
    probe: Tensor
    positions: np.ndarray
    probe_scale: np.ndarray
    instrument: Instrument = IDEAL
    slices: Tensor | None = None


def make_initial_guess(scan: Scan, settings: Refinement, start: Reconstruction | None) -> InitialGuess:
    """Make the initial guess from a reconstruction, or a uniform object and the scan's probe.

    Args:
        scan: to be refined.
        settings: number of probe modes, room for position shifts.
        start: reconstruction whose object, probe, positions and probe scale to start from.

    Returns:
        The initial guess, on the CPU.

    Raises:
        ValueError: if all positions are the same, or the reconstruction is not of this scan.
        OSError: if memory does not hold an object under all positions.
    """
    check_scan_extent(scan)
    margin = int(np.ceil(settings.max_position_shift_px)) + 1 if settings.position_start_epoch else 0
    slices = None
    if start is None:
        image, origin = _uniform_object(scan, margin)
        source, positions, probe_scale, instrument = scan.probe, scan.positions, None, IDEAL
    else:
        _check_start(scan, start)
        _check_slices(settings, start)
        image, origin = _padded_object(start.object, start, scan.size, margin)
        slices = None if start.slices is None else _padded_object(start.slices, start, scan.size, margin)[0]
        source, positions, probe_scale, instrument = start.probe, start.positions, start.probe_scale, start.instrument
    probe = torch.from_numpy(source.astype(np.complex64))
    probe = probe if settings.probe_modes is None else add_modes(probe, settings.probe_modes, NEW_MODE_FRACTION)
    probe_scale = np.ones(len(scan)) if probe_scale is None else probe_scale
    if settings.point_spread_px and not instrument.point_spread_px:
        instrument = replace(instrument, point_spread_px=settings.point_spread_px)
    return InitialGuess(image, origin, probe, np.array(positions), probe_scale.astype(np.float32), instrument, slices)


def check_settings_act(settings: Refinement, scan: Scan) -> None:
    """Refuse settings of the far field for a scan of the near field.

    Raises:
        ValueError: naming the setting, and why it does not act.
    """
    if not scan.geometry.near_field:
        return
    if settings.constraints.probe_centring:
        raise ValueError(
            "refinement.constraints.probe_centring moves probe and object together, which moves near-field patterns "
            f"such as those of {scan.name}: remove it"
        )
    if settings.constraints.probe_aperture:
        raise ValueError(
            "refinement.constraints.probe_aperture limits the far field of the probe, which near-field patterns "
            f"such as those of {scan.name} do not show: remove it"
        )
    if settings.low_order_phase_epochs not in (0, Refinement().low_order_phase_epochs):
        raise ValueError(
            "refinement.low_order_phase_epochs acts on far-field patterns, which a phase gradient displaces; those of "
            f"{scan.name} are of the near field: remove it"
        )


def _uniform_object(scan: Scan, margin: int) -> tuple[Tensor, tuple[float, float]]:
    """Return an object of 1 that holds all windows with a margin, px, and its origin."""
    first = np.floor(scan.positions.min(0)) - scan.size // 2 - 1 - margin
    height, width = (np.ceil(scan.positions.max(0) - first).astype(int) + scan.size // 2 + 1 + margin).tolist()
    check_memory(
        PIXEL_BYTES * height * width,
        f"an object of {height} x {width} px",
        "free memory, or check the unit of the positions",
    )
    return torch.ones(height, width, dtype=torch.complex64), (float(first[0]), float(first[1]))


def _padded_object(
    image: np.ndarray, start: Reconstruction, size: int, margin: int
) -> tuple[Tensor, tuple[float, float]]:
    """Return the object of a reconstruction, or its slices, padded with 1 where refined positions need room.

    The second value is its origin.
    """
    first, end = _window_bounds(start.positions, start.origin, size)
    before = np.maximum(0, margin - first)
    after = np.maximum(0, end + margin - start.object.shape)
    padded = pad(torch.from_numpy(image), (before[1], after[1], before[0], after[0]), value=1.0)
    return padded.contiguous(), (start.origin[0] - float(before[0]), start.origin[1] - float(before[1]))


def _check_start(scan: Scan, start: Reconstruction) -> None:
    """Raise an error if a reconstruction is not of this scan."""
    if len(start.positions) != len(scan) or start.probe.shape[-1] != scan.size:
        raise ValueError(
            f"the start was made from {len(start.positions)} patterns of {start.probe.shape[-1]} px, {scan.name} has "
            f"{len(scan)} of {scan.size} px: give a reconstruction of this scan"
        )
    pixel_m, start_pixel_m = scan.geometry.pixel_size_m, start.geometry.pixel_size_m
    if abs(pixel_m - start_pixel_m) > 1e-3 * pixel_m:
        raise ValueError(
            f"the start has pixels of {start_pixel_m:.4g} m, {scan.name} of {pixel_m:.4g} m: give a reconstruction of "
            "this scan"
        )
    moved = np.abs(start.positions - scan.positions).max()
    if moved > scan.size / 2:
        raise ValueError(
            f"positions of the start lie up to {moved:.0f} px from those of {scan.name}: give a reconstruction of this "
            "scan"
        )
    for positions in (scan.positions, start.positions):
        first, end = _window_bounds(positions, start.origin, scan.size)
        if first.min() < 0 or (end > start.object.shape).any():
            raise ValueError(
                f"the start is {start.object.shape} px and does not hold all windows of {scan.name}: stitch this scan "
                "again"
            )


def _check_slices(settings: Refinement, start: Reconstruction) -> None:
    """Raise an error if a start has another number of slices, or another spacing, than asked for; a thin one suits."""
    if start.slices is None:
        return
    if len(start.slices) != settings.slices:
        raise ValueError(
            f"the start has {len(start.slices)} slices, refinement.slices is {settings.slices}: set refinement.slices "
            f"to {len(start.slices)}, or give another start"
        )
    spacing_m = settings.slice_spacing_m
    if spacing_m is not None and abs(spacing_m - start.slice_spacing_m) > 1e-3 * start.slice_spacing_m:
        raise ValueError(
            f"the slices of the start are {start.slice_spacing_m:.4g} m apart, refinement.slice_spacing_m is "
            f"{spacing_m:.4g}: remove refinement.slice_spacing_m to take that of the start"
        )


def _window_bounds(positions: np.ndarray, origin: tuple[float, float], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first pixel of all windows together, and the one after their last, ``(y, x)``."""
    centres = np.round(positions - origin).astype(int)
    return centres.min(0) - size // 2, centres.max(0) + size // 2
