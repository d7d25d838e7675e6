"""Measured amplitudes of a refinement: on the device where they fit, else read for each batch, one batch ahead."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..core.arrays import as_tensor
from ..io.count_reader import CountReader
from ..physics.kernels.pie import corner_amplitudes

RESIDENT_BYTES = 1 << 30
"""Most bytes of amplitudes that are kept in the memory of a CPU."""
DEVICE_MEMORY_SHARE = 0.5
"""Most of the free memory of a GPU that amplitudes are kept in."""
READ_AHEAD = 1
"""Groups of batches that are read while one is computed."""
PIECE = 1 << 20
"""Counts read and converted at once: those of several batches."""


class MeasuredAmplitudes:
    """Roots of the counts of a scan, float32, zero frequency at the corner.

    Args:
        counts: ``(J, N, N)``, an array or a memory map.
        device: where they are used.

    Attributes:
        resident: all of them, ``(J, N, N)``; None where they are read when they are used.
    """

    def __init__(self, counts: np.ndarray, device: torch.device | str) -> None:
        self._reader, self._device, self._shape = CountReader(counts), torch.device(device), counts.shape
        self._ready: tuple[Tensor, Tensor, int] | None = None
        self.resident: Tensor | None = None
        if 4 * counts.size <= _resident_bytes(self._device):
            resident = torch.empty(counts.shape, device=self._device)
            for first, part in self._pieces():
                resident[first : first + len(part)] = part
            self.resident = resident

    def of(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return amplitudes and the rows in them that belong to the patterns of a batch.

        Args:
            batch: numbers of the patterns, int64, ``(b,)``.

        Returns:
            Amplitudes ``(n, N, N)`` and rows ``(b,)``.
        """
        if self.resident is not None:
            return self.resident, batch
        if self._ready is None or self._ready[0] is not batch:
            self._ready = batch, self._read(batch), 0
        _, amplitudes, first = self._ready
        return amplitudes, torch.arange(first, first + len(batch), device=self._device)

    def ahead(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield batches for which :meth:`of` is to be called, while a thread reads those that follow."""
        if self.resident is not None:
            yield from batches
            return
        waiting: deque[tuple[list[Tensor], Future[Tensor]]] = deque()
        with ThreadPoolExecutor(1) as pool:
            for group in self._grouped(batches):
                waiting.append((group, pool.submit(self._read, torch.cat(group))))
                if len(waiting) > READ_AHEAD:
                    yield from self._take(*waiting.popleft())
            while waiting:
                yield from self._take(*waiting.popleft())

    def photons(self, mask: Tensor | None) -> np.ndarray:
        """Compute the photons of each pattern on the mask, float64, ``(J,)``."""
        # allocated once: small arrays kept between the large ones of each piece would keep the memory of all pieces
        photons = torch.empty(self._shape[0], dtype=torch.float64)
        for first, part in self._pieces():
            part = part.to(self._device)
            measured = part if mask is None else part * mask
            photons[first : first + len(part)] = measured.square().sum((1, 2), dtype=torch.float64)
        return photons.numpy()

    def _grouped(self, batches: Iterable[Tensor]) -> Iterator[list[Tensor]]:
        """Yield consecutive batches that are read together: small reads cost more than they bring."""
        group: list[Tensor] = []
        for batch in batches:
            group.append(batch)
            if sum(map(len, group)) * int(np.prod(self._shape[1:])) >= PIECE:
                yield group
                group = []
        if group:
            yield group

    def _take(self, group: list[Tensor], amplitudes: Future[Tensor]) -> Iterator[Tensor]:
        values, first = amplitudes.result(), 0
        for batch in group:
            self._ready = batch, values, first
            first += len(batch)
            yield batch

    def _pieces(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of the first pattern of each piece, and its amplitudes."""
        step = max(1, PIECE // int(np.prod(self._shape[1:])))
        if self.resident is not None:
            yield from ((first, self.resident[first : first + step]) for first in range(0, self._shape[0], step))
            return
        for number, block in enumerate(self._reader.blocks(step)):
            yield number * step, _roots(block)

    def _read(self, batch: Tensor) -> Tensor:
        amplitudes = _roots(self._reader.read(batch.cpu().numpy()))
        if self._device.type != "cuda":
            return amplitudes
        return amplitudes.pin_memory().to(self._device, non_blocking=True)


def _roots(counts: np.ndarray) -> Tensor:
    """Return amplitudes in corner layout."""
    return corner_amplitudes(as_tensor(np.ascontiguousarray(counts)))


def _resident_bytes(device: torch.device) -> float:
    if device.type != "cuda":
        return RESIDENT_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return DEVICE_MEMORY_SHARE * free
