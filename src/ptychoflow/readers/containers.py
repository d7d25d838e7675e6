"""Files of named arrays, HDF5, Zarr, NPZ and MATLAB, seen alike: what they hold, and each array by its name."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..core.units import plain_text, split_unit
from ..io.lazy_stack import Stack, stack_of
from ..io.npz_archive import Archive, open_npz
from ..io.safe_hdf5 import Hdf5, is_hdf5
from ..io.zarr_store import ZarrStore, is_zarr
from .formats.matlab_v5 import read_v5

logger = logging.getLogger(__name__)

LARGEST_NUMBER = 64
"""Elements up to which the first value of an array is shown."""


@dataclass(frozen=True)
class ArrayInfo:
    """Description of an array of a file.

    Attributes:
        name: in the file; an attribute follows its group or dataset after an ``@``.
        shape: of the array, ``()`` for a single number.
        dtype: of its elements.
        unit: by its attributes, or at the end of its name; empty where neither gives one.
        value: the first element of a small array of real numbers, else None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    unit: str = ""
    value: float | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def last_name(self) -> str:
        """Last part of the name without its unit; that of the group where the last part says nothing."""
        parts = [part for part in self.name.rpartition("@")[2].split("/") if part]
        while len(parts) > 1 and parts[-1].lower() in ("value", "data", "values", "readback", "position", "rbv"):
            parts.pop()
        return split_unit(parts[-1])[0].lower() if parts else ""


class Container(Protocol):
    """A file of named arrays."""

    path: Path
    last: bool
    """True if patterns lie along the last axis, as MATLAB writes them."""

    def infos(self) -> list[ArrayInfo]:
        """Return what the file says of its arrays, in its order."""

    def array(self, name: str) -> np.ndarray:
        """Read an array of real or complex numbers, or booleans."""

    def stack(self, name: str) -> Stack:
        """Return an array of patterns ``(J, H, W)`` or ``(Jy, Jx, H, W)`` as a stack, on disk where that can be."""


class Hdf5Container:
    """The arrays of an HDF5 file, MATLAB's v7.3 included, whose axes are reversed."""

    def __init__(self, file: Hdf5) -> None:
        self.path, self._file = file.path, file
        with file.path.open("rb") as head:
            self._reversed = head.read(6) == b"MATLAB"
        self.last = False

    def infos(self) -> list[ArrayInfo]:
        """Return what the file says of its arrays, in its order."""
        names = self._file.datasets()
        places = dict.fromkeys(["/", *(parent for name in names for parent in (name.rpartition("/")[0] or "/", name))])
        numbers = [
            ArrayInfo(f"{place}@{key}", (), np.dtype(np.float64), split_unit(key)[1], value)
            for place in places
            for key, value in self._file.attribute_numbers(place).items()
        ]
        return [*(self._info(name) for name in names), *numbers]

    def array(self, name: str) -> np.ndarray:
        """Read an array, or after an ``@`` an attribute that is a number."""
        place, mark, key = name.partition("@")
        if mark:
            numbers = self._file.attribute_numbers(place or "/")
            if key not in numbers:
                raise ValueError(f"attribute {name} not found in {self.path.name}: correct source.keys")
            return np.array(numbers[key])
        values = self._file.array(name, kinds="uifcb")
        return values.T if self._reversed and values.ndim == 2 else values

    def stack(self, name: str) -> Stack:
        """Return an array of patterns as a stack."""
        stack = self._file.stack(name, (3, 4))
        if not self._reversed:
            return stack
        return stack.map(lambda piece: piece.swapaxes(-1, -2), stack.shape[:0:-1], stack.dtype)

    def _info(self, name: str) -> ArrayInfo:
        shape, dtype = self._file.shape(name), self._file.dtype(name)
        dtype = np.dtype(np.complex64) if self._file.holds_complex(name) else dtype
        unit, value = "", None
        if dtype.kind in "uif" and self._file.is_numeric(name) and 0 not in shape:
            try:
                unit = self._file.unit(name)
                small = np.prod(shape, dtype=np.float64) <= LARGEST_NUMBER
                value = float(self.array(name).flat[0]) if small else None
            except ValueError as error:  # an array that cannot be read hides no other
                logger.info("%s", error)
        return ArrayInfo(name, shape, dtype, unit or split_unit(name.rpartition("/")[2])[1], value)


