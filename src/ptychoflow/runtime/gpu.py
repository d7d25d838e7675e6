"""Locks on the GPUs of this machine, choice of the device, and advice when its memory is too small."""

import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..config import Runtime

logger = logging.getLogger(__name__)

SCHEDULER_VARIABLES = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "KUBERNETES_SERVICE_HOST")
"""Environment variables that are set where a scheduler assigns devices to the job."""
RANK = "LOCAL_RANK"
"""Environment variable of the further processes of a training; they use the devices that the first one locked."""
VISIBLE = "CUDA_VISIBLE_DEVICES"

_locks: list[FileLock] = []
"""Locks of this process; the kernel releases them when the process ends for any reason."""


def take_devices(count: int, wait_s: float = 0.5) -> None:
    """Lock GPUs of this machine until this process ends, and make only these visible; wait until enough are free.

    All are locked at once or none, so that two processes that need two each never wait for each other. Nothing is
    locked where a scheduler assigns devices, or on a machine without GPU.

    Args:
        count: number of GPUs.
        wait_s: time between two attempts, s.

    Raises:
        ValueError: if the machine has fewer.
    """
    visible = visible_devices()
    if not visible or RANK in os.environ or any(name in os.environ for name in SCHEDULER_VARIABLES):
        return
    if count > len(visible):
        raise ValueError(
            f"runtime.devices asks for {count} GPUs, this machine shows {len(visible)} ({', '.join(visible)}): lower it"
        )
    waiting = False
    while not (locked := _lock_free_devices(visible, count)):
        if not waiting:
            logger.info("waiting for %d of the GPUs %s", count, ", ".join(visible))
            waiting = True
        time.sleep(wait_s)
    os.environ[VISIBLE] = ",".join(locked)
    logger.info("took GPU %s", ", ".join(locked))


def device_kind(runtime: Runtime) -> str:
    """Return the kind of device to compute on, ``cuda`` or ``cpu``; other devices lack double precision.

    Raises:
        ValueError: if fewer GPUs are found than requested.
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
    """Return the names of the GPUs that this process may use, in CUDA's order."""
    names = os.environ.get(VISIBLE)
    if names is not None:
        return [name.strip() for name in names.split(",") if name.strip()]
    return [str(n) for n, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


@contextmanager
def out_of_memory_hint(remedy: str) -> Iterator[None]:
    """Add a remedy to out-of-memory errors of a GPU in a block, or in a function that this decorates.

    Args:
        remedy: advice to the user.

    Raises:
        ValueError: in place of torch's error.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = ". ".join(str(error).split(". ")[:2])  # what follows is advice on PyTorch's own settings
        raise ValueError(f"{reason}: {remedy}") from error


def _lock_free_devices(visible: list[str], count: int) -> list[str]:
    """Lock ``count`` free devices and return their names; lock none if fewer are free."""
    folder = _lock_folder()
    locks: dict[str, FileLock] = {}
    with FileLock(folder / "all"):
        for name in visible:
            lock = FileLock(folder / name.replace("/", "_"), timeout=0)
            with suppress(Timeout):
                lock.acquire()
                locks[name] = lock
            if len(locks) == count:
                _locks.extend(locks.values())
                return list(locks)
        for held in locks.values():
            held.release()
    return []


def _lock_folder() -> Path:
    """Return the folder of the locks, which nobody but this user may write to: in it nobody else puts a link.

    Raises:
        OSError: if something else stands at its place.
    """
    folder = Path(tempfile.gettempdir()) / f"ptychoflow-devices-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OSError(
            f"{folder} is not a private folder of this user, expected one for the locks of the GPUs: remove it, or set "
            "TMPDIR to a folder of your own"
        )
    return folder
