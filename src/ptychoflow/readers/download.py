"""Location of a measurement: at its path, in the data cache, or downloaded into it."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..config import Source
from ..io.provenance import sha256

logger = logging.getLogger(__name__)


def with_local_copies(source: Source, copies: Sequence[Path]) -> Source:
    """Replace addresses in a source by local copies: ``s3://bucket/scan.h5`` by the path ending in ``bucket/scan.h5``.

    Args:
        source: its ``file``, ``positions`` and ``probe`` may be addresses.
        copies: paths of local copies.

    Raises:
        FileNotFoundError: if a copy is missing.
    """

    def local(name: str | None) -> str | None:
        if name is None or "://" not in name:
            return name
        parts = PurePosixPath(name.partition("://")[2]).parts
        copy = next((path for path in copies if path.parts[-len(parts) :] == parts), None)
        if copy is None:
            raise FileNotFoundError(
                f"local copy of {name} not found: run the workflow with Snakemake's plugin for that store, or download "
                "the file and name it with --local-copy"
            )
        return str(copy)

    return source.model_copy(update={name: local(getattr(source, name)) for name in ("file", "positions", "probe")})


def resolve_path(source: Source) -> Path:
    """Return the path of a measurement: as given, else in the data cache, else downloaded into it.

    Args:
        source: ``file``, and ``url`` and ``sha256`` where given.

    Raises:
        FileNotFoundError: if the file is in neither place and ``source.url`` is not set.
        ValueError: if the checksum differs, or that of a download is not given.
    """
    cache = data_cache()
    path = next((place for place in (Path(source.file), cache / source.file) if place.exists()), None)
    if path is None:
        if source.url is None:
            raise FileNotFoundError(
                f"{source.file} not found, nor in the data cache {cache}: set PTYCHOFLOW_DATA or give source.url"
            )
        path = _download(source, cache)
    if path.is_file() and (source.sha256 is not None or source.url is not None):
        _check_checksum(path, source)
    return path


def _check_checksum(path: Path, source: Source) -> None:
    checksum = sha256(path)
    if source.sha256 is None:
        raise ValueError(
            f"{path} comes from {source.url} and source.sha256 is not set: if it is the file you expect, set "
            f"source.sha256 to {checksum}"
        )
    if checksum != source.sha256:
        raise ValueError(f"{path} has SHA-256 {checksum}, expected {source.sha256}: remove it and download it again")


def data_cache() -> Path:
    """Return the folder that keeps downloads: ``PTYCHOFLOW_DATA``, or that of the user."""
    import pooch

    folder = os.environ.get("PTYCHOFLOW_DATA")
    return Path(folder) if folder else pooch.os_cache("ptychoflow")


def _download(source: Source, cache: Path) -> Path:
    import pooch

    if not (cache / source.file).resolve().is_relative_to(cache.resolve()):
        raise ValueError(f"{source.file} lies outside the data cache {cache}: name the download without a folder")
    logger.info("downloading %s to %s", source.url, cache)
    try:
        return Path(pooch.retrieve(source.url, known_hash=source.sha256, fname=source.file, path=cache))
    except OSError as error:
        raise ValueError(
            f"download of {source.url} failed ({error}): put the file at {cache / source.file} yourself"
        ) from None
