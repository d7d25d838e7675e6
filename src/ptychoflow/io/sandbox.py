"""Trial reading in a child process: a damaged file that crashes or hangs the HDF5 library ends only the child."""

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
    """Run ``read`` in a child process and discard its result; do nothing where processes cannot be forked.

    Args:
        read: reads the file.
        path: the file, for messages.

    Raises:
        ValueError: if the child dies, takes too long or too much memory, or ``read`` raises it.
        FileNotFoundError: if ``read`` raises it.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(read, sender), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child does nothing but read
        child.start()
    sender.close()
    try:
        outcome = receiver.recv() if receiver.poll(LIMIT_SECONDS) else None
        died = outcome is None and not child.is_alive()
    except EOFError:
        outcome, died = None, True
    finally:
        child.kill()
        child.join()
        receiver.close()
    if outcome is None:
        reason = f"crashed (exit code {child.exitcode})" if died else f"took longer than {LIMIT_SECONDS:.0f} s"
        raise ValueError(f"{path} is damaged: a trial process that read it {reason}: download it again")
    if isinstance(outcome, Exception):
        raise outcome


def _child(read: Callable[[], object], sender: Connection) -> None:
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
        outcome = ValueError(f"reading takes more than {LIMIT_BYTES >> 30} GiB of memory: the file may be damaged")
    except ValueError as error:
        outcome = ValueError(str(error))
    sender.send(outcome)
    sender.close()
    os._exit(0)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + LIMIT_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
