"""The dataset folder: a scan as plain arrays that open in no time at any size, each pattern once.

``counts.npy`` in the smallest dtype that loses nothing, ``positions.npy``, ``probe.npy``, and ``mask.npy``,
``truth.npy`` and ``true_positions.npy`` where the scan has them. ``manifest.json`` is written last and says what each
array must be. `docs/reference/dataset-format.md` describes the format.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import xxhash

from ..core.scan import Geometry, GroundTruth, Scan, check_counts, check_light, smallest_dtype
from ..runtime.progress import track
from .atomic import atomic_dir, preallocate, read_json, write_json
from .provenance import record_provenance

FORMAT = 2


class Kind(NamedTuple):
    """What an array of a dataset must be."""

    unit: str
    dtypes: tuple[str, ...]


ARRAYS = {
    "counts": Kind("photons", ("uint8", "uint16", "uint32", "float32", "float64")),
    "positions": Kind("object pixels (y, x)", ("float64",)),
    "probe": Kind("sqrt(photons)", ("complex64",)),
    "mask": Kind("True where a pixel counts", ("bool",)),
    "truth": Kind("complex transmission", ("complex64",)),
    "true_positions": Kind("object pixels (y, x)", ("float64",)),
}
"""The arrays a dataset may hold."""
PIECE = 1 << 21
"""Bytes read or written at once: what a processor's cache holds."""
CHECKSUM = "xxh3_64"
"""As fast as memory; it finds any damage, but not a forger."""


def write_dataset(
    folder: Path,
    scan: Scan,
    chunks: Iterable[np.ndarray] | None = None,
    provenance: Callable[[dict], dict] | None = None,
) -> None:
    """Write a scan as a dataset folder, whole or not at all.

    Args:
        folder: the dataset; one that stands there already is replaced.
        scan: what to write; ``scan.counts`` gives the shape.
        chunks: the counts in pieces, in order and already checked, where they do not fit in memory; ``scan.counts``
            without it.
        provenance: gives the provenance for the manifest, called with the description of the arrays when all are written.

    Raises:
        ValueError: if the counts are impossible, all zero or not as many as announced.
        OSError: if the disk is full or must not be written.
    """
    if chunks is None:
        check_counts(scan.counts)
        chunks = pieces(scan.counts)
    with atomic_dir(folder, ("manifest.json", *(f"{name}.npy" for name in ARRAYS))) as partial:
        arrays = {name: _write(partial / f"{name}.npy", array) for name, array in _small_arrays(scan).items()}
        arrays["counts"], total = _write_counts(partial / "counts.npy", chunks, scan.counts.shape)
        if total == 0:
            raise ValueError(f"the patterns of {scan.name} hold no photon: give those of a measurement")
        check_light(scan, total / len(scan))
        manifest = {
            "format": FORMAT,
            "name": scan.name,
            "geometry": vars(scan.geometry),
            "truth_origin": None if scan.truth is None else list(scan.truth.origin),
            "metadata": scan.metadata | {"photons_measured": total / len(scan)},
            "arrays": arrays,
            "provenance": record_provenance() if provenance is None else provenance(arrays),
        }
        write_json(partial / "manifest.json", manifest)


def open_dataset(folder: Path) -> Scan:
    """The scan in a dataset folder, its counts and truth memory-mapped: nothing is read before it is used.

    Raises:
        FileNotFoundError: if there is no dataset, or no whole one.
        ValueError: if the manifest and the arrays disagree, or an older version wrote them.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        arrays = {name: _open_array(folder, name, told) for name, told in manifest["arrays"].items()}
        known = {name: np.array(array) for name, array in arrays.items() if name not in ("counts", "truth")}
        return Scan(
            counts=arrays["counts"],
            positions=known["positions"],
            probe=known["probe"],
            geometry=Geometry(**manifest["geometry"]),
            mask=known.get("mask"),
            truth=_truth(arrays.get("truth"), manifest["truth_origin"], known.get("true_positions")),
            name=manifest["name"],
            metadata=manifest["metadata"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}/manifest.json is damaged ({error}): pack the scan again") from None


def verify_dataset(folder: Path) -> dict[str, str]:
    """Check every array of a dataset against its checksum; returns the checksums by name.

    Raises:
        FileNotFoundError: if there is no dataset.
        ValueError: naming each array that differs from what was packed.
    """
    folder = Path(folder)
    open_dataset(folder)
    expected = {name: told.get(CHECKSUM) for name, told in read_manifest(folder)["arrays"].items()}
    damaged = [f"{name}.npy" for name, told in expected.items() if _checksum(folder / f"{name}.npy") != told]
    if damaged:
        raise ValueError(f"{folder}: {', '.join(damaged)} changed since packing: pack the scan again")
    return expected


def read_manifest(folder: Path) -> dict:
    """The manifest of a dataset folder, of the format this version reads.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged or of another format.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"there is no dataset {folder} (no manifest.json in it): pack a scan into it")
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{folder} is in format {manifest.get('format')}, this version reads {FORMAT}: pack it again")
    return manifest


