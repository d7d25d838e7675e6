"""Timing of parts of a step: seconds by name, by the clock or, on a GPU, by CUDA events."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Sums of seconds by name, called buckets.

    A GPU computes asynchronously, so that its time is taken by events on its stream, which are read at the end.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, Any, Any]] = []
        self._mark = time.perf_counter()

    @contextmanager
    def __call__(self, bucket: str, device: Any = None) -> Iterator[None]:
        """Time a block.

        Args:
            bucket: name to add its seconds to.
            device: ``torch.device`` that it computes on; for CUDA the device's own events are used.
        """
        cuda = _cuda(device)
        if cuda is None:
            began = time.perf_counter()
            yield
            self.add(bucket, time.perf_counter() - began)
            return
        first, last = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        first.record()
        yield
        last.record()
        self._events.append((bucket, first, last))

    def add(self, bucket: str, seconds: float) -> None:
        """Add seconds to a bucket."""
        self._seconds[bucket] = self._seconds.get(bucket, 0.0) + seconds

    def mark(self) -> None:
        """Remember the time at which a wait begins."""
        self._mark = time.perf_counter()

    def waited(self, bucket: str) -> None:
        """Add the time since :meth:`mark` to a bucket, and mark again."""
        self.add(bucket, time.perf_counter() - self._mark)
        self.mark()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of all buckets; wait for a GPU that has not finished."""
        for bucket, first, last in self._events:
            last.synchronize()
            self.add(bucket, first.elapsed_time(last) * 1e-3)  # ms to s
        self._events.clear()
        return dict(self._seconds)


def rates(seconds: dict[str, float], patterns: int) -> dict[str, float]:
    """Return patterns per second in each bucket."""
    return {bucket: patterns / spent for bucket, spent in seconds.items() if spent > 0}


def _cuda(device: Any) -> Any:
    if getattr(device, "type", None) != "cuda":
        return None
    import torch

    return torch.cuda
