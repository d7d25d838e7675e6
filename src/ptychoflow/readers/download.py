"""Where a measurement is: as its path says, in the data cache, or still to be fetched into it."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..config import Source
from ..io.provenance import sha256

logger = logging.getLogger(__name__)


def with_local_copies(source: Source, copies: Sequence[Path]) -> Source:
    """A source whose files lie here: ``s3://bucket/scan.h5`` becomes the copy that ends with ``bucket/scan.h5``.

    Raises:
        FileNotFoundError: if there is no such copy.
    """

    def local(name: str | None) -> str | None:
        if name is None or "://" not in name:
            return name
        place = PurePosixPath(name.partition("://")[2]).parts
        found = next((path for path in copies if path.parts[-len(place) :] == place), None)
        if found is None:
            raise FileNotFoundError(
                f"{name} was not fetched: the workflow does it with Snakemake's plugin for that store, or copy it here"
            )
        return str(found)

    return source.model_copy(update={name: local(getattr(source, name)) for name in ("file", "positions", "probe")})


def resolve_path(source: Source) -> Path:
    """The measurement on disk: the path as given, else in the data cache, else fetched into it; its checksum holds.

    Raises:
        FileNotFoundError: if it is nowhere and there is no address.
        ValueError: if the checksum differs.
    """
    cache = _cache()
    path = next((place for place in (Path(source.file), cache / source.file) if place.exists()), None)
    if path is None:
        if source.url is None:
            raise FileNotFoundError(
                f"there is no {source.file}, nor in the data cache {cache}: set PTYCHOFLOW_DATA or give source.url"
            )
        path = _fetch(source, cache)
    if source.sha256 is not None and path.is_file() and (found := sha256(path)) != source.sha256:
        raise ValueError(f"{path} has SHA-256 {found}, expected {source.sha256}: remove it and fetch it again")
    return path


def _cache() -> Path:
    import pooch

    folder = os.environ.get("PTYCHOFLOW_DATA")
    return Path(folder) if folder else pooch.os_cache("ptychoflow")


def _fetch(source: Source, cache: Path) -> Path:
    import pooch

    logger.info("fetching %s to %s", source.url, cache)
    try:
        return Path(pooch.retrieve(source.url, known_hash=source.sha256, fname=source.file, path=cache))
    except OSError as error:
        raise ValueError(
            f"{source.url} cannot be fetched ({error}): put the file at {cache / source.file} yourself"
        ) from None
