"""The dataset folder: a scan as memory-mapped arrays, which open at once at any size; each pattern is stored once.

``counts.npy`` in the smallest dtype that loses nothing, ``positions.npy``, ``probe.npy``, and ``mask.npy``,
``truth.npy``, ``truth_slices.npy`` and ``true_positions.npy`` where the scan has them. ``manifest.json``, written last,
says what each array must be. `docs/reference/dataset-format.md` describes the format.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NamedTuple

import numpy as np
import xxhash
from pydantic import ConfigDict, Field

from ..core.scan import Geometry, GroundTruth, Scan, check_counts, check_photons, smallest_dtype
from ..runtime.progress import track
from .atomic import atomic_dir, preallocate, read_whole, write_json
from .json_file import Schema, check_schema, read_json
from .metadata import Metadata, Provenance
from .npz_archive import open_npy, read_npy_header
from .provenance import record_provenance
from .regular_file import check_regular

FORMAT = 2
REMEDY = "pack the scan again"


class Kind(NamedTuple):
    """Unit and allowed dtypes of an array of a dataset."""

    unit: str
    dtypes: tuple[str, ...]


ARRAYS = {
    "counts": Kind("photons", ("uint8", "uint16", "uint32", "float32", "float64")),
    "positions": Kind("object pixels (y, x)", ("float64",)),
    "probe": Kind("sqrt(photons)", ("complex64",)),
    "mask": Kind("True where a pixel is valid", ("bool",)),
    "truth": Kind("complex transmission", ("complex64",)),
    "truth_slices": Kind("complex transmission", ("complex64",)),
    "true_positions": Kind("object pixels (y, x)", ("float64",)),
}
"""The arrays that a dataset may hold."""
MAPPED = ("counts", "truth", "truth_slices")
"""Arrays that stay on disk as memory maps."""
PIECE = 1 << 21
"""Bytes read or written at once, which fit into a processor's cache."""
CHECKSUM = "xxh3_64"
"""Checksum as fast as memory; it detects damage, but not forgery."""


class Lengths(Schema):
    """Geometry of a scan, m."""

    model_config = ConfigDict(extra="forbid")

    pixel_size_m: float
    wavelength_m: float
    detector_distance_m: float
    propagation: Literal["far_field", "near_field"] = "far_field"
    focus_distance_m: float | None = None


class ArrayEntry(Schema):
    """Array of a dataset as the manifest describes it."""

    shape: list[Annotated[int, Field(ge=0, lt=1 << 48)]]
    dtype: str
    xxh3_64: str


class Manifest(Schema):
    """The manifest of a dataset."""

    name: str
    geometry: Lengths
    truth_origin: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    truth_slice_spacing_m: float = 0.0
    metadata: Metadata
    arrays: dict[str, ArrayEntry]
    provenance: Provenance


def write_dataset(
    folder: Path,
    scan: Scan,
    chunks: Iterable[np.ndarray] | None = None,
    provenance: Callable[[dict], dict] | None = None,
) -> None:
    """Write a scan as a dataset folder, atomically.

    Args:
        folder: the dataset; an earlier one is replaced.
        scan: the scan; ``scan.counts`` defines the shape of the counts.
        chunks: counts in pieces ``(j, N, N)``, in order and already checked, where they do not fit in memory;
            ``scan.counts`` without it.
        provenance: function that returns the provenance for the manifest, given the description of the arrays.

    Raises:
        ValueError: if the counts are invalid, all zero or not as many as ``scan.counts``.
        OSError: if the disk is full or not writable.
    """
    if chunks is None:
        check_counts(scan.counts)
        chunks = pieces(scan.counts)
    with atomic_dir(folder, ("manifest.json", *(f"{name}.npy" for name in ARRAYS))) as partial:
        arrays = {name: _write(partial / f"{name}.npy", array) for name, array in _small_arrays(scan).items()}
        arrays["counts"], total = _write_counts(partial / "counts.npy", chunks, scan.counts.shape)
        if total == 0:
            raise ValueError(
                f"the patterns of {scan.name} sum to 0 photons, expected counts of a measurement: check the file"
            )
        check_photons(scan, total / len(scan))
        manifest = {
            "format": FORMAT,
            "name": scan.name,
            "geometry": scan.geometry.lengths(),
            "truth_origin": None if scan.truth is None else list(scan.truth.origin),
            **_truth_spacing(scan.truth),
            "metadata": scan.metadata | {"photons_measured": total / len(scan)},
            "arrays": arrays,
            "provenance": record_provenance() if provenance is None else provenance(arrays),
        }
        write_json(partial / "manifest.json", manifest)


