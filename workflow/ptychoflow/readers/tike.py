"""tike's test archives: an npz, plain or bz2-compressed, with ``data``, ``scan`` and ``probe``.

Counts come with zero frequency at the corner, positions in object pixels ``(y, x)`` of each patch's first corner, the
probe in arbitrary units. The files carry no lengths.
"""

import bz2
import math
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..config import Section
from ..scan import Geometry, Scan, check_counts, smallest_dtype

LARGEST_BYTES = 1 << 34
LENGTHS = ("energy_ev", "detector_distance_m", "detector_pixel_m")
ARRAYS = {
    "data": ("f", 4, "real (angles, patterns, N, N)"),
    "scan": ("f", 3, "real (angles, patterns, 2)"),
    "probe": ("c", 6, "complex (angles, 1, 1, modes, N, N)"),
}
"""What an archive must hold: kind of number, dimensions, and both in words."""


def read_tike_npz(path: Path, geometry: Section | None) -> Scan:
    """The first angle of a tike archive as a scan: zero frequency in the centre, positions at the patches' centres.

    Raises:
        ValueError: if the archive is damaged, holds something else, or no ``geometry`` is given.
    """
    lengths = [] if geometry is None else [getattr(geometry, name) for name in LENGTHS]
    if not lengths or None in lengths:
        raise ValueError(f"{path.name} carries no lengths: give energy, distance and pixel size in source.geometry")
    with _archive(path) as archive:
        arrays = {name: _read_array(archive, name, path) for name in ARRAYS}
    counts, positions, probe = arrays["data"][0], arrays["scan"][0], arrays["probe"][0, 0, 0]
    check_counts(counts, f"{path.name}: counts")
    size = counts.shape[-1]
    return Scan(
        counts=np.fft.fftshift(counts.astype(smallest_dtype(counts)), axes=(-2, -1)),
        positions=positions.astype(np.float64) + size // 2,
        probe=_in_photons(probe, counts),
        geometry=Geometry.from_detector(size, *lengths),
        name=path.name.partition(".")[0],
        facts={"source": path.name, "nominal_geometry": True},
    )


def _in_photons(probe: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The probe scaled to sqrt(photons)."""
    # ASSUME the sample absorbs little: the beam carries what a pattern counts on average
    light, photons = np.sum(np.abs(probe) ** 2), counts.sum(dtype=np.float64) / len(counts)
    return (probe * np.sqrt(photons / light if light > 0 else 0)).astype(np.complex64)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip archive at ``path``, unpacked to a temporary file first where bz2 holds it."""
    try:
        with path.open("rb") as file, tempfile.TemporaryFile() as plain:
            compressed = file.read(3) == b"BZh"
            file.seek(0)
            if compressed:
                _decompress(file, plain)
            with zipfile.ZipFile(plain if compressed else file) as archive:
                yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is damaged or no npz archive ({error}): fetch it again") from None


def _decompress(file: BinaryIO, plain: BinaryIO) -> None:
    try:
        with bz2.open(file) as stream:
            while piece := stream.read(1 << 20):
                plain.write(piece)
                if plain.tell() > LARGEST_BYTES:
                    raise ValueError(f"{file.name} unpacks to more than {LARGEST_BYTES >> 30} GiB: is it a tike file?")
    except (OSError, EOFError) as error:
        raise ValueError(f"{file.name} cannot be decompressed ({error}): fetch it again") from None


def _read_array(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    """One array, its header checked against what tike writes and against the archive's own size before it is read."""
    kind, dimensions, meaning = ARRAYS[name]
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"{path} holds no array {name}, expected {meaning}: is it a tike archive?") from None
    with archive.open(info) as member:
        shape, dtype = _read_header(member, f"{path}: {name}")
        if dtype.kind != kind or len(shape) != dimensions or 0 in shape:
            raise ValueError(f"{path}: {name} is {dtype} {shape}, expected {meaning}")
        if math.prod(shape) * dtype.itemsize > min(info.file_size, LARGEST_BYTES):
            raise ValueError(f"{path}: {name} claims the shape {shape}, more than the archive holds: fetch it again")
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _read_header(member: BinaryIO, what: str) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    except ValueError as error:
        raise ValueError(f"{what} is no array ({error}): fetch the file again") from None
    return shape, dtype
