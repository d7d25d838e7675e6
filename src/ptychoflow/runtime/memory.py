"""Memory that this process may still take: the least of what the host has and what limits allow."""

import resource
from collections.abc import Iterator
from pathlib import Path

import psutil

UNLIMITED = 1 << 60
"""Bytes from which on a control group (v1) means that it sets no limit."""


def available_memory(root: Path = Path("/")) -> float:
    """Return the bytes that this process may still take.

    This is the least of the free memory of the host, of what each control group above the process has left (v1 or v2,
    as containers and schedulers set them), and of what the limits of address space and data have left (``ulimit``).

    Args:
        root: folder below which ``proc`` and ``sys`` are.
    """
    return min([psutil.virtual_memory().available, *_left_in_groups(root), *_left_of_limits()])


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Refuse work whose arrays do not fit into memory, before they are allocated.

    Args:
        needed: bytes at the least.
        what: the work, for the message.
        remedy: advice to the user.

    Raises:
        OSError: naming both numbers and the remedy.
    """
    available = available_memory()
    if needed > available:
        raise OSError(
            f"{what} needs {needed / 2**30:.3g} GiB, {available / 2**30:.3g} GiB of memory are available: {remedy}"
        )


def _left_in_groups(root: Path) -> Iterator[float]:
    """Yield what the limit of each control group of this process has left, bytes; reclaimable cache counts as free."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        v2 = controllers == ""
        if not v2 and "memory" not in controllers.split(","):
            continue
        mount = root / ("sys/fs/cgroup" if v2 else "sys/fs/cgroup/memory")
        names = ("memory.max", "memory.current") if v2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        folder = mount / path.lstrip("/")
        # within a container the path may be that of the host: its group is then mounted at the top
        for place in (*(each for each in (folder, *folder.parents) if each.is_relative_to(mount)), mount):
            limit, used = (_number(place / name) for name in names)
            if limit is not None and used is not None and limit < UNLIMITED:
                yield max(0.0, limit - used + _reclaimable(place / "memory.stat"))


def _reclaimable(path: Path) -> float:
    """Return the bytes of cached files that a control group may drop."""
    values = dict(line.split(" ", 1) for line in _lines(path) if " " in line)
    return float(values.get("total_inactive_file", values.get("inactive_file", 0)))


def _left_of_limits() -> Iterator[float]:
    """Yield what the limits of address space and of data have left, bytes."""
    status = dict(line.split(":", 1) for line in _lines(Path("/proc/self/status")) if ":" in line)
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY and name in status:
            yield max(0.0, soft - 1024.0 * float(status[name].split()[0]))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _number(path: Path) -> float | None:
    """Return the number in a file; None where the file is missing or sets no limit."""
    text = (_lines(path) or [""])[0]
    return float(text) if text.isdigit() else None