def _truth_spacing(truth: GroundTruth | None) -> dict[str, float]:
    """Return the entry of the manifest that a thick ground truth has beside a thin one's."""
    return {} if truth is None or truth.slices is None else {"truth_slice_spacing_m": truth.slice_spacing_m}


def open_dataset(folder: Path) -> Scan:
    """Open the scan in a dataset folder, with counts and ground truth memory-mapped and read on use.

    Raises:
        FileNotFoundError: if the folder holds no complete dataset.
        ValueError: if the manifest and the arrays disagree, or an older version wrote them.
    """
    folder = Path(folder)
    return read_whole(folder, lambda: _open_dataset(folder))


def _open_dataset(folder: Path) -> Scan:
    manifest = read_manifest(folder)
    arrays = {name: _open_array(folder, name, entry) for name, entry in manifest["arrays"].items()}
    missing = sorted({"counts", "positions", "probe"} - arrays.keys())
    if missing:
        raise ValueError(f"{folder}/manifest.json names no {' nor '.join(missing)}: {REMEDY}")
    loaded = {name: np.array(array) for name, array in arrays.items() if name not in MAPPED}
    return Scan(
        counts=arrays["counts"],
        positions=loaded["positions"],
        probe=loaded["probe"],
        geometry=Geometry(**manifest["geometry"]),
        mask=loaded.get("mask"),
        truth=_ground_truth(manifest, arrays, loaded.get("true_positions")),
        name=manifest["name"],
        metadata=manifest["metadata"],
    )


def verify_dataset(folder: Path) -> dict[str, str]:
    """Compare every array of a dataset with its checksum and return the checksums by name.

    Raises:
        FileNotFoundError: if the folder holds no complete dataset.
        ValueError: naming each array that changed since it was packed.
    """
    folder = Path(folder)
    scan = open_dataset(folder)
    expected = {name: entry.get(CHECKSUM) for name, entry in read_manifest(folder)["arrays"].items()}
    damaged = [f"{name}.npy" for name, value in expected.items() if _checksum(folder / f"{name}.npy") != value]
    if damaged:
        raise ValueError(f"{folder}: {', '.join(damaged)} changed since packing: pack the scan again")
    photons = False
    for piece in pieces(scan.counts):
        check_counts(piece, f"{folder}: counts")
        photons = photons or bool(piece.any())
    if not photons:
        raise ValueError(f"{folder} holds no photon: pack the scan again")
    return expected


def read_manifest(folder: Path) -> dict:
    """Read the manifest of a dataset folder.

    Raises:
        FileNotFoundError: if the folder holds none.
        ValueError: if it is damaged or of another format.
    """
    path = Path(folder) / "manifest.json"
    check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"dataset not found: {folder} (it holds no manifest.json): pack a scan into it")
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{folder} is in format {manifest.get('format')}, this version reads {FORMAT}: pack it again")
    check_schema(manifest, Manifest, str(path), REMEDY)
    return manifest


