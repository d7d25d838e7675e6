"""Folders of runs: one for each measurement and settings, so that no run overwrites the report of another."""

import fcntl
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..io.atomic import staging_dir, write_json
from ..io.json_file import read_json

SUFFIX = ".ptychoflow"
"""End of the name of a run folder."""
REQUEST = "run.json"
"""File that names what a run was asked for; a folder without it is not a run folder."""

LOCK = ".lock"
"""File whose lock a run holds."""


class InUseError(ValueError):
    """Another process runs in a folder."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Attributes:
        path: the folder.
        resumed: True if a run of the same measurement and settings was started in it before.
    """

    path: Path
    resumed: bool

    @property
    def config(self) -> Path:
        """The config that runs; an edit of it holds for the next run."""
        return self.path / "config.yaml"

    @property
    def inspection(self) -> Path:
        """Folder of what the inspection found."""
        return self.path / "inspection"

    @property
    def log(self) -> Path:
        """Log of Snakemake, of all runs in this folder."""
        return self.path / "workflow.log"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "results" / "report.html"

    @property
    def metrics(self) -> list[Path]:
        """Metrics of each reconstruction that has been evaluated."""
        return sorted((self.path / "results" / "metrics").glob("*/*.json"))


def default_folder(file: Path, path: Path) -> Path:
    """Return ``FILE.ptychoflow`` beside a file, or in the current folder for a file of the data cache.

    Args:
        file: the file as it was named.
        path: where it is.
    """
    return (path.parent if file.exists() else Path()) / f"{path.name}{SUFFIX}"


def find_folder(path: Path, request: dict[str, Any], numbered: bool) -> RunFolder:
    """Return the folder for a request: the one that an earlier run of it was made in, else one that is not there yet.

    Args:
        path: the folder to begin with.
        request: all that the run depends on, plain data.
        numbered: where another run has the folder, take the next of ``NAME.2.ptychoflow``, ``NAME.3.ptychoflow``.

    Raises:
        ValueError: if the folder is that of another run, or holds other files.
    """
    wanted = json.loads(json.dumps(request))
    for place in _numbered(path) if numbered else (path,):
        if not place.exists() or (place.is_dir() and not any(place.iterdir())):
            return RunFolder(place.absolute(), resumed=False)
        if not (place / REQUEST).is_file():
            raise ValueError(f"{place} holds other files and no {REQUEST}: name a new folder with --output")
        if read_json(place / REQUEST) == wanted:
            return RunFolder(place.absolute(), resumed=True)
    raise ValueError(
        f"{path} holds a run of another measurement or other settings (see {REQUEST}): name a new folder with --output"
    )


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.name.removesuffix(SUFFIX)}.{number}{SUFFIX}")


@contextmanager
def new_folder(folder: RunFolder, request: dict[str, Any]) -> Iterator[RunFolder]:
    """Yield a hidden folder to prepare a run in, which becomes the run folder when the block ends without an error.

    Raises:
        OSError: naming the remedy, if the place is not writable.
    """
    with staging_dir(folder.path) as place:
        fresh = RunFolder(place / "new", resumed=False)
        fresh.path.mkdir()
        yield fresh
        write_json(fresh.path / REQUEST, request)
        os.rename(fresh.path, folder.path)


def file_state(path: Path) -> dict[str, Any]:
    """Return what tells a file or folder from an earlier version: path, number of files, size in bytes, time in ns."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    states = [file.stat() for file in files]
    return {
        "path": str(path.resolve()),
        "files": len(files),
        "size": sum(state.st_size for state in states),
        "changed_ns": max((state.st_mtime_ns for state in states), default=0),
    }


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold the lock of a run folder; yields its file descriptor, which a child process may keep.

    The system frees the lock when the last process that holds it ends, however it ends.

    Raises:
        InUseError: if another process holds it.
    """
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"{folder} is in use by another run: wait until it ends, or end it") from None
        yield handle
    finally:
        os.close(handle)
