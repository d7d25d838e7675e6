"""Batches of groups as a network takes them, made on its device from stored counts and tables of the scans."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.arrays import as_tensor
from ..core.scan import Scan
from ..physics.forward_model import in_detector_frame
from ..physics.propagation import Propagator, propagator_of, to_corner


class Batch(NamedTuple):
    """Groups of patterns, each with its own probe; diffraction has zero frequency at the corner.

    Attributes:
        counts: photons, float32, ``(B, C, N, N)``, corner layout.
        probe: modes in sqrt(photons), ``(B, M, N, N)``; scans with fewer modes are filled with zeros.
        relative: ``position - centre`` of each member, px, float64, ``(B, C, 2)``.
        centre: position of the group, whole pixels from the ground truth's origin, px, float64, ``(B, 2)``.
        members: pattern indices, anchor first, ``(B, C)``.
        scan: index of the scan, ``(B,)``.
        mask: 1 for valid detector pixels, ``(B, 1, N, N)``, corner layout; None where all are valid.
        truth: ground-truth object around ``centre``, complex64, ``(B, N, N)``, 0 in scans without; None where no scan
            has one.
        labelled: True in scans with a ground truth, ``(B,)``.
        features: of a refinement of the scan around ``centre``, ``(B, 4, N, N)``, see
            :func:`ptychoflow.networks.object_network.object_features`; None for networks of groups.
        held_out: True for members that this refinement did not use, ``(B, C)``.
        transfer: transfer function to a near-field detector, of :class:`~ptychoflow.physics.propagation.Propagator`,
            ``(B, 1, 1, N, N)``; None in the far field.
        rotation: data augmentation of the features, see :class:`ptychoflow.networks.object_network.ObjectCorrector`.
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
    features: Tensor | None = None
    held_out: Tensor | None = None
    transfer: Tensor | None = None
    rotation: int = 0

    def propagators(self) -> Propagator:
        """Return the propagator of each member, for probes shifted to it."""
        return in_detector_frame(Propagator(self.transfer), self.relative)

    def part(self, groups: slice) -> "Batch":
        """Return some of the groups."""
        cut: dict[str, Any] = {n: field[groups] for n, field in self._asdict().items() if isinstance(field, Tensor)}
        return self._replace(**cut)


class ScanTable:
    """Positions, probes, masks and ground truths of scans on one device, from which batches are made.

    Args:
        scans: in the order of their indices.
        labels: add the ground truth to batches.
        device: to make batches on.
        group_size: number of members that the network sees; their mean is the centre of a group. All without it.
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
        transfers = _stack_transfers(scans)
        self.transfers = None if transfers is None else transfers.to(device)
        self.labelled = torch.tensor([scan.truth is not None for scan in scans], device=device)
        origins = [(0.0, 0.0) if scan.truth is None else scan.truth.origin for scan in scans]
        self.origins = torch.tensor(origins, dtype=torch.float64, device=device)
        self.truths: _GroundTruths | None = None
        if labels and any(scan.truth is not None for scan in scans):
            self.truths = _GroundTruths(scans, device)

    def batch(self, counts: Tensor, rows: Tensor) -> Batch:
        """Return groups ready for the network.

        Args:
            counts: photons of each group's members as stored, zero frequency in the middle, ``(B, C, N, N)``.
            rows: scan and members of each group, ``(B, 1 + C)``.
        """
        scan, members = rows[:, 0], rows[:, 1:]
        centre, relative = self.place(scan, members)
        labelled = self.labelled[scan]
        return Batch(
            counts=to_corner(counts),
            probe=_rows_of(self.probes, scan),
            relative=relative,
            centre=centre,
            members=members,
            scan=scan,
            mask=None if self.masks is None else _rows_of(self.masks, scan),
            truth=None if self.truths is None else self.truths.cut(scan, centre - self.origins[scan], self.size),
            labelled=labelled,
            transfer=None if self.transfers is None else _rows_of(self.transfers, scan),
        )

    def place(self, scan: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre of each group's canvas, ``(B, 2)``, and its members' positions on it, ``(B, C, 2)``, px.

        The centre is the mean of the positions that the network sees, rounded to a whole pixel of the ground truth (or
        of the position frame without one), so that neither cutting labels nor stitching interpolates.

        Args:
            scan: index of the scan, ``(B,)``.
            members: pattern indices, ``(B, C)``.
        """
        positions = self.positions[self.first[scan][:, None] + members]
        origin = self.origins[scan]
        centre = (positions[:, : self.group_size].mean(1) - origin).round() + origin
        return centre, positions - centre[:, None]