class ArraysContainer:
    """Arrays by name that are in memory or mapped, of an NPZ or a MATLAB v5 file."""

    def __init__(self, path: Path, arrays: dict[str, np.ndarray], last: bool) -> None:
        self.path, self._arrays, self.last = path, arrays, last

    def infos(self) -> list[ArrayInfo]:
        """Return what the file says of its arrays, in its order."""
        return [
            ArrayInfo(name, values.shape, values.dtype, split_unit(name)[1], _first(values))
            for name, values in self._arrays.items()
        ]

    def array(self, name: str) -> np.ndarray:
        """Return an array."""
        if name not in self._arrays:
            raise ValueError(f"array {name} not found in {self.path.name}, which holds {', '.join(self._arrays)}")
        return self._arrays[name]

    def stack(self, name: str) -> Stack:
        """Return an array of patterns as a stack."""
        values = self.array(name)
        if values.ndim not in (3, 4) or values.dtype.kind not in "uif" or 0 in values.shape:
            raise ValueError(
                f"{self.path.name}: {name} is {values.dtype} {values.shape}, expected real (patterns, H, W)"
            )
        return stack_of(values)


class ZarrContainer:
    """The arrays of a Zarr folder."""

    last = False

    def __init__(self, store: ZarrStore) -> None:
        self.path, self._store = store.path, store

    def infos(self) -> list[ArrayInfo]:
        """Return what the file says of its arrays, in its order."""
        names = self._store.arrays()
        groups = dict.fromkeys(["", *(parent for name in names for parent in (name.rpartition("/")[0], name))])
        numbers = [
            ArrayInfo(f"{place}@{key}", (), np.dtype(np.float64), split_unit(key)[1], value)
            for place in groups
            if place
            for key, value in self._store.numbers(place).items()
        ]
        return [*map(self._info, names), *numbers]

    def array(self, name: str) -> np.ndarray:
        """Read an array, or after an ``@`` an attribute that is a number."""
        place, mark, key = name.strip("/").partition("@")
        if not mark:
            return self._store.array(place)
        numbers = self._store.numbers(place)
        if key not in numbers:
            raise ValueError(f"attribute {name} not found in {self.path.name}: correct source.keys")
        return np.array(numbers[key])

    def stack(self, name: str) -> Stack:
        """Return an array of patterns as a stack."""
        return self._store.stack(name.strip("/"))

    def _info(self, name: str) -> ArrayInfo:
        shape, dtype = self._store.shape(name), self._store.dtype(name)
        unit = self._store.attributes(name).get("units") or split_unit(name.rpartition("/")[2])[1]
        is_small = dtype.kind in "uif" and 0 < np.prod(shape, dtype=np.float64) <= LARGEST_NUMBER
        return ArrayInfo(name, shape, dtype, plain_text(unit), _first(self._store.array(name)) if is_small else None)


@contextmanager
def open_container(path: Path) -> Iterator[Container | None]:
    """Open a file of named arrays; None for a file of another kind.

    Raises:
        ValueError: if it is damaged.
    """
    if is_hdf5(path):
        with Hdf5(path) as file:
            yield Hdf5Container(file)
    elif is_zarr(path):
        yield ZarrContainer(ZarrStore(path))
    elif path.is_file() and _begins_with(path, (b"MATLAB",)):
        yield ArraysContainer(path, read_v5(path), last=True)
    elif path.is_file() and _begins_with(path, (b"PK\x03\x04", b"BZh")):
        with open_npz(path) as archive:
            yield ArraysContainer(path, _numeric(archive), last=False)
    else:
        yield None


def _begins_with(path: Path, marks: Sequence[bytes]) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(tuple(marks))


def _numeric(archive: Archive) -> dict[str, np.ndarray]:
    """Return the arrays of numbers; texts and pickled objects are passed over."""
    arrays = {}
    for name in archive.names:
        try:
            arrays[name] = archive.array(name, kinds="buifc")
        except ValueError:
            continue
    return arrays


def _first(values: np.ndarray) -> float | None:
    return float(values.flat[0]) if values.dtype.kind in "uif" and 0 < values.size <= LARGEST_NUMBER else None
