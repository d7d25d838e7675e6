"""Files that the reading of a measurement touches: those that its settings name, and those that belong to them."""

import re
from collections.abc import Iterator
from pathlib import Path

from ..config import Source
from ..io.zarr_store import is_zarr
from .download import data_cache

MASTER = re.compile(r"(?P<scan>.+)_master\.(h5|hdf5|nxs)")
"""Names of files that only link to the data files beside them."""
PAIR = re.compile(r"(?P<scan>.+)_(dp|para)(?P<ending>\.h5|\.hdf5)")
"""Names of the files of a fold_slice pair."""

DESCRIBED_BY = {".mib": ".hdr", ".raw": ".xml"}
"""Endings of frames of a camera, and of the file beside them that tells the shape of the scan."""


def local_path(source: Source) -> Path | None:
    """Return the path of a measurement: as given, else in the data cache; None if it is in neither."""
    places = (Path(source.file), data_cache() / source.file)
    return next((place for place in places if place.exists()), None)


def beside(path: Path, other: str) -> Path | None:
    """Return the path of another file, as it is named or in the folder of a measurement; None if it is in neither."""
    folder = path if path.is_dir() else path.parent
    return next((candidate for candidate in (Path(other), folder / other) if candidate.is_file()), None)


def source_files(source: Source, cached: bool = True) -> list[Path]:
    """Return the files on this machine that the reading of a measurement depends on.

    These are the measurement, or every file of it where it is a folder; the other one of a fold_slice pair; the file
    that describes the frames of a camera; the data files of a master; and the files with positions and probe, where
    they are named or beside the measurement.

    Args:
        source: what names them; addresses are left out.
        cached: False leaves out a measurement of the data cache, which ``source.sha256`` guards.
    """
    path = None if "://" in source.file else local_path(source)
    if path is not None and not cached and not Path(source.file).exists():
        path = None
    files = [] if path is None else [*_parts(path)]
    for name in (source.positions, source.probe):
        if name is not None and "://" not in name:
            found = Path(name) if path is None else beside(path, name)
            files += [found] if found is not None and found.is_file() else []
    return list(dict.fromkeys(files))


def _parts(path: Path) -> Iterator[Path]:
    if is_zarr(path):
        yield from sorted(file for file in path.rglob("*") if file.is_file())
        return
    if path.is_dir():
        yield from sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        return
    yield path
    described = path.with_suffix(DESCRIBED_BY.get(path.suffix.lower(), path.suffix))
    if described != path and described.is_file():
        yield described
    if pair := PAIR.fullmatch(path.name):
        names = (f"{pair['scan']}_{part}{pair['ending']}" for part in ("dp", "para"))
        yield from (other for name in names if (other := path.with_name(name)) != path and other.is_file())
    if master := MASTER.fullmatch(path.name):
        yield from sorted(file for file in path.parent.glob("*_data_*.*") if file.name.startswith(f"{master['scan']}_"))
