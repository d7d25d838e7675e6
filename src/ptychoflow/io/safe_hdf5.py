"""HDF5 files from outside, read safely: no file outside their folder is opened, sizes are checked before reading."""

import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import h5py
import hdf5plugin  # noqa: F401  (registers the filters that detectors compress with)
import numpy as np

from ..core.units import UnknownUnitError, factor, plain_text, quantity_of
from .lazy_stack import Stack
from .regular_file import check_regular
from .sandbox import read_in_subprocess
from .virtual_sources import LONGEST_SCAN, covered_patterns, first_selected, written_patterns

logger = logging.getLogger(__name__)

LARGEST_CHUNK = 1 << 30
LARGEST_ARRAY = 1 << 31
LARGEST_SIDE = 1 << 14
ALWAYS_READ, LARGEST_RATIO = 1 << 28, 1100
"""Arrays beyond so many bytes must occupy their size over this ratio in the file, against decompression bombs."""
ALWAYS_TRIED = 1 << 20
"""Bytes up to which an array is read on trial whatever it is."""
FOREIGN = "check source.format and source.dataset"
OURS_BYTES, OURS_UNPACKED = 1 << 30, 32
"""Memory to read one of our own files: so many bytes, and so many times its size, for what is compressed in it."""
DEEPEST_LINK = 8
MOST_NAMES, MOST_ATTRIBUTES = 2000, 64
UNIT_ATTRIBUTES = ("units", "unit", "Units", "Unit", "UNITS")
LINK_FOLDERS: ContextVar[tuple[Path, ...]] = ContextVar("LINK_FOLDERS", default=())
"""Other folders that links may lead to, as ``source.link_folders`` allows."""


class MissingFileError(ValueError):
    """A file that a link names does not exist."""


@contextmanager
def links_into(folders: Iterable[str]) -> Iterator[None]:
    """Let links of HDF5 files lead into these folders too, besides that of the file."""
    token = LINK_FOLDERS.set(tuple(_absolute(Path(folder)) for folder in folders))
    try:
        yield
    finally:
        LINK_FOLDERS.reset(token)