def pieces(array: np.ndarray) -> Iterable[np.ndarray]:
    """Yield an array in slices along its first axis, each a few megabytes."""
    each = array.dtype.itemsize * math.prod(array.shape[1:])
    step = max(1, PIECE // max(each, 1))
    return (array[start : start + step] for start in range(0, len(array), step))


def _small_arrays(scan: Scan) -> dict[str, np.ndarray]:
    """Return every array but the counts in its stored dtype."""
    arrays: dict[str, np.ndarray] = {
        "positions": scan.positions.astype(np.float64),
        "probe": scan.probe.astype(np.complex64),
    }
    if scan.mask is not None:
        arrays["mask"] = scan.mask.astype(bool)
    if scan.truth is not None:
        arrays["truth"] = scan.truth.object.astype(np.complex64)
        if scan.truth.slices is not None:
            arrays["truth_slices"] = scan.truth.slices.astype(np.complex64)
        if scan.truth.positions is not None:
            arrays["true_positions"] = scan.truth.positions.astype(np.float64)
    return arrays


def _ground_truth(manifest: dict, arrays: dict[str, np.ndarray], positions: np.ndarray | None) -> GroundTruth | None:
    if "truth" not in arrays:
        return None
    y, x = map(float, manifest["truth_origin"])
    spacing_m = float(manifest.get("truth_slice_spacing_m", 0.0))
    return GroundTruth(arrays["truth"], (y, x), positions, arrays.get("truth_slices"), spacing_m)


class _ArrayFile:
    """An npy file that is written in slices along its first axis while its checksum is updated."""

    def __init__(self, file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = np.dtype(dtype), tuple(map(int, shape))
        self.done = 0
        self._file, self._checksum = file, xxhash.xxh3_64()
        content = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(file, content)
        preallocate(file, file.tell() + self.dtype.itemsize * math.prod(self.shape))

    def write(self, piece: np.ndarray) -> None:
        """Append a slice and update the checksum."""
        data = np.ascontiguousarray(piece, self.dtype).data.cast("B")
        self._checksum.update(data)
        self._file.write(data)
        self.done += len(piece)

    def describe(self) -> dict:
        """Return shape, dtype and checksum for the manifest."""
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
        Description of the array for the manifest, and the sum of all counts.
    """
    total = 0.0
    with ExitStack() as stack:
        file = None
        for piece in chunks:
            if piece.shape[1:] != shape[1:]:
                raise ValueError(
                    f"got patterns of {piece.shape[1:]} px, expected {shape[1:]} px: give all patterns one size"
                )
            dtype = smallest_dtype(piece)
            if file is None:
                file = stack.enter_context(_array_file(path, dtype, shape))
            elif (wider := np.promote_types(file.dtype, dtype)) != file.dtype:
                stack.close()
                file = stack.enter_context(_widened(path, wider, file))
            file.write(piece)
            total += _sum(piece)
        if file is None or file.done != shape[0]:
            raise ValueError(
                f"got {file.done if file else 0} patterns, expected {shape[0]}: check the source of the counts"
            )
        return file.describe() | {"unit": ARRAYS["counts"].unit}, total


@contextmanager
def _widened(path: Path, wider: np.dtype, narrow: _ArrayFile) -> Iterator[_ArrayFile]:
    """Begin the file again in a wider dtype, with the patterns that it holds so far."""
    old = path.rename(path.with_suffix(".narrow"))
    with _array_file(path, wider, narrow.shape) as file:
        for piece in pieces(np.load(old, mmap_mode="r", allow_pickle=False)[: narrow.done]):
            file.write(piece)
        old.unlink()
        yield file


def _sum(counts: np.ndarray) -> float:
    """Return the sum of all counts; as many patterns as cannot overflow are added in their own dtype, for speed."""
    if counts.dtype.kind != "u":
        return float(counts.sum(dtype=np.float64))
    many = max(1, int(np.iinfo(counts.dtype).max) // max(1, int(counts.max())))
    groups = (counts[first : first + many] for first in range(0, len(counts), many))
    return float(sum(int(group.sum(0, dtype=counts.dtype).sum(dtype=np.uint64)) for group in groups))


def _open_array(folder: Path, name: str, entry: dict) -> np.ndarray:
    """Open an array as a memory map if it is as its manifest entry says."""
    if name not in ARRAYS or entry["dtype"] not in ARRAYS[name].dtypes:
        raise ValueError(
            f"{folder}/manifest.json names {name} of {entry['dtype']}, which a dataset cannot hold: pack it again"
        )
    path, dtype, shape = folder / f"{name}.npy", np.dtype(entry["dtype"]), tuple(entry["shape"])
    check_regular(path)
    if not path.is_file():
        raise ValueError(f"{path} is missing although the manifest names it: pack the scan again")
    with path.open("rb") as file:
        header, size = read_npy_header(file, 0, str(path)), path.stat().st_size
    if (header.shape, header.order, header.dtype) != (shape, "C", dtype):
        raise ValueError(f"{path} does not hold the {dtype} {list(shape)} of the manifest: pack the scan again")
    expected = header.length + dtype.itemsize * math.prod(shape)
    if size != expected:
        state = "truncated" if size < expected else "too long"
        raise ValueError(f"{path} is {state}, {size} bytes instead of {expected}: pack the scan again")
    if 0 in shape:
        raise ValueError(f"{path} is empty, its shape is {list(shape)}: pack the scan again")
    return np.memmap(path, dtype, "r", header.length, shape)


def _checksum(path: Path) -> str:
    """Return the checksum of an array as it is on disk now."""
    array = open_npy(path)
    checksum = xxhash.xxh3_64()
    for piece in track(pieces(array), f"checking {path.name}", total=max(1, array.nbytes // PIECE)):
        checksum.update(piece.data.cast("B"))
    return checksum.hexdigest()
