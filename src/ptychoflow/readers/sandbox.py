"""A first reading in a child process: a damaged file can crash or hang HDF5's own library, and then the child ends."""

import contextlib
import faulthandler
import logging
import multiprocessing
import os
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

LIMIT_SECONDS = 120.0
LIMIT_BYTES = 6 << 30
"""Memory that the child may take beyond what the parent had."""


def read_in_subprocess(read: Callable[[], object], path: Path) -> None:
    """Run ``read`` in a child process and see whether it comes back; what it gives is thrown away.

    Where processes cannot be forked nothing is tried.

    Raises:
        ValueError: if the child dies, takes too long or too much memory, or ``read`` raises it.
        FileNotFoundError: if ``read`` raises it.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(read, there), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child does nothing but read
        child.start()
    there.close()
    try:
        outcome = here.recv() if here.poll(LIMIT_SECONDS) else None
        died = outcome is None and not child.is_alive()
    except EOFError:
        outcome, died = None, True
    finally:
        child.kill()
        child.join()
        here.close()
    if outcome is None:
        how = f"ended reading it (exit code {child.exitcode})" if died else f"takes longer than {LIMIT_SECONDS:.0f} s"
        raise ValueError(f"{path} is damaged: a process that tried to read it {how}: fetch it again")
    if isinstance(outcome, Exception):
        raise outcome


def _child(read: Callable[[], object], there: Connection) -> None:
    logging.disable(logging.CRITICAL)
    faulthandler.disable()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    _limit_memory()
    try:
        read()
        outcome: object = "read"
    except FileNotFoundError as error:
        outcome = FileNotFoundError(str(error))
    except MemoryError:
        outcome = ValueError(f"it takes more than {LIMIT_BYTES >> 30} GiB of memory to read: is it damaged?")
    except ValueError as error:
        outcome = ValueError(str(error))
    there.send(outcome)
    there.close()
    os._exit(0)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + LIMIT_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
