"""The canvas that patches are put on: in memory, or in files where it is larger than that."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from ..config import Runtime
from ..io.atomic import preallocate
from ..physics.kernels.accumulate import convolve_points, divide_, splat_

FLOOR = 1e-3
"""Least weight of a pixel that counts as seen, relative to the median of those that light falls on."""
PIXEL_BYTES = 17
"""What a pixel of a canvas takes: sum, hits, weight, coverage."""
BAND = 1 << 22
"""Pixels looked at at once."""
SAMPLE = 1 << 15
"""Pixels that a median is taken over, evenly spread, where there are more."""


@dataclass(frozen=True)
class CanvasStorage:
    """Where large arrays may lie.

    Attributes:
        memory: bytes of memory for them.
        folder: for what does not fit; made when it is needed.
    """

    memory: float
    folder: Path

    def array(self, name: str, shape: tuple[int, int], dtype: type) -> np.ndarray:
        """Zeros, in memory if a whole canvas of this shape fits there, else in a file.

        Raises:
            OSError: if it fits nowhere.
        """
        if self._in_memory(shape):
            return np.zeros(shape, dtype)
        path = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        array = np.memmap(path, dtype, "w+", shape=shape)
        with path.open("r+b") as file:
            preallocate(file, array.nbytes)
        return array

    def check(self, positions: np.ndarray, size: int) -> None:
        """Refuse a canvas under patches of ``size`` px at all positions that fits nowhere, before there are patches.

        Raises:
            OSError: if it does.
        """
        height, width = (np.ceil(np.ptp(positions, axis=0)).astype(int) + size).tolist()
        self._in_memory((height, width))

    def _in_memory(self, shape: tuple[int, int]) -> bool:
        """Whether memory holds a whole canvas of this shape; if not, the folder does.

        Raises:
            OSError: if neither does.
        """
        needed = PIXEL_BYTES * shape[0] * shape[1]
        if needed <= self.memory:
            return True
        self.folder.mkdir(exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if needed > free + self._taken():
            raise OSError(
                f"a canvas of {shape[0]} x {shape[1]} px needs {needed / 2**30:.3g} GiB, {self.memory / 2**30:.3g} GiB "
                f"of memory and {free / 2**30:.3g} GiB of disk are free: make room, or check the unit of the positions"
            )
        return False

    def _taken(self) -> int:
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())


def memory_for(runtime: Runtime) -> float:
    """Bytes of memory that a canvas may take: as many as the settings say, or half of what is free."""
    if runtime.canvas_memory_gib is not None:
        return runtime.canvas_memory_gib * 2**30
    return 0.5 * psutil.virtual_memory().available


@dataclass(frozen=True)
class Stitched:
    """A finished canvas.

    Attributes:
        object: the weighted mean, complex64, ``(H, W)``; 1, which is empty space, where nothing is known.
        weight: sum of the weights, float32, ``(H, W)``.
        coverage: where the weight is enough to know the object, ``(H, W)``.
        origin: position ``(y, x)`` of pixel ``[0, 0]``, px.
    """

    object: np.ndarray
    weight: np.ndarray
    coverage: np.ndarray
    origin: tuple[float, float]


class Canvas:
    """An object as it grows: a sum of weighted patches and where they lay. Canvases of one area add up, in any order.

    All patches have the same weights, so that the sum of those is the picture of all places convolved with one patch.

    Attributes:
        total: sum of weighted patches, complex, ``(H, W)``.
        hits: patches at each place, ``(H, W)``; one between pixels is shared among four.
        weights: of the pixels of a patch, real, ``(S, S)``.
        origin: position ``(y, x)`` of pixel ``[0, 0]``, px.
        patches: how many were added.
    """

    def __init__(self, total: np.ndarray, hits: np.ndarray, weights: Tensor, origin: tuple[float, float]) -> None:
        self.total, self.hits, self.weights, self.origin = total, hits, weights, origin
        self.patches = 0

    @classmethod
    def around(
        cls, positions: np.ndarray, weights: Tensor, grid: np.ndarray, room: CanvasStorage, margin: int = 0
    ) -> "Canvas":
        """An empty canvas on which patches fit at all ``positions``.

        Args:
            positions: px, ``(n, 2)``.
            weights: of the pixels of a patch, ``(S, S)``.
            grid: a position that lies on a whole pixel, so that patches placed there are not interpolated.
            room: where it may lie.
            margin: px left free around the patches.
        """
        low = np.floor(positions.min(0) - grid) + grid
        height, width = (np.ceil(positions.max(0) - low).astype(int) + len(weights) + 2 * margin).tolist()
        y, x = (low - len(weights) // 2 - margin).tolist()
        dtype = np.complex128 if weights.dtype == torch.float64 else np.complex64
        total = room.array("total", (height, width), dtype)
        return cls(total, room.array("hits", (height, width), total.real.dtype.type), weights, (y, x))

    def add(self, patches: Tensor, positions: Tensor) -> None:
        """Put patches ``(b, S, S)`` on the canvas, their centres at ``positions`` ``(b, 2)`` px, bilinearly."""
        places = positions - torch.tensor(self.origin, dtype=torch.float64)
        splat_(torch.from_numpy(self.total), patches, places, self.weights, torch.from_numpy(self.hits))
        self.patches += len(patches)

    def __iadd__(self, other: "Canvas") -> "Canvas":
        same = self.origin == other.origin and self.total.shape == other.total.shape
        if not same or not torch.equal(self.weights, other.weights):
            raise ValueError("canvases of different areas or weights cannot be added")
        for rows in _bands(self.total.shape):
            self.total[rows] += other.total[rows]
            self.hits[rows] += other.hits[rows]
        self.patches += other.patches
        return self

    def finish(self, room: CanvasStorage) -> Stitched:
        """The weighted mean, band by band. It takes the place of the sum: nothing can be added after this."""
        weight = room.array("weight", self.hits.shape, np.float32)
        coverage = room.array("coverage", self.hits.shape, np.bool_)
        total, hits = torch.from_numpy(self.total), torch.from_numpy(self.hits)
        for rows in _bands(weight.shape):
            weight[rows] = convolve_points(hits, self.weights, rows)
        floor = _floor(weight)
        for rows in _bands(weight.shape):
            coverage[rows] = divide_(total[rows], torch.from_numpy(weight[rows]), floor)
        return Stitched(self.total.astype(np.complex64, copy=False), weight, coverage, self.origin)


def _floor(weight: np.ndarray) -> float:
    """Weight above which a pixel counts as seen."""
    step = max(1, round((weight.size / SAMPLE) ** 0.5))
    sample = weight[::step, ::step]
    lit = sample[sample > 1e-6 * sample.max()]
    return FLOOR * float(np.partition(lit, len(lit) // 2)[len(lit) // 2]) if len(lit) else np.inf


def _bands(shape: tuple[int, int]) -> Iterator[slice]:
    """Rows of an array, a bounded number of pixels at a time."""
    step = max(1, BAND // shape[1])
    return (slice(first, min(first + step, shape[0])) for first in range(0, shape[0], step))
