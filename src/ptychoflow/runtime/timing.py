"""Where time goes: seconds by bucket, of a processor or, by its own events, of a GPU."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Adds up seconds in buckets.

    On a GPU work is only handed over, so that its time is taken by events on its stream and read in the end.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._events: list[tuple[str, Any, Any]] = []
        self._mark = time.perf_counter()

    @contextmanager
    def __call__(self, bucket: str, device: Any = None) -> Iterator[None]:
        """Time a block; what is computed on a ``torch.device`` of CUDA by that device's clock."""
        cuda = _cuda(device)
        began = cuda.Event(enable_timing=True) if cuda else time.perf_counter()
        if cuda:
            began.record()
        yield
        if cuda:
            ended = cuda.Event(enable_timing=True)
            ended.record()
            self._events.append((bucket, began, ended))
        else:
            self.add(bucket, time.perf_counter() - began)

    def add(self, bucket: str, seconds: float) -> None:
        """Put seconds into a bucket."""
        self._seconds[bucket] = self._seconds.get(bucket, 0.0) + seconds

    def mark(self) -> None:
        """Begin to wait for something."""
        self._mark = time.perf_counter()

    def waited(self, bucket: str) -> None:
        """It came: the time since :meth:`mark` goes into a bucket."""
        self.add(bucket, time.perf_counter() - self._mark)
        self.mark()

    def seconds(self) -> dict[str, float]:
        """All buckets; waits for a GPU that has not finished."""
        for bucket, began, ended in self._events:
            ended.synchronize()
            self.add(bucket, began.elapsed_time(ended) * 1e-3)  # ms to s
        self._events.clear()
        return dict(self._seconds)


def rates(seconds: dict[str, float], patterns: int) -> dict[str, float]:
    """Patterns per second in each bucket."""
    return {bucket: patterns / spent for bucket, spent in seconds.items() if spent > 0}


def _cuda(device: Any) -> Any:
    if getattr(device, "type", None) != "cuda":
        return None
    import torch

    return torch.cuda
