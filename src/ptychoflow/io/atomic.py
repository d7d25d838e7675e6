"""Atomic writes of files, folders and JSON, with readable errors for full disks and unwritable places."""

import ctypes
import errno
import fcntl
import fnmatch
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, TypeVar

Content = TypeVar("Content")

NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG)
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EXDEV)
"""Errors of systems and disks that cannot exchange two names."""
AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Arguments of the system call renameat2: paths are relative to the working folder; exchange the two names."""
ATTEMPTS = 100
"""Times that a folder is read anew because it was replaced meanwhile."""
OLD = "old"
"""Name of an earlier folder within the staging folder of the one that replaces it."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LEFT_BY_OTHERS = (".snakemake_timestamp", ".DS_Store")
"""Files that other programs put into any folder."""

_REPLACEABLE: ContextVar[frozenset[Path]] = ContextVar("replaceable", default=frozenset())
"""Folders that are replaced whatever they hold."""


@contextmanager
def replacing(*paths: Path) -> Iterator[None]:
    """Replace folders at these paths in the block whatever they hold, as the option ``--force`` asks."""
    token = _REPLACEABLE.set(frozenset(path.absolute() for path in paths))
    try:
        yield
    finally:
        _REPLACEABLE.reset(token)


@contextmanager
def atomic_file(path: Path, size: int = 0) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which is renamed to ``path`` when the block ends without an error.

    A process that is killed leaves an earlier file at ``path`` as it was; the next write removes the temporary one. The
    content is flushed to disk before the rename, so that a power failure leaves no empty file.

    Args:
        path: the file.
        size: bytes that must be free on the disk; HDF5 may end the process when the disk is full.

    Raises:
        ValueError: if ``path`` is a folder.
        OSError: naming the remedy, if the disk is full or the place is not writable.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file")
    with staging_dir(path) as place:
        if size > shutil.disk_usage(place).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield place / path.name
        _flush_to_disk(place / path.name)
        os.replace(place / path.name, path)
        _flush_to_disk(path.parent)


@contextmanager
def atomic_dir(path: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, which replaces ``path`` when the block ends without an error.

    As for a file, its content is flushed to disk first.

    Args:
        path: the folder.
        names: patterns of the names of its files, ``*`` for any. An earlier folder that holds other files is not
            replaced, because they would be lost.

    Raises:
        ValueError: if ``path`` is a file, or a folder that holds other files.
        OSError: naming the remedy, if the disk is full or the place is not writable.
    """
    path = Path(path)
    _check_replaceable(path, names)
    with staging_dir(path) as place:
        fresh = place / "new"
        fresh.mkdir()
        yield fresh
        _flush_to_disk(*fresh.rglob("*"), fresh)
        _put_in_place(fresh, path, place / OLD)
        _flush_to_disk(path.parent)


def _put_in_place(fresh: Path, path: Path, old: Path) -> None:
    """Rename a folder to ``path``; an earlier folder there goes away in the same instant, where the system can.

    Where it cannot, the earlier one is moved to ``old`` first; a process that is killed between the two moves leaves it
    there, and the next write moves it back.
    """
    if not os.path.lexists(path):
        os.rename(fresh, path)
        return
    if _exchange(fresh, path):
        return
    os.rename(path, old)
    try:
        os.rename(fresh, path)
    except OSError:
        os.rename(old, path)
        raise


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names of folders in one instant (Linux); False where the system or the disk cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    if (error := ctypes.get_errno()) in NO_EXCHANGE:
        return False
    raise OSError(error, os.strerror(error), str(second))


def read_whole(folder: Path, read: Callable[[], Content]) -> Content:
    """Return what ``read`` reads of a folder, all of it from one folder even if another one takes its place meanwhile.

    Args:
        folder: the folder.
        read: opens its files; called again if the folder was replaced.

    Raises:
        Exception: whatever ``read`` raises over a folder that stays in its place.
    """
    for attempt in range(ATTEMPTS):
        before = _identity(folder)
        try:
            content = read()
        except Exception:
            if attempt + 1 == ATTEMPTS or _identity(folder) == before:
                raise
            continue
        if _identity(folder) == before:
            return content
    raise OSError(f"{folder} is being replaced again and again: wait until the program that writes it has ended")


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what tells a folder from the one that takes its place; None if it is missing."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _check_replaceable(path: Path, names: Sequence[str]) -> None:
    """Refuse to replace a file, or a folder that holds files of other names."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: name a folder")
    inside = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    known = (*names, *LEFT_BY_OTHERS)
    others = [name for name in inside if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known)]
    if others and path.absolute() not in _REPLACEABLE.get():
        raise ValueError(f"{path} holds other files ({', '.join(others[:3])}): name a new folder")


