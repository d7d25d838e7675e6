"""Progress bars: on a terminal only, also where a rule sends what its step says to a log."""

import fcntl
import functools
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar("Item")


@functools.cache
def terminal() -> TextIO | None:
    """Where to draw: stderr if it is a terminal, else that of the workflow if no other step draws there, else nowhere.

    Of several processes of one step the first draws. The Snakefile hands its terminal over in ``PTYCHOFLOW_TERMINAL``;
    it belongs to this process until it ends.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return None
    if sys.stderr.isatty():
        return sys.stderr
    name = os.environ.get("PTYCHOFLOW_TERMINAL")
    if not name:
        return None
    try:
        stream = open(name, "w")  # noqa: SIM115  (open as long as the process lives)
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    return stream


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """The items one by one, with a bar that says ``what`` is going on and goes away at the end."""
    stream = terminal()
    if stream is None:
        yield from items
    else:
        yield from rich_track(items, what, total=total, console=Console(file=stream), transient=True)
