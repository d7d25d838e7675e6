"""The file of a scan: CXI 1.6, which other programs open, written and read at once or in pieces."""

import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters that detectors compress with)
import numpy as np

from ..core.scan import ELEMENTARY_CHARGE_C, Geometry, GroundTruth, Scan, check_counts
from .atomic import atomic_file, size_of
from .metadata import parse_metadata
from .regular_file import check_regular
from .safe_hdf5 import Hdf5, is_hdf5, read_hdf5

OURS, DETECTOR = "entry_1/ptychoflow", "entry_1/instrument_1/detector_1"
"""Groups of a scan file: what CXI has no place for, and the detector."""
KIND, REMEDY = "ptychoflow scan", "simulate or convert it again"


def write_scan(path: Path, scan: Scan, chunks: Iterable[np.ndarray] | None = None) -> None:
    """Write a scan as a CXI 1.6 file, atomically.

    Args:
        path: the file.
        scan: the scan; ``scan.counts`` defines shape and dtype of the counts.
        chunks: counts in pieces ``(j, N, N)``, in order, where they do not fit in memory; ``scan.counts`` without it.
    """
    size = size_of(scan) + (0 if scan.truth is None else size_of(scan.truth))
    with atomic_file(path, size) as partial, h5py.File(partial, "w") as file:
        file["cxi_version"] = 160
        instrument = file.create_group("entry_1/instrument_1")
        source = instrument.create_group("source_1")
        source["energy"] = scan.geometry.energy_ev * ELEMENTARY_CHARGE_C
        source["illumination"] = scan.probe.astype(np.complex64)
        detector = instrument.create_group("detector_1")
        # contiguous and not compressed: every program reads it, at the speed of the disk
        data = detector.create_dataset("data", scan.counts.shape, scan.counts.dtype)
        _write_chunks(data, [scan.counts] if chunks is None else chunks)
        detector["distance"] = scan.geometry.detector_distance_m
        detector["x_pixel_size"] = detector["y_pixel_size"] = scan.geometry.detector_pixel_m(scan.size)
        # CXI masks are nonzero at bad pixels, ours True at valid ones
        bad = np.zeros(scan.counts.shape[1:], bool) if scan.mask is None else ~scan.mask
        detector["mask"] = bad.astype(np.uint32)
        y, x = scan.positions.T * scan.geometry.pixel_size_m
        file["entry_1/sample_1/geometry_1/translation"] = np.stack([x, y, np.zeros_like(x)], axis=1)
        file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        file["entry_1/data_1/translation"] = h5py.SoftLink("/entry_1/sample_1/geometry_1/translation")
        ours = file.create_group("entry_1/ptychoflow")
        ours.attrs.update({"name": scan.name, "format": 2, "metadata": json.dumps(scan.metadata)})
        ours.attrs.update(scan.geometry.lengths())
        ours.create_dataset("probe", data=scan.probe.astype(np.complex64)).attrs["unit"] = "sqrt(photons)"
        ours.create_dataset("positions", data=scan.positions).attrs["unit"] = "object pixels (y, x)"
        if scan.truth is not None:
            truth = ours.create_dataset("truth", data=scan.truth.object.astype(np.complex64))
            truth.attrs["origin"] = scan.truth.origin
            if scan.truth.slices is not None:
                slices = ours.create_dataset("truth_slices", data=scan.truth.slices.astype(np.complex64))
                slices.attrs["spacing_m"] = scan.truth.slice_spacing_m
            if scan.truth.positions is not None:
                ours.create_dataset("true_positions", data=scan.truth.positions).attrs["unit"] = "object pixels (y, x)"


def is_scan(path: Path) -> bool:
    """Return True for a CXI file that ptychoflow wrote."""
    if not is_hdf5(path):
        return False
    return read_hdf5(path, lambda file: OURS in file, "scan or product", "get or make it again")


def read_scan(path: Path, counts: bool = True) -> Scan:
    """Read one of our CXI files.

    Args:
        path: the file.
        counts: False leaves the patterns on disk: ``scan.counts`` is then all zeros of the right shape and dtype and
            takes no memory; :func:`iterate_counts` reads the patterns in pieces.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not a ptychoflow scan, is truncated or holds invalid values.
    """
    _check_exists(path)
    scan = read_hdf5(Path(path), _scan_from, KIND, REMEDY, _try_chunks)
    if not counts:
        return scan
    patterns = np.empty(scan.counts.shape, scan.counts.dtype)
    done = 0
    for piece in iterate_counts(path):
        patterns[done : done + len(piece)] = piece
        done += len(piece)
    return replace(scan, counts=patterns)


