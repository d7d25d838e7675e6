"""HDF5 files from outside, read safely: no file outside their folder is opened, sizes are checked before reading."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters that detectors compress with)
import numpy as np

from .lazy_stack import Stack

LARGEST_CHUNK = 1 << 30
LARGEST_ARRAY = 1 << 31
LARGEST_SIDE = 1 << 14
DEEPEST_LINK = 8
UNITS = {
    **{"m": 1.0, "metre": 1.0, "metres": 1.0, "meter": 1.0, "meters": 1.0, "cm": 1e-2, "mm": 1e-3},
    **{"um": 1e-6, "µm": 1e-6, "μm": 1e-6, "micron": 1e-6, "microns": 1e-6, "micrometer": 1e-6, "micrometers": 1e-6},
    **{"nm": 1e-9, "nanometer": 1e-9, "nanometers": 1e-9, "a": 1e-10, "å": 1e-10, "angstrom": 1e-10, "pm": 1e-12},
    **{"px": 1.0, "pixel": 1.0, "pixels": 1.0},
    **{"ev": 1.0, "kev": 1e3, "j": 1 / 1.602176634e-19},
}
"""Factors to metres and to electron volts by the unit's lower-case name."""


class Hdf5:
    """A read-only view of an HDF5 file that trusts nothing in it. Use as a context.

    Names are paths inside the file. Links are followed by hand: soft links inside the file, external links only to
    files of the same folder (as detectors write them), whatever folder the link names.

    Raises:
        ValueError: for a file that is not HDF5 or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._files: dict[Path, h5py.File] = {}
        self._exit = ExitStack()

    def __enter__(self) -> "Hdf5":
        self._open(self.path)
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def names(self, group: str = "/") -> list[str]:
        """Return the names in a group, in order; an empty list if the group is missing."""
        node = self._find(group)
        return list(node) if isinstance(node, h5py.Group) else []

    def first(self, *names: str) -> str | None:
        """Return the first of these names that the file holds, else None."""
        return next((name for name in names if name in self), None)

    def dataset(self, name: str, dimensions: tuple[int, ...] = (), kinds: str = "uif") -> h5py.Dataset:
        """Return a dataset of numbers after checks of its dtype, shape and storage.

        Args:
            name: path in the file.
            dimensions: permitted numbers of dimensions; any if empty.
            kinds: permitted kinds of number, as NumPy's ``dtype.kind``.

        Raises:
            ValueError: if it is missing, has another dtype or number of dimensions, or claims an impossible size.
        """
        node, where = self._find(name), f"{self.path.name}:{name}"
        if not isinstance(node, h5py.Dataset):
            raise ValueError(f"dataset {name} not found in {self.path.name}: check source.format and source.dataset")
        if node.dtype.kind not in kinds or node.dtype.hasobject:
            raise ValueError(f"{where} holds {node.dtype}, expected numbers of kind {'/'.join(kinds)}")
        if node.shape is None or 0 in node.shape:
            raise ValueError(f"{where} is empty")
        if dimensions and node.ndim not in dimensions:
            expected = " or ".join(map(str, dimensions))
            raise ValueError(f"{where} has shape {node.shape}, expected {expected} dimensions")
        self._check_storage(node, where)
        return node

    def array(self, name: str, *dimensions: int, kinds: str = "uif") -> np.ndarray:
        """Read a whole dataset; complex numbers written as pairs of reals are returned as complex.

        Args:
            name: path in the file.
            *dimensions: permitted numbers of dimensions; any if empty.
            kinds: permitted kinds of number, as NumPy's ``dtype.kind``.
        """
        pairs = "V" if "c" in kinds else ""
        data = self.dataset(name, dimensions, kinds + pairs)
        bytes_ = math.prod(data.shape) * data.dtype.itemsize
        if bytes_ > LARGEST_ARRAY:
            raise ValueError(
                f"{self.path.name}:{name} claims {bytes_ >> 20} MiB, expected {LARGEST_ARRAY >> 20} MiB at most"
            )
        return _as_complex(data[()], f"{self.path.name}:{name}")

    def stack(self, name: str, dimensions: tuple[int, ...] = (3,)) -> Stack:
        """Return the patterns of a dataset ``(J, H, W)`` or ``(Jy, Jx, H, W)`` as a stack ``(J, H, W)`` on disk."""
        data = self.dataset(name, dimensions)
        *scan, height, width = data.shape
        if max(height, width) > LARGEST_SIDE:
            raise ValueError(
                f"{self.path.name}:{name} claims patterns of {height} x {width} px, expected {LARGEST_SIDE} px at most"
            )
        path, inner, columns = Path(data.file.filename), data.name, scan[-1]

        def read(start: int, stop: int) -> np.ndarray:
            with h5py.File(path, "r") as file:
                values = file[inner]
                if values.ndim == 3:
                    return values[start:stop]
                rows = values[start // columns : -(-stop // columns)].reshape(-1, height, width)
                skipped = start // columns * columns
                return rows[start - skipped : stop - skipped]

        return Stack((math.prod(scan), height, width), data.dtype, _explain_read_errors(self.path, read))

    def number(self, *names: str, unit: str = "", otherwise: float | None = None) -> float | None:
        """Return the first of these single numbers that the file holds, in metres or eV.

        Args:
            *names: paths in the file; with an ``@`` attributes: ``patterns@detector_pixel_width_m``.
            unit: of a number without a ``units`` attribute.
            otherwise: returned if none is found.
        """
        for name in names:
            value, unit_in_file = self._value(name)
            if isinstance(value, (np.ndarray, np.generic, int, float)) and np.size(value) == 1:
                number = np.asarray(value).reshape(-1)[0]
                if np.asarray(number).dtype.kind in "uifb" and np.isfinite(number):
                    return float(number) * factor(unit_in_file or unit, f"{self.path.name}:{name}")
        return otherwise

    def text(self, name: str) -> str:
        """Return a string, or an empty one where the file has none."""
        value, _ = self._value(name)
        value = value.reshape(-1)[0] if isinstance(value, np.ndarray) and value.size == 1 else value
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""

    def scale(self, name: str, unit: str) -> float:
        """Return the factor from the unit in a dataset's attributes, else from ``unit``, to metres or eV."""
        return factor(self._unit(self.dataset(name)) or unit, f"{self.path.name}:{name}")

    def attribute(self, name: str, attribute: str) -> object:
        """Return an attribute, or None; never an array of objects.

        Raises:
            ValueError: if ``name`` is missing.
        """
        node = self._find(name)
        if node is None:
            raise ValueError(f"{name} not found in {self.path.name}: check source.format and source.dataset")
        value = node.attrs.get(attribute)
        return None if isinstance(value, np.ndarray) and value.dtype.hasobject else value

    def holds_complex(self, name: str) -> bool:
        """Return True if a dataset holds complex numbers."""
        node = self._find(name)
        return isinstance(node, h5py.Dataset) and (node.dtype.kind == "c" or _is_pair(node.dtype))

    def is_numeric(self, name: str) -> bool:
        """Return True if a dataset holds numbers, real or complex."""
        node = self._find(name)
        return isinstance(node, h5py.Dataset) and (node.dtype.kind in "uifc" or _is_pair(node.dtype))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a dataset; empty if it is missing."""
        node = self._find(name)
        return node.shape or () if isinstance(node, h5py.Dataset) else ()

    @staticmethod
    def _unit(node: h5py.Dataset) -> str:
        unit = node.attrs.get("units", node.attrs.get("unit", ""))
        return unit.decode("utf-8", "replace") if isinstance(unit, bytes) else unit if isinstance(unit, str) else ""

    def _value(self, name: str) -> tuple[object, str]:
        """Return a single number or an attribute, with the unit in its attributes."""
        place, _, attribute = name.partition("@")
        node = self._find(place or "/")
        if node is None:
            return None, ""
        if attribute:
            return node.attrs.get(attribute), ""
        if not isinstance(node, h5py.Dataset) or node.shape is None or math.prod(node.shape) != 1:
            return None, ""
        return node[()], self._unit(node)

    def _open(self, path: Path) -> h5py.File:
        if path not in self._files:
            if not path.is_file():
                raise ValueError(
                    f"{path.name}, which {self.path.name} links to, not found: put it into the same folder"
                )
            try:
                self._files[path] = self._exit.enter_context(h5py.File(path, "r"))
            except OSError as error:
                raise ValueError(f"{path} is not an HDF5 file or is truncated ({error})") from None
        return self._files[path]

    def _find(self, name: str) -> h5py.Group | h5py.Dataset | None:
        return self._walk(self._open(self.path), name, 0)

    def _walk(self, start: h5py.Group, name: str, depth: int) -> h5py.Group | h5py.Dataset | None:
        """Follow a name part by part, so that every link is checked."""
        if depth > DEEPEST_LINK:
            raise ValueError(f"circular HDF5 link in {self.path.name}: {name}")
        place = start.file if name.startswith("/") else start
        for part in filter(None, name.split("/")):
            # the high-level `in` and `get` would open external files by themselves
            if not isinstance(place, h5py.Group) or not place.id.links.exists(part.encode()):
                return None
            kind = place.id.links.get_info(part.encode()).type
            if kind == h5py.h5l.TYPE_HARD:
                place = place[part]
            elif kind == h5py.h5l.TYPE_SOFT:
                place = self._walk(place, place.id.links.get_val(part.encode()).decode(), depth + 1)
            elif kind == h5py.h5l.TYPE_EXTERNAL:
                file, inner = (text.decode() for text in place.id.links.get_val(part.encode()))
                place = self._walk(self._open(self._sibling(file)), "/" + inner, depth + 1)
            else:
                raise ValueError(
                    f"{self.path.name}:{name} is a user-defined link, expected a soft or external one: copy the data"
                )
        return place

    def _sibling(self, linked: str) -> Path:
        """Return the path of a linked file in the folder of this one, whatever folder the link names."""
        return self.path.parent / linked.replace("\\", "/").rpartition("/")[2]

    def _check_storage(self, data: h5py.Dataset, where: str, depth: int = 0) -> None:
        if data.external:
            raise ValueError(
                f"{where} keeps its values in external raw files, which are refused: copy them into the file"
            )
        if data.chunks and math.prod(data.chunks) * data.dtype.itemsize > LARGEST_CHUNK:
            raise ValueError(
                f"{where} has chunks of {data.chunks}, expected {LARGEST_CHUNK >> 20} MiB at most: rewrite the file "
                "with smaller chunks"
            )
        if data.is_virtual:
            self._check_sources(data, where, depth)
        elif data.id.get_storage_size() == 0:
            raise ValueError(f"{where} claims the shape {data.shape} but has no values: write the file again")

    def _check_sources(self, data: h5py.Dataset, where: str, depth: int) -> None:
        """Refuse a virtual dataset whose sources lie outside the folder of this file or fail the same checks."""
        if depth > DEEPEST_LINK:
            raise ValueError(
                f"{where} nests virtual datasets more than {DEEPEST_LINK} deep: copy the data into one file"
            )
        for source in {(part.file_name, part.dset_name) for part in data.virtual_sources()}:
            name, inner = source
            if name != "." and ("/" in name or "\\" in name):
                raise ValueError(f"{where} takes its values from {name}, outside its folder: put that file beside it")
            file = data.file if name == "." else self._open(self.path.parent / name)
            part = self._walk(file, "/" + inner, depth + 1)
            if not isinstance(part, h5py.Dataset):
                raise ValueError(
                    f"{name}:{inner}, which {where} takes its values from, not found: put it beside the file"
                )
            self._check_storage(part, where, depth + 1)


def factor(unit: str, where: str) -> float:
    """Return the factor from a unit to metres or electron volts; 1 for an empty unit.

    Args:
        unit: its name, as in a ``units`` attribute.
        where: name of the value in messages.

    Raises:
        ValueError: for an unknown unit.
    """
    name = unit.strip().lower()
    if name and name not in UNITS:
        raise ValueError(f"{where} has the unknown unit {unit!r}: give the value in source.geometry")
    return UNITS[name] if name else 1.0


def is_hdf5(path: Path) -> bool:
    """Return True if a file has the HDF5 signature, also behind a user block (MATLAB's)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        for offset in (0, 512, 1024, 2048):
            file.seek(offset)
            if file.read(8) == b"\x89HDF\r\n\x1a\n":
                return True
    return False


def _is_pair(dtype: np.dtype) -> bool:
    """Return True for complex numbers as MATLAB and C write them: records of floats real and imag, or r and i."""
    names = set(dtype.names or ())
    return names in ({"real", "imag"}, {"r", "i"}) and all(dtype[name].kind == "f" for name in names)


def _as_complex(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind != "V":
        return array
    if not _is_pair(array.dtype):
        raise ValueError(f"{where} holds records of {array.dtype.names}, expected complex numbers")
    names = array.dtype.names or ()
    real, imaginary = ("real", "imag") if "real" in names else ("r", "i")
    single = all(array.dtype[name].itemsize <= 4 for name in names)
    return (array[real] + 1j * array[imaginary]).astype(np.complex64 if single else np.complex128)


def _explain_read_errors(path: Path, read: Callable[[int, int], np.ndarray]) -> Callable[[int, int], np.ndarray]:
    def guarded(start: int, stop: int) -> np.ndarray:
        try:
            return read(start, stop)
        except (OSError, KeyError, RuntimeError) as error:
            raise ValueError(f"{path.name} is damaged near pattern {start} ({error}): download it again") from None

    return guarded
