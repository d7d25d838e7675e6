"""Trial reading in a child process: a damaged file that crashes or hangs the HDF5 library ends only the child."""

import contextlib
import faulthandler
import logging
import math
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from ..runtime.memory import available_memory

LIMIT_SECONDS = 30.0
"""Processor time of the child: a damaged file that the library reads without end takes it, a slow disk does not."""
LONGEST_WAIT_S = 300.0
"""Longest wait for the child, which may read from a slow disk."""
LIMIT_BYTES = 6 << 30
"""Memory that the child may take beyond what the parent had."""


def read_in_subprocess(read: Callable[[], object], path: Path, limit_bytes: int | None = None) -> None:
    """Run ``read`` in a child process and discard its result; do nothing where processes cannot be forked.

    Args:
        read: reads the file.
        path: the file, for messages.
        limit_bytes: memory that the child may take; :data:`LIMIT_BYTES` without it.

    Raises:
        ValueError: if the child dies, takes too long or too much memory, or ``read`` raises it.
        FileNotFoundError: if ``read`` raises it.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(read, sender, path, limit_bytes or LIMIT_BYTES), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child does nothing but read
        child.start()
    sender.close()
    try:
        outcome = receiver.recv() if receiver.poll(LONGEST_WAIT_S) else None
        died = outcome is None and not child.is_alive()
    except EOFError:
        outcome, died = None, True
    finally:
        child.kill()
        child.join()
        receiver.close()
    if outcome is None:
        took_long = not died or child.exitcode == -signal.SIGXCPU
        reason = f"took longer than {LIMIT_SECONDS:.0f} s" if took_long else f"crashed (exit code {child.exitcode})"
        raise ValueError(f"{path} is damaged: a trial process that read it {reason}: make or download it again")
    if isinstance(outcome, Exception):
        raise outcome


def _child(read: Callable[[], object], sender: Connection, path: Path, limit_bytes: int) -> None:
    logging.disable(logging.CRITICAL)
    faulthandler.disable()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    _limit_memory_and_time(limit_bytes)
    try:
        read()
        outcome: object = "read"
    except FileNotFoundError as error:
        outcome = FileNotFoundError(str(error))
    except MemoryError:
        outcome = ValueError(
            f"reading takes more than {limit_bytes / 2**30:.3g} GiB of memory, or than is free: the file may be damaged"
        )
    except ValueError as error:
        kind = type(error) if type(error).__init__ is ValueError.__init__ else ValueError
        outcome = kind(str(error))
    except Exception as error:  # whatever a library raises over a damaged file
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        outcome = ValueError(f"{path} is damaged ({reason}): make or download it again")
    sender.send(outcome)
    sender.close()
    os._exit(0)


def _limit_memory_and_time(limit_bytes: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + int(min(limit_bytes, available_memory()))
        strictest = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = limit if strictest == resource.RLIM_INFINITY else min(limit, strictest)
        resource.setrlimit(resource.RLIMIT_AS, (limit, strictest))
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(LIMIT_SECONDS), resource.getrlimit(resource.RLIMIT_CPU)[1]))
