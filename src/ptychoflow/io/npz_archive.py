"""NumPy's npz and npy files from outside, opened as memory maps; headers are checked before they are used."""

import ast
import bz2
import math
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from .regular_file import check_regular

LARGEST_BYTES = 1 << 38
ALWAYS_UNPACKED = 1 << 30
LARGEST_RATIO = 1000
"""Limit of the unpacked over the packed size beyond ``ALWAYS_UNPACKED`` bytes, against decompression bombs."""
LONGEST_HEADER = 1 << 16
NUMBERS, MOST_DIMENSIONS = "buifcUS", 8


class Archive:
    """The arrays of an npz archive by name; nothing is unpickled, compressed arrays are unpacked to temporary files.

    Raises:
        ValueError: for an archive that is damaged.
    """

    def __init__(self, path: Path, file: BinaryIO, members: zipfile.ZipFile) -> None:
        self.path, self._file, self._members = path, file, members
        self._names = {name.removesuffix(".npy"): name for name in members.namelist()}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._names)

    def array(self, name: str, *dimensions: int, kinds: str = "uif") -> np.ndarray:
        """Return an array as a read-only memory map.

        Args:
            name: of the array.
            dimensions: permitted numbers of dimensions; any if empty.
            kinds: permitted kinds of number, as NumPy's ``dtype.kind``.

        Raises:
            ValueError: if the array is missing, or has another dtype or number of dimensions.
        """
        if name not in self:
            raise ValueError(f"array {name} not found in {self.path.name}, which holds {', '.join(self.names)}")
        info = self._members.getinfo(self._names[name])
        if info.file_size > _max_unpacked_bytes(info.compress_size):
            raise ValueError(
                f"{self.path.name}: {name} unpacks from {info.compress_size} to {info.file_size} bytes: "
                "the archive is damaged or hostile"
            )
        array = self._mapped(info, f"{self.path.name}: {name}")
        if 0 in array.shape and dimensions:
            raise ValueError(f"{self.path.name}: {name} is empty, its shape is {array.shape}")
        if array.dtype.kind not in kinds or (dimensions and array.ndim not in dimensions):
            expected = f"numbers of kind {'/'.join(kinds)}" + (f", {dimensions} dimensions" if dimensions else "")
            raise ValueError(f"{self.path.name}: {name} is {array.dtype} {array.shape}, expected {expected}")
        return array

    def number(self, *names: str) -> float | None:
        """Return the first of these single finite numbers that the archive holds, else None."""
        for name in names:
            if name in self and (value := self.array(name, kinds="uifb")).size == 1 and np.isfinite(value).all():
                return float(value.reshape(-1)[0])
        return None

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array of any kind."""
        return self._mapped(self._members.getinfo(self._names[name]), f"{self.path.name}: {name}").shape

    def numbers(self) -> dict[str, float]:
        """Return every single real number by its name."""
        small = [name for name, member in self._names.items() if self._members.getinfo(member).file_size < 1024]
        values = {name: self.array(name, kinds=NUMBERS) for name in small}
        return {name: float(v.reshape(-1)[0]) for name, v in values.items() if v.size == 1 and v.dtype.kind in "uif"}

    def text(self, name: str) -> str:
        """Return a string, or an empty one where the archive has none."""
        if name not in self or (value := self.array(name, kinds="US")).size != 1:
            return ""
        value = value.reshape(-1)[0]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def _mapped(self, info: zipfile.ZipInfo, where: str) -> np.ndarray:
        """Map a member, in place if it is not packed; it is read through once, which verifies its checksum."""
        packed = info.compress_type != zipfile.ZIP_STORED
        plain = tempfile.TemporaryFile() if packed else None  # noqa: SIM115  (lives as long as the map over it)
        length = 0
        try:
            with self._members.open(info) as member:
                while piece := member.read(1 << 20):
                    length += len(piece)
                    if plain is not None:
                        plain.write(piece)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
            raise ValueError(f"{where} is damaged ({error}): download it again") from None
        if plain is None:
            return map_npy(self._file, self._start(info), length, where)
        plain.flush()
        return map_npy(plain, 0, length, where)

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Return the offset of a stored member's bytes in the file."""
        self._file.seek(info.header_offset)
        header = self._file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise ValueError(f"{self.path.name} is damaged at {info.filename}: download it again")
        return info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))


