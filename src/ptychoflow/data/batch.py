"""Batches as a network takes them, made where it computes: from counts as they are stored and what each scan knows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.arrays import as_tensor
from ..core.scan import Scan
from ..physics.propagation import to_corner


class Batch(NamedTuple):
    """Groups of patterns, each with its own probe; diffraction has zero frequency at the corner.

    Attributes:
        counts: photons, float32, ``(B, C, N, N)``, corner layout.
        probe: modes in sqrt(photons), ``(B, M, N, N)``; scans with fewer modes have dark ones.
        relative: ``position - centre`` of each member, px, float64, ``(B, C, 2)``.
        centre: the group's place, whole pixels from the truth's origin, px, float64, ``(B, 2)``.
        members: pattern indices, anchor first, ``(B, C)``.
        scan: which scan, ``(B,)``.
        mask: 1 where a detector pixel counts, ``(B, 1, N, N)``, corner layout; None where all do.
        truth: the object around ``centre``, complex64, ``(B, N, N)``, 0 in scans without; None where no scan has one.
        labelled: True in scans with a truth, ``(B,)``.
        view: a fit of the scan around ``centre``, ``(B, 4, N, N)``, as ``networks.whole`` sees it; None for others.
        held_out: True for members that this fit was not given, ``(B, C)``.
        turn: how a network that learns is shown the views, as ``networks.whole`` counts turns.
    """

    counts: Tensor
    probe: Tensor
    relative: Tensor
    centre: Tensor
    members: Tensor
    scan: Tensor
    mask: Tensor | None
    truth: Tensor | None
    labelled: Tensor
    view: Tensor | None = None
    held_out: Tensor | None = None
    turn: int = 0

    def part(self, here: slice) -> "Batch":
        """Some of the groups."""
        return Batch(*(each[here] if isinstance(each, Tensor) else each for each in self))


class ScanTable:
    """What batches need to know of each scan beside its counts, on one device.

    Args:
        scans: in the order of their numbers.
        labels: whether to cut the truth.
        device: where batches are made.
        group_size: how many members the network sees, in whose middle a group lies; all without it.
    """

    def __init__(
        self,
        scans: Sequence[Scan],
        labels: bool = True,
        device: torch.device | str = "cpu",
        group_size: int | None = None,
    ) -> None:
        lengths = [len(scan) for scan in scans]
        self.group_size = group_size
        self.size = scans[0].size
        self.first = torch.tensor([0, *np.cumsum(lengths)[:-1]], device=device)
        self.positions = torch.from_numpy(np.concatenate([scan.positions for scan in scans])).to(device)
        self.probes = torch.from_numpy(_stack_modes([scan.probe for scan in scans])).to(device)
        masks = _stack_masks(scans)
        self.masks = None if masks is None else torch.from_numpy(masks).to(device)
        self.labelled = torch.tensor([scan.truth is not None for scan in scans], device=device)
        origins = [(0.0, 0.0) if scan.truth is None else scan.truth.origin for scan in scans]
        self.origins = torch.tensor(origins, dtype=torch.float64, device=device)
        self.truths = None
        if labels and any(scan.truth is not None for scan in scans):
            self.truths = _Truths(scans, device)

    def batch(self, counts: Tensor, rows: Tensor) -> Batch:
        """Groups ready for the network.

        Args:
            counts: of each group's members as they are stored, zero frequency in the middle, ``(B, C, N, N)``.
            rows: scan and members of each group, ``(B, 1 + C)``.
        """
        scan, members = rows[:, 0], rows[:, 1:]
        centre, relative = self.place(scan, members)
        labelled = self.labelled[scan]
        return Batch(
            counts=to_corner(counts),
            probe=_of_each(self.probes, scan),
            relative=relative,
            centre=centre,
            members=members,
            scan=scan,
            mask=None if self.masks is None else _of_each(self.masks, scan),
            truth=None if self.truths is None else self.truths.cut(scan, centre - self.origins[scan], self.size),
            labelled=labelled,
        )

    def place(self, scan: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """Where each group's canvas lies, ``(B, 2)``, and its members on it, ``(B, C, 2)``, px.

        The centre is the mean of the positions that the network sees, moved to a whole pixel of the truth (or of the
        position frame without one), so that cutting labels and stitching interpolate nothing.
        """
        positions = self.positions[self.first[scan][:, None] + members]
        origin = self.origins[scan]
        centre = (positions[:, : self.group_size].mean(1) - origin).round() + origin
        return centre, positions - centre[:, None]


class _Truths:
    """The objects of all scans, one after another; a scan without one has a pixel of nothing."""

    def __init__(self, scans: Sequence[Scan], device: torch.device | str) -> None:
        nothing = np.zeros((1, 1), np.complex64)
        objects = [nothing if scan.truth is None else scan.truth.object for scan in scans]
        # a map that is the only one stays a map
        flat = np.concatenate([image.ravel() for image in objects]) if len(objects) > 1 else objects[0].reshape(-1)
        self.pixels = as_tensor(flat).to(device)
        self.shapes = torch.tensor([image.shape for image in objects], device=device)
        self.first = torch.tensor([0, *np.cumsum([image.size for image in objects])[:-1]], device=device)

    def cut(self, scan: Tensor, centre: Tensor, size: int) -> Tensor:
        """Windows around whole pixels, ``(B, N, N)``; an edge is repeated beyond it, where no light falls."""
        corner = centre.round().long() - size // 2
        line, last = torch.arange(size, device=corner.device), self.shapes[scan] - 1
        y, x = ((corner[:, axis, None] + line).clamp(min=0).minimum(last[:, axis, None]) for axis in (0, 1))
        width = self.shapes[scan, 1]
        return self.pixels[self.first[scan][:, None, None] + (y * width[:, None])[:, :, None] + x[:, None, :]]


def _of_each(tables: Tensor, scan: Tensor) -> Tensor:
    """The table of each group's scan, ``(B, ...)``; not copied where there is only one."""
    return tables.expand(len(scan), *tables.shape[1:]) if len(tables) == 1 else tables.index_select(0, scan)


def _stack_modes(probes: list[np.ndarray]) -> np.ndarray:
    """Probes of several scans as one array ``(scans, M, N, N)``, dark modes where a scan has fewer."""
    modes = max(len(probe) for probe in probes)
    return np.stack([np.pad(p, ((0, modes - len(p)), (0, 0), (0, 0))) for p in probes]).astype(np.complex64)


def _stack_masks(scans: Sequence[Scan]) -> np.ndarray | None:
    """Masks in corner layout, ``(scans, 1, N, N)``; None where every pixel of every scan counts."""
    if all(scan.mask is None for scan in scans):
        return None
    everywhere = np.ones((scans[0].size, scans[0].size), np.float32)
    masks = np.stack([everywhere if scan.mask is None else scan.mask.astype(np.float32) for scan in scans])
    return to_corner(torch.from_numpy(masks)).numpy()[:, None]