def pieces(array: np.ndarray) -> Iterable[np.ndarray]:
    """An array in slices along its first axis, each a few megabytes."""
    step = max(1, PIECE * len(array) // max(array.nbytes, 1))
    return (array[start : start + step] for start in range(0, len(array), step))


def _small_arrays(scan: Scan) -> dict[str, np.ndarray]:
    """Every array but the counts, as it is stored."""
    arrays = {"positions": scan.positions.astype(np.float64), "probe": scan.probe.astype(np.complex64)}
    if scan.mask is not None:
        arrays["mask"] = scan.mask.astype(bool)
    if scan.truth is not None:
        arrays["truth"] = scan.truth.object.astype(np.complex64)
        if scan.truth.positions is not None:
            arrays["true_positions"] = scan.truth.positions.astype(np.float64)
    return arrays


def _truth(image: np.ndarray | None, origin: list[float] | None, positions: np.ndarray | None) -> GroundTruth | None:
    return None if image is None else GroundTruth(image, tuple(map(float, origin)), positions)


class _ArrayFile:
    """An npy file that grows by slices along its first axis, and its checksum with it."""

    def __init__(self, file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = np.dtype(dtype), tuple(map(int, shape))
        self.done = 0
        self._file, self._checksum = file, xxhash.xxh3_64()
        content = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(file, content)
        preallocate(file, file.tell() + self.dtype.itemsize * math.prod(self.shape))

    def write(self, piece: np.ndarray) -> None:
        data = memoryview(np.ascontiguousarray(piece, self.dtype)).cast("B")
        self._checksum.update(data)
        self._file.write(data)
        self.done += len(piece)

    def describe(self) -> dict:
        """What the manifest says of it."""
        return {"shape": list(self.shape), "dtype": self.dtype.name, CHECKSUM: self._checksum.hexdigest()}


@contextmanager
def _array_file(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[_ArrayFile]:
    with path.open("wb") as file:
        yield _ArrayFile(file, dtype, shape)


def _write(path: Path, array: np.ndarray) -> dict:
    with _array_file(path, array.dtype, array.shape) as file:
        for piece in pieces(array):
            file.write(piece)
        return file.describe() | {"unit": ARRAYS[path.stem].unit}


def _write_counts(path: Path, chunks: Iterable[np.ndarray], shape: tuple[int, int, int]) -> tuple[dict, float]:
    """Stream the counts to an npy file in one pass, widening what is written when a piece needs it.

    Returns:
        Description of the array, and the sum of all counts.
    """
    total = 0.0
    with ExitStack() as stack:
        file = None
        for piece in chunks:
            if piece.shape[1:] != shape[1:]:
                raise ValueError(f"patterns of {piece.shape[1:]} px came, {shape[1:]} px were announced")
            dtype = smallest_dtype(piece)
            if file is None:
                file = stack.enter_context(_array_file(path, dtype, shape))
            elif (wider := np.promote_types(file.dtype, dtype)) != file.dtype:
                stack.close()
                file = stack.enter_context(_widened(path, wider, file))
            file.write(piece)
            total += _sum(piece)
        done = 0 if file is None else file.done
        if done != shape[0]:
            raise ValueError(f"{done} patterns came, {shape[0]} were announced")
        return file.describe() | {"unit": ARRAYS["counts"].unit}, total


@contextmanager
def _widened(path: Path, wider: np.dtype, narrow: _ArrayFile) -> Iterator[_ArrayFile]:
    """The file begun again in a wider dtype with what it holds so far."""
    old = path.rename(path.with_suffix(".narrow"))
    with _array_file(path, wider, narrow.shape) as file:
        for piece in pieces(np.load(old, mmap_mode="r", allow_pickle=False)[: narrow.done]):
            file.write(piece)
        old.unlink()
        yield file


def _sum(counts: np.ndarray) -> float:
    """The sum of all counts; as many patterns as cannot overflow are added up in their own dtype, which is fast."""
    if counts.dtype.kind != "u":
        return float(counts.sum(dtype=np.float64))
    many = max(1, int(np.iinfo(counts.dtype).max) // max(1, int(counts.max())))
    groups = (counts[first : first + many] for first in range(0, len(counts), many))
    return float(sum(int(group.sum(0, dtype=counts.dtype).sum(dtype=np.uint64)) for group in groups))


def _open_array(folder: Path, name: str, told: dict) -> np.ndarray:
    """An array as a memory map, if it is what the manifest says."""
    if name not in ARRAYS or told["dtype"] not in ARRAYS[name].dtypes:
        raise ValueError(
            f"{folder}/manifest.json names {name} of {told['dtype']}, which no dataset holds: pack it again"
        )
    path, dtype, shape = folder / f"{name}.npy", np.dtype(told["dtype"]), tuple(told["shape"])
    if not path.is_file():
        raise ValueError(f"{path} is missing although the manifest names it: pack the scan again")
    with path.open("rb") as file:
        found = _read_header(file)
        offset, size = file.tell(), file.seek(0, os.SEEK_END)
    if found != (shape, False, dtype):
        raise ValueError(f"{path} does not hold the {dtype} {list(shape)} of the manifest: pack the scan again")
    expected = offset + dtype.itemsize * math.prod(shape)
    if size != expected:
        how = "truncated" if size < expected else "too long"
        raise ValueError(f"{path} is {how}, {size} bytes instead of {expected}: pack the scan again")
    return np.memmap(path, dtype, "r", offset, shape)


def _read_header(file: BinaryIO) -> tuple | None:
    """Shape, order and dtype that an npy file announces; None if it is no such file. Nothing in it is executed."""
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return None
        return np.lib.format.read_array_header_1_0(file)
    except ValueError:
        return None


def _checksum(path: Path) -> str:
    """The checksum of an array as it is on disk now."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    checksum = xxhash.xxh3_64()
    for piece in track(pieces(array), f"checking {path.name}", total=max(1, array.nbytes // PIECE)):
        checksum.update(memoryview(piece).cast("B"))
    return checksum.hexdigest()