@contextmanager
def open_npz(path: Path) -> Iterator[Archive]:
    """Open an npz, decompressed first if it is a bz2 file; arrays taken from it outlive the context.

    Raises:
        ValueError: if it is damaged or not an npz.
    """
    check_regular(path)
    with path.open("rb") as file, tempfile.TemporaryFile() as plain:
        packed = file.read(3) == b"BZh"
        file.seek(0)
        if packed:
            _unpack(file, plain)
        try:
            with zipfile.ZipFile(plain if packed else file) as members:
                yield Archive(path, plain if packed else file, members)
        except (zipfile.BadZipFile, NotImplementedError, OSError, struct.error, UnicodeError) as error:
            raise ValueError(f"{path} is damaged or not an npz archive ({error}): download it again") from None


def map_npy(file: BinaryIO, start: int, length: int, where: str) -> np.ndarray:
    """Map the array of an npy file that begins at byte ``start`` of ``file``, read-only.

    Args:
        file: open for reading.
        start: offset of the npy file, bytes.
        length: of the npy file, bytes.
        where: name of the array in messages.

    Raises:
        ValueError: if the header is invalid, asks for objects, or claims more than ``length`` bytes.
    """
    shape, order, dtype, header = read_npy_header(file, start, where)
    if math.prod(shape) * dtype.itemsize + header > length:
        raise ValueError(f"{where} claims the shape {shape}, more than the archive holds: download it again")
    if 0 in shape or dtype.itemsize == 0:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "r", start + header, shape, order)  # type: ignore[call-overload]


def open_npy(path: Path) -> np.ndarray:
    """Map the array of an npy file, read-only.

    Raises:
        ValueError: if the header is invalid, asks for objects, or claims more than the file holds.
    """
    check_regular(path)
    with path.open("rb") as file:
        return map_npy(file, 0, path.stat().st_size, path.name)


class NpyHeader(NamedTuple):
    """Header of an npy file: shape and order of the array, its dtype, and the header's own length in bytes."""

    shape: tuple[int, ...]
    order: str
    dtype: np.dtype
    length: int


def read_npy_header(file: BinaryIO, start: int, where: str) -> NpyHeader:
    """Read the header of an npy file; nothing in it is executed.

    Args:
        file: open for reading.
        start: offset of the npy file, bytes.
        where: name of the array in messages.

    Raises:
        ValueError: if it is invalid or asks for objects.
    """
    file.seek(start)
    magic = file.read(8)
    wide = magic[6:7] in (b"\x02", b"\x03")
    if magic[:6] != b"\x93NUMPY" or not (wide or magic[6:7] == b"\x01"):
        raise ValueError(f"{where} is not an npy array: download the file again")
    length = int.from_bytes(file.read(4 if wide else 2), "little")
    if length > LONGEST_HEADER:
        raise ValueError(
            f"{where} has a header of {length} bytes, expected {LONGEST_HEADER} at most: download it again"
        )
    try:
        fields = ast.literal_eval(file.read(length).decode("latin1"))
        dtype = np.dtype(fields["descr"])
        shape = tuple(fields["shape"])
        if len(shape) > MOST_DIMENSIONS or not all(type(side) is int and 0 <= side < 1 << 48 for side in shape):
            raise ValueError(f"shape {str(shape)[:60]}")
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise ValueError(f"{where} has a damaged header ({str(error)[:100]}): download the file again") from None
    if dtype.hasobject or dtype.kind not in NUMBERS:
        raise ValueError(f"{where} holds {dtype}, expected plain numbers: save it without pickled objects")
    return NpyHeader(shape, "F" if fields["fortran_order"] else "C", dtype, file.tell() - start)


def _max_unpacked_bytes(packed: int) -> int:
    """Return the largest size that a member of this packed size may unpack to."""
    return min(LARGEST_BYTES, max(ALWAYS_UNPACKED, LARGEST_RATIO * packed))


def _unpack(file: BinaryIO, plain: BinaryIO) -> None:
    limit = _max_unpacked_bytes(Path(file.name).stat().st_size)
    try:
        with bz2.open(file) as stream:
            while piece := stream.read(1 << 20):
                plain.write(piece)
                if plain.tell() > limit:
                    raise ValueError(
                        f"{file.name} unpacks to more than {limit >> 20} MiB: the archive is damaged or hostile"
                    )
        plain.flush()
    except (OSError, EOFError) as error:
        raise ValueError(f"{file.name} cannot be decompressed ({error}): download it again") from None
