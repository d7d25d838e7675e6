"""Progress events on stdout, and cancellation by SIGTERM or SIGINT."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Cancelled(BaseException):
    """Raised where a cancellation ends the work at once, before a result could be kept."""


class Events:
    """Writer of progress events, one JSON object a line on stdout.

    Args:
        wanted: False to write nothing.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted

    def __call__(self, event: str, **metadata: Any) -> None:
        """Write an event with its time, Unix seconds, and its metadata as one line of JSON."""
        if self._wanted:
            print(json.dumps({"event": event, "time": round(time.time(), 3), **metadata}), file=sys.stdout, flush=True)


class CancellationHandler:
    """Handler of cancellation signals: it raises :class:`Cancelled`, or lets cooperative work end by itself.

    Attributes:
        requested: True after a signal.
        cooperative: True while the work itself checks ``requested`` and ends by itself.
        emit: writes events.
    """

    def __init__(self, emit: Events) -> None:
        self.requested, self.cooperative, self.emit = False, False, emit

    def step(self, name: str) -> None:
        """Emit the begin of a step; raise a request that was lost, as one raised in a destructor is.

        Raises:
            Cancelled: if cancellation was requested.
        """
        if self.requested:
            raise Cancelled
        self.emit("step", step=name)

    def __call__(self, *_: object) -> None:
        """Request the cancellation; raise :class:`Cancelled` at the second request, or if work is not cooperative."""
        again, self.requested = self.requested, True
        if not again:
            self.emit("cancelling")
        if again or not self.cooperative:
            raise Cancelled


@contextmanager
def handle_signals(handler: CancellationHandler) -> Iterator[CancellationHandler]:
    """Send SIGTERM and SIGINT to a handler within the context."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield handler
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
