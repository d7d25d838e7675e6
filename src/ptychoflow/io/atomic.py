"""Files that appear whole or not at all, their checksums, and the record of what made them."""

import errno
import fcntl
import fnmatch
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG)
EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LEFT_BY_OTHERS = (".snakemake_timestamp", ".DS_Store")
"""What other programs put into every folder they meet."""


@contextmanager
def atomic_file(path: Path, size: int = 0) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; it takes its name only when the block ends well.

    A step that is killed leaves whatever stood at ``path`` before; what it had begun is cleared away by the next one.
    The content is on the disk before the name is, so that a power cut leaves no empty file.

    Args:
        path: the file.
        size: bytes that must be free on the disk; HDF5 that meets its end takes the whole process with it.

    Raises:
        ValueError: if a folder stands at ``path``.
        OSError: in words, if the disk is full or the place cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file")
    with staging_dir(path) as place:
        if size > shutil.disk_usage(place).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield place / path.name
        _to_disk(place / path.name)
        os.replace(place / path.name, path)


def check_output(path: Path, *endings: str) -> None:
    """Refuse an output that cannot be written, or is named as something else, before the work for it is done.

    Raises:
        ValueError: if its name has none of these endings, or a folder stands there.
        OSError: if the place cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise ValueError(f"the output is called {path.name}, expected a name that ends in {' or '.join(endings)}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file")
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        reason = "may not be written to" if place.is_dir() else "is a file"
        raise OSError(f"{path} cannot be written ({place} {reason}): write where you may")


@contextmanager
def atomic_dir(path: Path, names: Sequence[str]) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` to fill; it replaces ``path`` only when the block ends well.

    As for a file, what it holds is on the disk first.

    Args:
        path: the folder.
        names: what its files may be called, ``*`` for anything: a folder that holds any other is not one of these, and
            would be lost.

    Raises:
        ValueError: if a file stands at ``path``, or a folder that holds other files.
        OSError: in words, if the disk is full or the place cannot be written.
    """
    path = Path(path)
    _check_replaceable(path, names)
    with staging_dir(path) as place:
        fresh = place / "new"
        fresh.mkdir()
        yield fresh
        _to_disk(*fresh.rglob("*"), fresh)
        if path.exists():
            os.rename(path, place / "old")
        os.rename(fresh, path)


def _check_replaceable(path: Path, names: Sequence[str]) -> None:
    """Refuse to replace anything but a folder of such files."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: name a folder")
    inside = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    known = (*names, *LEFT_BY_OTHERS)
    others = [name for name in inside if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known)]
    if others:
        raise ValueError(f"{path} holds other files ({', '.join(others[:3])}): name a new folder")


def _to_disk(*paths: Path) -> None:
    """Wait until files and folders are on the disk; those that are there already cost nothing."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, data: object) -> None:
    """Write ``data`` as JSON, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> dict:
    """Read a JSON object.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a JSON object.
    """
    try:
        data = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): make it again") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a JSON {type(data).__name__}, expected an object: make it again")
    return data


def size_of(record: object) -> int:
    """Bytes that a file of a dataclass takes at most: all its arrays, and room for what says where they are."""
    return (1 << 16) + sum(getattr(value, "nbytes", 0) for value in vars(record).values())


def preallocate(file: BinaryIO, size: int) -> None:
    """Reserve the disk for a file about to be written, where the file system can: a full one shows at once.

    A memory map that meets it only later ends the process (SIGBUS).

    Raises:
        OSError: if there is not so much room.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise


@contextmanager
def staging_dir(path: Path) -> Iterator[Path]:
    """A hidden folder beside ``path`` to work in, removed in the end; the next clears what a killed one left.

    Raises:
        OSError: in words, if the disk is full or the place cannot be written.
    """
    with _in_words(path), _staging(path) as place:
        yield place


@contextmanager
def _staging(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _lock(path.parent, wait=True)
    try:
        _remove_stale(path)
        place = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        mine = _lock(place)
    finally:
        _unlock(beside)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        _unlock(mine)


def _remove_stale(path: Path) -> None:
    """Remove the workshops of processes that were killed: those that nobody holds a lock on."""
    left = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    for place in path.parent.iterdir():
        if left.fullmatch(place.name) and place.is_dir() and (found := _lock(place)) is not None:
            shutil.rmtree(place, ignore_errors=True)
            _unlock(found)


def _lock(folder: Path, wait: bool = False) -> int | None:
    """Lock a folder against other processes; None if one holds it, or the file system knows no locks."""
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
def _in_words(path: Path) -> Iterator[None]:
    """Tell what stands in the way of writing ``path``, and what to do about it."""
    try:
        yield
    except (OSError, RuntimeError) as raised:
        # a file within a folder has told it in its own words
        error = raised.__cause__ if isinstance(raised.__cause__, OSError) else raised
        if (number := _full(error)) is not None:
            free = shutil.disk_usage(path.parent).free / 2**30
            raise OSError(
                f"{path} does not fit on the disk ({os.strerror(number)}, {free:.3g} GiB are free): make room or write "
                "elsewhere"
            ) from error
        if not isinstance(error, OSError):
            raise
        where = Path(os.fsdecode(error.filename)) if error.filename is not None else None
        ours = where is not None and (where.is_relative_to(path.parent) or path.is_relative_to(where))
        if ours and error.errno in FORBIDDEN:
            raise OSError(f"{path} cannot be written ({error.strerror}): write where you may") from error
        raise


def _full(error: BaseException) -> int | None:
    """The error number of a disk, a quota or a limit that is exhausted, if that is what happened.

    HDF5 tells it in a RuntimeError's text; torch raises one of its own on its way out of the system's.
    """
    told = re.search(r"errno = (\d+)", str(error))
    number = int(told[1]) if told else getattr(error, "errno", None)
    if number in EXHAUSTED:
        return number
    return _full(error.__context__) if isinstance(error, RuntimeError) and error.__context__ is not None else None