def iterate_counts(path: Path, chunk_bytes: int = 1 << 22, check: bool = True) -> Iterator[np.ndarray]:
    """Yield the patterns of a CXI file in order, ``(j, N, N)``, in bounded memory.

    Args:
        path: the file, which :func:`read_scan` has read.
        chunk_bytes: approximate size of a piece, bytes; the default fits into a processor's cache.
        check: refuse counts that are NaN, infinite or negative.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: for damaged data or invalid counts.
    """
    _check_exists(path)
    with Hdf5(path) as file:
        data = _counts_of(file)
        chunk = max(1, chunk_bytes // (data.dtype.itemsize * data.shape[-1] ** 2))
        for start in range(0, len(data), chunk):
            try:
                piece = data[start : start + chunk]
            except OSError as error:
                raise ValueError(f"{path} is damaged at pattern {start} ({error}): make it again") from None
            if check:
                check_counts(piece, f"{path}: patterns {start} to {start + len(piece) - 1}")
            yield piece


def _write_chunks(data: h5py.Dataset, chunks: Iterable[np.ndarray]) -> None:
    done = 0
    for piece in chunks:
        data[done : done + len(piece)] = piece
        done += len(piece)
    if done != len(data):
        raise ValueError(f"got {done} patterns, expected {len(data)}: check the source of the counts")


def _scan_from(file: Hdf5) -> Scan:
    """Read everything but the counts, which are zeros of the right shape and dtype."""
    data = _counts_of(file)
    bad = file.array(f"{DETECTOR}/mask", 2, kinds="uib") != 0
    geometry = geometry_from(file, OURS, f"{DETECTOR}/distance")
    if geometry is None or f"{OURS}/positions" not in file:
        raise ValueError(f"{file.path} is not a ptychoflow scan or is damaged: {REMEDY}")
    return Scan(
        counts=np.broadcast_to(np.zeros((), data.dtype), data.shape),
        positions=file.array(f"{OURS}/positions", 2, kinds="f").astype(np.float64),
        probe=file.array(f"{OURS}/probe", 3, kinds="c"),
        geometry=geometry,
        mask=~bad if bad.any() else None,
        truth=_truth_from(file) if f"{OURS}/truth" in file else None,
        name=file.text(f"{OURS}@name"),
        metadata=parse_metadata(file.text(f"{OURS}@metadata"), str(file.path), REMEDY),
    )


def geometry_from(file: Hdf5, group: str, distance: str) -> Geometry | None:
    """Read the geometry from the attributes of a group, and the distance of the detector; None if any is missing."""
    lengths = [file.number(name) for name in (f"{group}@pixel_size_m", f"{group}@wavelength_m", distance)]
    if None in lengths:
        return None
    pixel_m, wavelength_m, distance_m = (float(length or 0) for length in lengths)
    if not file.text(f"{group}@propagation").startswith("near"):
        return Geometry(pixel_m, wavelength_m, distance_m)
    return Geometry(pixel_m, wavelength_m, distance_m, "near_field", file.number(f"{group}@focus_distance_m"))


def _counts_of(file: Hdf5) -> h5py.Dataset:
    if OURS not in file:
        raise ValueError(f"{file.path} is not a ptychoflow scan or is damaged ({OURS} not found): {REMEDY}")
    return file.dataset(f"{DETECTOR}/data", (3,))


def _try_chunks(file: Hdf5) -> None:
    """Read the counts in chunks, which a filter may fail to unpack or crash on; we write none, other programs may."""
    data = _counts_of(file)
    if data.chunks:
        for start in range(0, len(data), max(1, data.chunks[0])):
            data[start : start + max(1, data.chunks[0])]


def _truth_from(file: Hdf5) -> GroundTruth:
    origin = np.asarray(file.attribute(f"{OURS}/truth", "origin"))
    if origin.shape != (2,) or origin.dtype.kind not in "uif" or not np.isfinite(origin).all():
        raise ValueError(f"{file.path}: the origin of the ground truth is {origin}, expected (y, x): {REMEDY}")
    image = file.array(f"{OURS}/truth", 2, kinds="c")
    true_positions = f"{OURS}/true_positions"
    positions = file.array(true_positions, 2, kinds="f").astype(np.float64) if true_positions in file else None
    slices, spacing_m = f"{OURS}/truth_slices", file.number(f"{OURS}/truth_slices@spacing_m")
    layers = file.array(slices, 3, kinds="c") if slices in file else None
    return GroundTruth(image, (float(origin[0]), float(origin[1])), positions, layers, spacing_m or 0.0)


def _check_exists(path: Path) -> None:
    check_regular(Path(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f"scan not found: {path}")
    if zipfile.is_zipfile(path):
        raise ValueError(f"{path} is an NPZ archive, not a scan of ptychoflow (.cxi): translate it with convert")
