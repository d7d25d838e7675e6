"""Put predicted patches together to one object: weighted, in phase, every patch counted."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .config import Stitching
from .data.packing import open_dataset
from .data.shards import PatchSet, read_patches
from .files import provenance
from .physics.forward import intensity, shift_probe
from .physics.patches import place_patches
from .physics.synchronisation import Synchronised, neighbour_pairs, overlaps, synchronise
from .reconstruction import Reconstruction, write_reconstruction
from .scan import Scan

logger = logging.getLogger(__name__)

BATCH = 64
"""Patches at a time."""
FLOOR = 1e-3
"""Least weight of a pixel that counts as seen, relative to the median of those that light falls on."""


@dataclass(frozen=True)
class Canvas:
    """An object as it grows: a sum and its weight. Canvases of the same area add up, in any order.

    Attributes:
        total: sum of weighted patches, complex, ``(H, W)``.
        weight: sum of their weights, ``(H, W)``.
        origin: position ``(y, x)`` of pixel ``[0, 0]``, px.
        patches: how many were added.
    """

    total: Tensor
    weight: Tensor
    origin: tuple[float, float]
    patches: int = 0

    @classmethod
    def around(cls, positions: np.ndarray, size: int, grid: np.ndarray) -> "Canvas":
        """An empty canvas on which patches of ``size`` px fit at all ``positions``.

        ``grid`` is a position that lies on a whole pixel of it, so that patches placed there are not interpolated.
        """
        low = np.floor(positions.min(0) - grid) + grid
        height, width = np.ceil(positions.max(0) - low).astype(int) + size
        y, x = (low - size // 2).tolist()
        return cls(torch.zeros(height, width, dtype=torch.complex64), torch.zeros(height, width), (y, x))

    def add(self, patches: Tensor, weights: Tensor, positions: Tensor) -> "Canvas":
        """This canvas with weighted patches placed on it, bilinearly.

        Args:
            patches: complex, ``(b, S, S)``.
            weights: ``(b, S, S)``.
            positions: centres, px, float64, ``(b, 2)``.
        """
        places = positions - torch.tensor(self.origin, dtype=torch.float64)
        total = place_patches(patches * weights, places, self.total.shape)
        weight = place_patches(weights, places, self.weight.shape)
        return Canvas(self.total + total, self.weight + weight, self.origin, self.patches + len(patches))

    def __add__(self, other: "Canvas") -> "Canvas":
        if self.origin != other.origin or self.total.shape != other.total.shape:
            raise ValueError("canvases of different areas cannot be added")
        return Canvas(self.total + other.total, self.weight + other.weight, self.origin, self.patches + other.patches)

    def coverage(self) -> Tensor:
        """Where the weight is enough to know the object."""
        lit = self.weight[self.weight > 1e-6 * self.weight.max()]
        return self.weight > FLOOR * lit.median() if len(lit) else torch.zeros_like(self.weight, dtype=torch.bool)

    def object(self) -> Tensor:
        """The weighted mean; 1, which is empty space, where nothing is known."""
        mean = self.total / self.weight.clamp_min(torch.finfo(self.weight.dtype).tiny)
        return torch.where(self.coverage(), mean, torch.ones_like(mean))


def stitch(dataset: Path, patches: Path, output: Path, stitching: Stitching = Stitching()) -> None:
    """Stitch the patches of a scan into a reconstruction.

    Args:
        dataset: the scan the patches belong to.
        patches: folder that ``infer`` wrote.
        output: the reconstruction, a ptychodus product.
        stitching: weights and phases.

    Raises:
        FileNotFoundError: if the dataset or the patches are missing.
        ValueError: if either is damaged, or they do not belong together.
    """
    began = time.perf_counter()
    scan, found = open_dataset(dataset), read_patches(patches)
    _check(scan, found)
    logger.info("read %s and %s: %d patches of %d px", dataset, patches, len(found), found.size)
    phases = find_phases(scan, found, stitching)
    synchronised = time.perf_counter()
    canvas = stitch_patches(scan, found, phases.factors, stitching)
    done = time.perf_counter()
    parts = int(phases.components.max()) + 1
    if parts > 1 and stitching.phase == "synchronise":
        logger.warning("%d parts of the scan do not overlap: the phase between them is unknown", parts)
    coverage = canvas.coverage().numpy()
    facts = {
        "patches": canvas.patches,
        "components": parts,
        "agreement": phases.agreement,
        "seconds": {"synchronise": synchronised - began, "place": done - synchronised},
        "provenance": provenance(stitching, dataset=dataset, patches=patches),
    }
    result = Reconstruction(
        object=canvas.object().numpy(),
        origin=canvas.origin,
        probe=scan.probe,
        positions=scan.positions,
        geometry=scan.geometry,
        weight=canvas.weight.numpy(),
        coverage=coverage,
        name=f"{Path(output).parent.name}/{scan.name}",
        facts=facts,
    )
    write_reconstruction(output, result)
    logger.info(
        "stitched %s: %d patches agree to %.3f, %d of %d px known, in %.1f s",
        output,
        canvas.patches,
        phases.agreement,
        coverage.sum(),
        coverage.size,
        done - began,
    )


def stitch_patches(scan: Scan, patches: PatchSet, factors: np.ndarray, stitching: Stitching) -> Canvas:
    """All patches on one canvas, each multiplied with its phase factor."""
    everywhere = np.concatenate([scan.positions, patches.positions])
    canvas = Canvas.around(everywhere, scan.size, grid=patches.positions[0])
    done = 0
    for values, positions, members in patches.batches(BATCH):
        turned = values * factors[done : done + len(values), None, None]
        weights = patch_weights(scan, positions, members, patches.size, stitching)
        canvas = canvas.add(torch.from_numpy(turned), weights, torch.from_numpy(positions))
        done += len(values)
    return canvas


def patch_weights(scan: Scan, positions: np.ndarray, members: np.ndarray, size: int, stitching: Stitching) -> Tensor:
    """Weight of each pixel of each patch: the light of all its group's patterns, or 1.

    Returns:
        ``(b, size, size)``.
    """
    if stitching.weighting == "uniform":
        return torch.ones(len(positions), size, size)
    relative = torch.from_numpy(scan.positions[members] - positions[:, None])
    light = intensity(shift_probe(torch.from_numpy(scan.probe), relative)).sum((1, 2))
    first = scan.size // 2 - size // 2
    return light[:, first : first + size, first : first + size]


def find_phases(scan: Scan, patches: PatchSet, stitching: Stitching) -> Synchronised:
    """The phase factor of every patch, from those it overlaps with."""
    pairs = neighbour_pairs(patches.positions, reach=patches.size)
    values = torch.from_numpy(np.concatenate([batch[0] for batch in patches.batches(1024)]))
    light = torch.cat([patch_weights(scan, p, m, patches.size, stitching) for _, p, m in patches.batches(BATCH)])
    overlap, bound = [], []
    for batch in np.array_split(pairs, max(1, len(pairs) // 256)):
        both = torch.from_numpy(batch.T)
        shifts = np.round(patches.positions[batch[:, 1]] - patches.positions[batch[:, 0]]).astype(np.int64)
        agreed, most = overlaps(values[both], light[both], torch.from_numpy(shifts))
        overlap.append(agreed.numpy())
        bound.append(most.numpy())
    overlap, bound = np.concatenate(overlap), np.concatenate(bound)
    if stitching.phase == "none":
        agreement = float(overlap.real.sum() / max(bound.sum(), 1e-30))
        ones = np.ones(len(patches), np.complex64)
        return Synchronised(ones, synchronise(len(patches), pairs, overlap, bound).components, agreement)
    return synchronise(len(patches), pairs, overlap, bound)


def _check(scan: Scan, patches: PatchSet) -> None:
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
