"""Canvas of weighted patches: in memory, or in memory-mapped files where it is larger."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import Runtime
from ..io.atomic import preallocate
from ..physics.kernels.accumulate import convolve_points, divide_, splat_
from ..runtime.memory import available_memory

FLOOR = 1e-3
"""Least weight of a covered pixel, relative to the median over the pixels that patches reach."""
PIXEL_BYTES = 17
"""Bytes per pixel of a canvas: sum, hits, weight, coverage."""
BAND = 1 << 22
"""Pixels that are divided at a time."""
SAMPLE = 1 << 15
"""Pixels of an even sample over which a median is taken, where there are more."""


@dataclass(frozen=True)
class CanvasStorage:
    """Storage for canvases.

    Attributes:
        memory: bytes of memory for one canvas.
        folder: for memory maps of a larger one; made when it is needed.
    """

    memory: float
    folder: Path

    def array(self, name: str, shape: tuple[int, int], dtype: type) -> np.ndarray:
        """Return zeros, in memory if a whole canvas of this shape fits there, else in a file.

        Args:
            name: of the file.
            shape: height and width, px.
            dtype: of the array.

        Raises:
            OSError: if a canvas fits neither in memory nor on disk.
        """
        if self._in_memory(shape):
            return np.zeros(shape, dtype)
        path = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
        array = np.memmap(path, dtype, "w+", shape=shape)
        with path.open("r+b") as file:
            preallocate(file, array.nbytes)
        return array

    def check(self, positions: np.ndarray, size: int) -> None:
        """Raise an error if the canvas of all positions fits nowhere, before patches are predicted.

        Args:
            positions: px, ``(J, 2)``.
            size: side of a patch, px.

        Raises:
            OSError: if it fits neither in memory nor on disk.
        """
        height, width = (np.ceil(np.ptp(positions, axis=0)).astype(int) + size).tolist()
        self._in_memory((height, width))

    def _in_memory(self, shape: tuple[int, int]) -> bool:
        """Return True if memory holds a whole canvas of this shape, False if the folder does.

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
                f"of memory and {free / 2**30:.3g} GiB of disk are free: free some, or check the unit of the positions"
            )
        return False

    def _taken(self) -> int:
        return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())


def memory_for(runtime: Runtime) -> float:
    """Return the bytes of memory that a canvas may take: those of the settings, or half of what is available.

    Args:
        runtime: has ``canvas_memory_gib``.
    """
    if runtime.canvas_memory_gib is not None:
        return runtime.canvas_memory_gib * 2**30
    return 0.5 * available_memory()


@dataclass(frozen=True)
class Stitched:
    """A finished canvas.

    Attributes:
        object: the weighted mean, complex64, ``(H, W)``; 1 where it is not covered.
        weight: sum of the weights, float32, ``(H, W)``.
        coverage: True where the weight is enough to know the object, ``(H, W)``.
        origin: position ``(y, x)`` of pixel ``[0, 0]``, px.
    """

    object: np.ndarray
    weight: np.ndarray
    coverage: np.ndarray
    origin: tuple[float, float]


class Canvas:
    """Sum of weighted patches, and of their positions. Canvases of one area add up, in any order.

    All patches have the same weights, so that the sum of weights is the map of positions convolved with one patch.

    Attributes:
        total: sum of weighted patches, complex, ``(H, W)``.
        hits: number of patches at each pixel, ``(H, W)``; one between pixels is shared among four.
        weights: of the pixels of a patch, real, ``(S, S)``.
        origin: position ``(y, x)`` of pixel ``[0, 0]``, px.
        patches: number of patches that were added.
    """

    def __init__(self, total: np.ndarray, hits: np.ndarray, weights: Tensor, origin: tuple[float, float]) -> None:
        self.total, self.hits, self.weights, self.origin = total, hits, weights, origin
        self.patches = 0

    @classmethod
    def around(
        cls, positions: np.ndarray, weights: Tensor, grid: np.ndarray, storage: CanvasStorage, margin: int = 0
    ) -> "Canvas":
        """Make a canvas of zeros on which patches fit at all ``positions``.

        Args:
            positions: px, ``(n, 2)``.
            weights: of the pixels of a patch, ``(S, S)``.
            grid: a position that lies on a whole pixel, so that patches placed there are not interpolated.
            storage: memory and folder for it.
            margin: padding around the patches, px.

        Returns:
            The canvas.
        """
        low = np.floor(positions.min(0) - grid) + grid
        height, width = (np.ceil(positions.max(0) - low).astype(int) + len(weights) + 2 * margin).tolist()
        y, x = (low - len(weights) // 2 - margin).tolist()
        dtype = np.complex128 if weights.dtype == torch.float64 else np.complex64
        total = storage.array("total", (height, width), dtype)
        return cls(total, storage.array("hits", (height, width), total.real.dtype.type), weights, (y, x))

    def add(self, patches: Tensor, positions: Tensor) -> None:
        """Add patches to the canvas, with bilinear interpolation.

        Args:
            patches: complex, ``(b, S, S)``.
            positions: of their centres, px, ``(b, 2)``.

        Raises:
            ValueError: if a patch would reach outside the canvas.
        """
        centres = positions - torch.tensor(self.origin, dtype=torch.float64)
        splat_(torch.from_numpy(self.total), patches, centres, self.weights, torch.from_numpy(self.hits))
        self.patches += len(patches)

    def __iadd__(self, other: "Canvas") -> "Canvas":
        """Add another canvas of the same area and weights."""
        same = self.origin == other.origin and self.total.shape == other.total.shape
        if not same or not torch.equal(self.weights, other.weights):
            raise ValueError(
                "expected canvases of one area with the same weights: make both with Canvas.around of all positions"
            )
        for rows in _bands(self.total.shape):
            self.total[rows] += other.total[rows]
            self.hits[rows] += other.hits[rows]
        self.patches += other.patches
        return self

    def finish(self, storage: CanvasStorage) -> Stitched:
        """Compute the weighted mean in place of the sum: no patch can be added after this.

        Args:
            storage: memory and folder for weight and coverage.
        """
        weight = storage.array("weight", self.hits.shape, np.float32)
        coverage = storage.array("coverage", self.hits.shape, np.bool_)
        total, hits = torch.from_numpy(self.total), torch.from_numpy(self.hits)
        for rows in _bands(weight.shape):
            weight[rows] = convolve_points(hits, self.weights, rows)
        floor = _floor(weight)
        for rows in _bands(weight.shape):
            coverage[rows] = divide_(total[rows], torch.from_numpy(weight[rows]), floor)
        return Stitched(self.total.astype(np.complex64, copy=False), weight, coverage, self.origin)


def _floor(weight: np.ndarray) -> float:
    """Return the weight above which a pixel is covered."""
    step = max(1, round((weight.size / SAMPLE) ** 0.5))
    sample = weight[::step, ::step]
    reached = sample[sample > 1e-6 * sample.max()]
    return FLOOR * float(np.partition(reached, len(reached) // 2)[len(reached) // 2]) if len(reached) else np.inf


def _bands(shape: tuple[int, int]) -> Iterator[slice]:
    """Yield slices of rows with a bounded number of pixels each."""
    step = max(1, BAND // shape[1])
    return (slice(first, min(first + step, shape[0])) for first in range(0, shape[0], step))
