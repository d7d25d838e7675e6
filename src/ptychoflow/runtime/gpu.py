"""Who owns which GPU of this machine, and what to do where it is too small."""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..config import Runtime

logger = logging.getLogger(__name__)

OWNERS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "KUBERNETES_SERVICE_HOST")
"""Set where a scheduler has given devices to the job already."""
RANK = "LOCAL_RANK"
"""Set in the processes that a training starts beside itself: they use what the first one took."""
SEEN = "CUDA_VISIBLE_DEVICES"

_taken: list[BinaryIO] = []
"""Locks that this process holds; the kernel releases them when it ends, however it ends."""


def take_devices(count: int, wait_s: float = 0.5) -> None:
    """Own GPUs of this machine until this process ends, and see only these; waits until as many are free.

    It takes all or none, so that two that want two each never wait for each other. Where a scheduler gives out the
    devices, or there is no GPU at all, nothing is taken.

    Args:
        count: how many.
        wait_s: time between two looks, s.

    Raises:
        ValueError: if the machine has fewer.
    """
    visible = visible_devices()
    if not visible or RANK in os.environ or any(name in os.environ for name in OWNERS):
        return
    if count > len(visible):
        raise ValueError(
            f"runtime.devices asks for {count} GPUs, this machine shows {len(visible)} ({', '.join(visible)}): lower it"
        )
    told = False
    while not (mine := _take_free(visible, count)):
        if not told:
            logger.info("waiting for %d of the GPUs %s", count, ", ".join(visible))
            told = True
        time.sleep(wait_s)
    os.environ[SEEN] = ",".join(mine)
    logger.info("took GPU %s", ", ".join(mine))


def device_kind(runtime: Runtime) -> str:
    """What to compute on, ``cuda`` or ``cpu``: other devices compute in single precision only.

    Raises:
        ValueError: if there are fewer GPUs than asked for.
    """
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if runtime.accelerator == "gpu" and not found:
        raise ValueError("runtime.accelerator is gpu, but torch finds no CUDA device: set it to auto or cpu")
    if runtime.accelerator == "cpu" or not found:
        return "cpu"
    if runtime.devices > found:
        raise ValueError(f"runtime.devices is {runtime.devices}, but torch finds {found} CUDA devices: lower it")
    return "cuda"


def visible_devices() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA counts them."""
    named = os.environ.get(SEEN)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(n) for n, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


@contextmanager
def out_of_memory_hint(remedy: str) -> Iterator[None]:
    """Say what to do where the memory of a GPU is too small for a block, or for a function that this decorates.

    Args:
        remedy: what to do.

    Raises:
        ValueError: in place of what torch raises.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = ". ".join(str(error).split(". ")[:2])  # what follows is advice on PyTorch's own settings
        raise ValueError(f"{reason}: {remedy}") from error


def _take_free(visible: list[str], count: int) -> list[str]:
    """Lock as many devices as asked for, or none."""
    folder = Path(tempfile.gettempdir()) / f"ptychoflow-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    locks: dict[str, BinaryIO] = {}
    with open(folder / "all", "wb") as everyone:
        fcntl.flock(everyone, fcntl.LOCK_EX)
        for name in visible:
            lock = open(folder / name.replace("/", "_"), "wb")  # noqa: SIM115  (held as long as the process lives)
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locks[name] = lock
            if len(locks) == count:
                _taken.extend(locks.values())
                return list(locks)
        for lock in locks.values():
            lock.close()
    return []