def _flush_to_disk(*paths: Path) -> None:
    """Wait until files and folders are on the disk; those that are there already take no time."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, data: object) -> None:
    """Write ``data`` as JSON, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


def size_of(record: object) -> int:
    """Return an upper bound of the size of a dataclass's file, bytes: all its arrays and 64 KiB for headers."""
    return (1 << 16) + sum(getattr(value, "nbytes", 0) for value in vars(record).values())


def preallocate(file: BinaryIO, size: int) -> None:
    """Reserve disk space for a file that is about to be written, where the file system supports it.

    A full disk is then found at once; written through a memory map it would end the process (SIGBUS).

    Args:
        file: the open file.
        size: its final size, bytes.

    Raises:
        OSError: if the disk has less free space.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise


@contextmanager
def staging_dir(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``path`` to work in, and remove it and those of killed processes.

    Raises:
        OSError: naming the remedy, if the disk is full or the place is not writable.
    """
    with _explain_os_errors(path), _staging(path) as place:
        yield place


@contextmanager
def _staging(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    parent_lock = _lock(path.parent, wait=True)
    try:
        _remove_stale(path)
        place = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        own_lock = _lock(place)
    finally:
        _unlock(parent_lock)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        _unlock(own_lock)


def _remove_stale(path: Path) -> None:
    """Remove the staging folders of processes that were killed: those that are not locked."""
    staging_name = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    for place in path.parent.iterdir():
        if staging_name.fullmatch(place.name) and place.is_dir() and (handle := _lock(place)) is not None:
            if (place / OLD).is_dir() and not os.path.lexists(path):
                os.rename(place / OLD, path)  # killed before the new folder was in its place
            shutil.rmtree(place, ignore_errors=True)
            _unlock(handle)


def _lock(folder: Path, wait: bool = False) -> int | None:
    """Lock a folder against other processes; None if one holds it, or the file system has no locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


@contextmanager
def _explain_os_errors(path: Path) -> Iterator[None]:
    """Replace errors of writing ``path`` by ones that name cause and remedy."""
    try:
        yield
    except (OSError, RuntimeError) as raised:
        # a file within a folder has been explained under its own name
        error = raised.__cause__ if isinstance(raised.__cause__, OSError) else raised
        if (number := _disk_full_errno(error)) is not None:
            free = shutil.disk_usage(path.parent).free / 2**30
            raise OSError(
                f"{path} does not fit on the disk ({os.strerror(number)}, {free:.3g} GiB are free): free some space or "
                "write elsewhere"
            ) from error
        if not isinstance(error, OSError):
            raise
        where = Path(os.fsdecode(error.filename)) if error.filename is not None else None
        ours = where is not None and (where.is_relative_to(path.parent) or path.is_relative_to(where))
        if ours and error.errno in NOT_WRITABLE:
            raise OSError(f"{path} cannot be written ({error.strerror}): choose a writable location") from error
        raise


def _disk_full_errno(error: BaseException) -> int | None:
    """Return the error number of a full disk, an exceeded quota or limit, if one caused the error.

    HDF5 names it in the text of a RuntimeError; torch raises a RuntimeError while it handles the system's error.
    """
    match = re.search(r"errno = (\d+)", str(error))
    number = int(match[1]) if match else getattr(error, "errno", None)
    if number in DISK_FULL:
        return number
    return (
        _disk_full_errno(error.__context__)
        if isinstance(error, RuntimeError) and error.__context__ is not None
        else None
    )