class Hdf5:
    """A read-only view of an HDF5 file that trusts nothing in it. Use as a context.

    Names are paths inside the file. Links are followed by hand: soft links inside the file, external links to the file
    that they name, in the folder of this one, in folders below it, or in those of :func:`links_into`. A link to a place
    that does not exist, as of another machine, leads to the file of that name beside this one, which is logged.

    Attributes:
        path: of the file.
        unread: why values cannot be used, for the message that asks for them.

    Args:
        path: the file.
        largest: size of the largest array to read, bytes.
        remedy: what to do where something is missing.
        on_trial: let ones stand for large real and complex arrays that are stored as they are: reading those does not
            crash the library.

    Raises:
        ValueError: for a file that is not HDF5 or is damaged.
    """

    def __init__(self, path: Path, largest: int = LARGEST_ARRAY, remedy: str = FOREIGN, on_trial: bool = False) -> None:
        self.path, self._largest, self._remedy, self._on_trial = Path(path), largest, remedy, on_trial
        self.unread: list[str] = []
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
        node = self._explore(group)
        return list(node) if isinstance(node, h5py.Group) else []

    def datasets(self) -> list[str]:
        """Return the paths of the datasets, up to ``MOST_NAMES`` names and ``DEEPEST_LINK`` groups deep."""
        found: list[str] = []
        groups, seen = [("", 0)], 0
        while groups and seen < MOST_NAMES:
            group, depth = groups.pop()
            for name in self.names(group or "/"):
                seen += 1
                node = self._explore(f"{group}/{name}")
                if isinstance(node, h5py.Dataset):
                    found.append(f"{group}/{name}")
                elif isinstance(node, h5py.Group) and depth < DEEPEST_LINK and not self._is_soft(group, name):
                    groups.append((f"{group}/{name}", depth + 1))
        return found

    def _is_soft(self, group: str, name: str) -> bool:
        place = self._find(group or "/")
        return isinstance(place, h5py.Group) and place.id.links.get_info(name.encode()).type == h5py.h5l.TYPE_SOFT

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of a dataset; object for one that is missing."""
        node = self._explore(name)
        return node.dtype if isinstance(node, h5py.Dataset) else np.dtype(object)

    def attribute_numbers(self, name: str) -> dict[str, float]:
        """Return the attributes of a group or dataset that are single real numbers, by name."""
        node, numbers = self._explore(name), {}
        if node is None:
            return {}
        for key in list(node.attrs)[:MOST_ATTRIBUTES]:
            value = node.attrs.get(key)
            if isinstance(value, (np.ndarray, np.generic, int, float)) and np.size(value) == 1:
                number = np.asarray(value).reshape(-1)[0]
                if np.asarray(number).dtype.kind in "uif" and np.isfinite(number):
                    numbers[key] = float(number)
        return numbers

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
            raise ValueError(f"dataset {name} not found in {self.path.name}: {self._remedy}")
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
        if bytes_ > self._largest:
            raise ValueError(
                f"{self.path.name}:{name} claims {bytes_ >> 20} MiB, expected {self._largest >> 20} MiB at most"
            )
        stored = data.id.get_storage_size()
        if bytes_ > ALWAYS_READ and not data.is_virtual and bytes_ > LARGEST_RATIO * stored:
            raise ValueError(
                f"{self.path.name}:{name} unpacks from {stored} to {bytes_} bytes: the file is damaged or hostile"
            )
        if self._on_trial and bytes_ > ALWAYS_TRIED and data.dtype.kind in "fc" and not data.chunks:
            return np.broadcast_to(np.ones((), data.dtype), data.shape)
        return _as_complex(data[()], f"{self.path.name}:{name}")

    def stack(self, name: str, dimensions: tuple[int, ...] = (3,)) -> Stack:
        """Return the patterns of a dataset ``(J, H, W)`` or ``(Jy, Jx, H, W)`` as a stack ``(J, H, W)`` on disk."""
        data = self.dataset(name, dimensions)
        *scan, height, width = data.shape
        stored = self._stored_patterns(data)
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

        absent = None if stored is None else ~stored
        if absent is not None:
            logger.warning(
                "%s:%s: %d of %d patterns were never written", self.path.name, name, absent.sum(), len(absent)
            )
        stack = Stack((math.prod(scan), height, width), data.dtype, _explain_read_errors(self.path, read), absent)
        return stack.without_reading_absent()

    def number(self, *names: str, unit: str = "", otherwise: float | None = None) -> float | None:
        """Return the first of these single numbers that the file holds, in m, eV, px or rad.

        A number in an unknown unit is not returned but explained in ``unread``.

        Args:
            *names: paths in the file; with an ``@`` attributes: ``patterns@detector_pixel_width_m``.
            unit: of a number without a ``units`` attribute; it also determines the quantity. Without it numbers are
                taken as they are.
            otherwise: returned if none is found.
        """
        for name in names:
            value, unit_in_file = self._value(name)
            if isinstance(value, (np.ndarray, np.generic, int, float)) and np.size(value) == 1:
                number = np.asarray(value).reshape(-1)[0]
                if np.asarray(number).dtype.kind in "uifb" and np.isfinite(number):
                    quantity = quantity_of(unit)
                    try:
                        scale = factor(unit_in_file or unit, quantity, f"{self.path.name}:{name}") if quantity else 1.0
                    except UnknownUnitError as error:
                        self.unread.append(str(error))
                        continue
                    return float(number) * scale
        return otherwise

    def text(self, name: str) -> str:
        """Return a string, or an empty one where the file has none."""
        return plain_text(self._value(name)[0])

    def unit(self, name: str, otherwise: str = "") -> str:
        """Return the unit in a dataset's attributes, else ``otherwise``."""
        return self._unit(self.dataset(name)) or otherwise

    def attribute(self, name: str, attribute: str) -> object:
        """Return an attribute, or None; an array of one text as that text, never an array of objects.

        Raises:
            ValueError: if ``name`` is missing.
        """
        node = self._find(name)
        if node is None:
            raise ValueError(f"{name} not found in {self.path.name}: {self._remedy}")
        value = node.attrs.get(attribute)
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            return plain_text(value) or None
        return value

    def holds_complex(self, name: str) -> bool:
        """Return True if a dataset holds complex numbers."""
        node = self._explore(name)
        return isinstance(node, h5py.Dataset) and (node.dtype.kind == "c" or _is_pair(node.dtype))

    def is_numeric(self, name: str) -> bool:
        """Return True if a dataset holds numbers, real or complex."""
        node = self._explore(name)
        return isinstance(node, h5py.Dataset) and (node.dtype.kind in "uifc" or _is_pair(node.dtype))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a dataset; empty if it is missing."""
        node = self._explore(name)
        return node.shape or () if isinstance(node, h5py.Dataset) else ()

    @staticmethod
    def _unit(node: h5py.Dataset) -> str:
        return next(filter(None, (plain_text(node.attrs.get(name)) for name in UNIT_ATTRIBUTES)), "")

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
            check_regular(path)
            if not path.is_file():
                raise MissingFileError(
                    f"{path.name}, which {self.path.name} links to, not found: put it into the same folder"
                )
            try:
                self._files[path] = self._exit.enter_context(h5py.File(path, "r"))
            except OSError as error:
                raise ValueError(f"{path} is not an HDF5 file or is truncated ({error})") from None
        return self._files[path]

    def _find(self, name: str) -> h5py.Group | h5py.Dataset | None:
        return self._walk(self._open(self.path), name, 0)

    def _explore(self, name: str) -> h5py.Group | h5py.Dataset | None:
        """Find a name; None where it leads to a file that is missing, which matters only when it is read."""
        try:
            return self._find(name)
        except MissingFileError:
            return None

    def _walk(self, start: h5py.Group, name: str, depth: int) -> h5py.Group | h5py.Dataset | None:
        """Follow a name part by part, so that every link is checked."""
        if depth > DEEPEST_LINK:
            raise ValueError(f"circular HDF5 link in {self.path.name}: {name}")
        try:
            return self._follow(start, name, depth)
        except (KeyError, RuntimeError, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path} is damaged at {name} ({error}): get or make it again") from None

    def _follow(self, start: h5py.Group, name: str, depth: int) -> h5py.Group | h5py.Dataset | None:
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
                linked = self._linked(file, Path(place.file.filename).parent)
                place = self._walk(self._open(linked), "/" + inner, depth + 1)
            else:
                raise ValueError(
                    f"{self.path.name}:{name} is a user-defined link, expected a soft or external one: copy the data"
                )
        return place

    def _linked(self, named: str, folder: Path) -> Path:
        """Return the path of a file that a link in a file of ``folder`` names.

        Raises:
            ValueError: if it lies outside the folders that links may lead to.
        """
        named = named.replace("\\", "/")
        path = _absolute(folder / named)
        allowed = (_absolute(self.path.parent), *LINK_FOLDERS.get())
        if not re.match("[A-Za-z]:/", named) and any(path.is_relative_to(place) for place in allowed):
            return path
        if path.exists():
            raise ValueError(
                f"{self.path.name} links to {path}, outside its folder: put that file into the same folder and link to "
                f"it there, or allow {path.parent} in source.link_folders"
            )
        beside = _absolute(self.path.parent / path.name)
        if beside.is_file() and beside not in self._files:
            logger.warning("%s links to %s, not found: taking %s beside it", self.path.name, named, beside.name)
        return beside

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
            if depth > DEEPEST_LINK:
                raise ValueError(
                    f"{where} nests virtual datasets more than {DEEPEST_LINK} deep: copy the data into one file"
                )
            if all(part is None for _, part in self._sources(data, where, depth)):
                raise ValueError(f"no file that {where} takes its values from was found: put them beside the file")
        elif data.id.get_storage_size() == 0:
            raise ValueError(f"{where} claims the shape {data.shape} but has no values: write the file again")
        elif data.id.get_storage_size() > Path(data.file.filename).stat().st_size:
            raise ValueError(f"{where} claims more bytes than the file holds: write the file again")

    def _sources(
        self, data: h5py.Dataset, where: str, depth: int = 0
    ) -> list[tuple[h5py._hl.vds.VDSmap, h5py.Dataset | None]]:
        """Return the parts of a virtual dataset with their source, checked as any dataset is; None if it is missing.

        Raises:
            ValueError: if a source lies outside the folders that links may lead to, or the HDF5 library would take a
                missing one from the working directory.
        """
        folder, found = Path(data.file.filename).parent, []
        for part in data.virtual_sources():
            name, source = part.file_name, None
            path = Path(data.file.filename) if name == "." else self._linked(name.replace("%b", "0"), folder)
            if path.is_file():
                source = self._walk(self._open(path), "/" + part.dset_name.replace("%b", "0"), depth + 1)
            elif path.name in os.listdir():
                raise ValueError(f"{where} takes values from {name}, not found: put it beside the file")
            source = source if isinstance(source, h5py.Dataset) else None
            if source is not None:
                self._check_storage(source, where, depth + 1)
            found.append((part, source))
        return found

    def _stored_patterns(self, data: h5py.Dataset) -> np.ndarray | None:
        """Return True for each pattern that has values, ``(J,)``; None where all have."""
        if not data.is_virtual:
            return written_patterns(data)
        if math.prod(data.shape[:-2]) > LONGEST_SCAN:
            return None
        stored = np.zeros(math.prod(data.shape[:-2]), bool)
        for part, source in self._sources(data, f"{self.path.name}:{data.name}"):
            if source is not None:
                counted = source.ndim == data.ndim and "%b" not in part.file_name + part.dset_name
                available = None if not counted else max(0, len(source) - first_selected(part.src_space))
                stored |= covered_patterns(data.shape, part.vspace, available)
        return None if stored.all() else stored


T = TypeVar("T")


def read_hdf5(
    path: Path, read: Callable[[Hdf5], T], kind: str, remedy: str, trial: Callable[[Hdf5], object] | None = None
) -> T:
    """Read one of our HDF5 files: in a child process first, which a damaged file may crash, then in this one.

    Arrays may be of any size that the file itself has.

    Args:
        path: the file.
        read: takes what it needs from the open file.
        kind: of file.
        remedy: how to make it again.
        trial: reads in the child what is read in this process later on.

    Returns:
        What ``read`` returns.

    Raises:
        ValueError: naming the file, if it is damaged or hostile.
    """
    size = path.stat().st_size
    missing = f"it is not a {kind} or is damaged: {remedy}"

    def attempt(on_trial: bool = False) -> T:
        try:
            with Hdf5(path, max(ALWAYS_READ, OURS_UNPACKED * size), missing, on_trial) as file:
                found = read(file)
                if on_trial and trial is not None:
                    trial(file)
                return found
        except (OSError, KeyError, IndexError, TypeError, OverflowError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path} is not a {kind} or is damaged ({reason}): {remedy}") from None

    read_in_subprocess(lambda: attempt(on_trial=True), path, OURS_BYTES + OURS_UNPACKED * size)
    return attempt()


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


def _absolute(path: Path) -> Path:
    """Return an absolute path without dots; symbolic links, which the owner of the folder made, stay."""
    return Path(os.path.abspath(path))
