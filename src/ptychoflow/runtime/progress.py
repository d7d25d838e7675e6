"""Progress bars: on a terminal only, also where a rule redirects the output of its step to a log."""

import fcntl
import functools
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import track as rich_track

Item = TypeVar("Item")


@functools.cache
def terminal() -> TextIO | None:
    """Return the terminal to draw on: stderr, else that of the workflow if no other step draws there, else None.

    Of several processes of one step only rank 0 draws. The Snakefile passes its terminal in ``PTYCHOFLOW_TERMINAL``; it
    is locked until this process ends.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return None
    if sys.stderr.isatty():
        return sys.stderr
    name = os.environ.get("PTYCHOFLOW_TERMINAL")
    if not name:
        return None
    try:
        if not stat.S_ISCHR(os.stat(name).st_mode):
            return None  # a file would be emptied
        stream = open(name, "w")  # noqa: SIM115  (open as long as the process lives)
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    return stream


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items while a progress bar shows how many are done; it disappears at the end.

    Args:
        items: the items.
        what: description of the work, such as ``predicting``.
        total: number of items, where they have no length.
    """
    stream = terminal()
    if stream is None:
        yield from items
    else:
        yield from rich_track(items, what, total=total, console=Console(file=stream), transient=True)