class _GroundTruths:
    """The ground-truth objects of all scans as one array; a scan without one has a single pixel of zero."""

    def __init__(self, scans: Sequence[Scan], device: torch.device | str) -> None:
        missing = np.zeros((1, 1), np.complex64)
        objects = [missing if scan.truth is None else scan.truth.object for scan in scans]
        # a single memory map stays one
        flat = np.concatenate([image.ravel() for image in objects]) if len(objects) > 1 else objects[0].reshape(-1)
        self.pixels = as_tensor(flat).to(device)
        self.shapes = torch.tensor([image.shape for image in objects], device=device)
        self.first = torch.tensor([0, *np.cumsum([image.size for image in objects])[:-1]], device=device)

    def cut(self, scan: Tensor, centre: Tensor, size: int) -> Tensor:
        """Return windows around whole pixels, ``(B, N, N)``; edges are repeated, beyond the illumination."""
        corner = centre.round().long() - size // 2
        pixels, last = torch.arange(size, device=corner.device), self.shapes[scan] - 1
        y, x = ((corner[:, axis, None] + pixels).clamp(min=0).minimum(last[:, axis, None]) for axis in (0, 1))
        width = self.shapes[scan, 1]
        return self.pixels[self.first[scan][:, None, None] + (y * width[:, None])[:, :, None] + x[:, None, :]]


def _rows_of(tables: Tensor, scan: Tensor) -> Tensor:
    """Return the table of each group's scan, ``(B, ...)``; a single table is not copied."""
    return tables.expand(len(scan), *tables.shape[1:]) if len(tables) == 1 else tables.index_select(0, scan)


def _stack_modes(probes: list[np.ndarray]) -> np.ndarray:
    """Return probes of several scans as one array ``(scans, M, N, N)``, modes of zeros where a scan has fewer."""
    modes = max(len(probe) for probe in probes)
    return np.stack([np.pad(p, ((0, modes - len(p)), (0, 0), (0, 0))) for p in probes]).astype(np.complex64)


def _stack_masks(scans: Sequence[Scan]) -> np.ndarray | None:
    """Return masks in corner layout, ``(scans, 1, N, N)``; None where every pixel of every scan is valid."""
    if all(scan.mask is None for scan in scans):
        return None
    all_valid = np.ones((scans[0].size, scans[0].size), np.float32)
    masks = np.stack([all_valid if scan.mask is None else scan.mask.astype(np.float32) for scan in scans])
    return to_corner(torch.from_numpy(masks)).numpy()[:, None]


def _stack_transfers(scans: Sequence[Scan]) -> Tensor | None:
    """Return transfer functions to near-field detectors, complex64, ``(scans, 1, 1, N, N)``; None in the far field.

    Raises:
        ValueError: if some scans are of the near field and some of the far field.
    """
    near = [scan.name for scan in scans if scan.geometry.near_field]
    if not near:
        return None
    if len(near) < len(scans):
        far = [scan.name for scan in scans if not scan.geometry.near_field]
        raise ValueError(
            f"{near[0]} is of the near field, {far[0]} of the far field: one network learns from scans of one kind only"
        )
    propagators = [propagator_of(scan.geometry, scan.size).to("cpu").transfer for scan in scans]
    return torch.stack([transfer for transfer in propagators if transfer is not None])[:, None, None]
