"""The file of a scan: CXI 1.6, which other programs open, written and read at once or in pieces."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters that detectors compress with)
import numpy as np

from ..core.scan import ELEMENTARY_CHARGE_C, Geometry, GroundTruth, Scan, check_counts
from .atomic import atomic_file, size_of


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
        ours.attrs.update({"wavelength_m": scan.geometry.wavelength_m, "pixel_size_m": scan.geometry.pixel_size_m})
        ours.create_dataset("probe", data=scan.probe.astype(np.complex64)).attrs["unit"] = "sqrt(photons)"
        ours.create_dataset("positions", data=scan.positions).attrs["unit"] = "object pixels (y, x)"
        if scan.truth is not None:
            truth = ours.create_dataset("truth", data=scan.truth.object.astype(np.complex64))
            truth.attrs["origin"] = scan.truth.origin
            if scan.truth.positions is not None:
                ours.create_dataset("true_positions", data=scan.truth.positions).attrs["unit"] = "object pixels (y, x)"


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
    with _open_cxi(path) as file:
        try:
            return _scan_from(file, counts)
        except (KeyError, OSError) as error:
            raise ValueError(
                f"{path} is not a ptychoflow scan or is damaged ({error}): simulate or convert it again"
            ) from None


def iterate_counts(path: Path, chunk_bytes: int = 1 << 22, check: bool = True) -> Iterator[np.ndarray]:
    """Yield the patterns of a CXI file in order, ``(j, N, N)``, in bounded memory.

    Args:
        path: the file.
        chunk_bytes: approximate size of a piece, bytes; the default fits into a processor's cache.
        check: refuse counts that are NaN, infinite or negative.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: for damaged data or invalid counts.
    """
    with _open_cxi(path) as file:
        data = file["entry_1/instrument_1/detector_1/data"]
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


def _scan_from(file: h5py.File, counts: bool) -> Scan:
    ours = file["entry_1/ptychoflow"]
    detector = file["entry_1/instrument_1/detector_1"]
    data = detector["data"]
    if counts:
        patterns = data[()]
        check_counts(patterns, f"{file.filename}: counts")
    else:
        patterns = np.broadcast_to(np.zeros((), data.dtype), data.shape)
    bad = detector["mask"][()] != 0
    truth = ours.get("truth")
    return Scan(
        counts=patterns,
        positions=ours["positions"][()].astype(np.float64),
        probe=ours["probe"][()],
        geometry=Geometry(
            float(ours.attrs["pixel_size_m"]), float(ours.attrs["wavelength_m"]), float(detector["distance"][()])
        ),
        mask=~bad if bad.any() else None,
        truth=None if truth is None else _truth_from(truth, ours.get("true_positions")),
        name=str(ours.attrs["name"]),
        metadata=json.loads(ours.attrs["metadata"]),
    )


def _truth_from(image: h5py.Dataset, positions: h5py.Dataset | None) -> GroundTruth:
    y, x = image.attrs["origin"]
    return GroundTruth(image[()], (float(y), float(x)), None if positions is None else positions[()].astype(np.float64))


def _open_cxi(path: Path) -> h5py.File:
    if not Path(path).is_file():
        raise FileNotFoundError(f"scan not found: {path}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is not an HDF5 file or is truncated ({error}): make it again") from None
