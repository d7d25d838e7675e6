"""Readers of HyperSpy's ``.hspy`` and ``.zspy``: signals with calibrated axes in HDF5 and in Zarr."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.units import plain_text
from ...io.lazy_stack import Stack
from ...io.safe_hdf5 import Hdf5
from ...io.zarr_store import ZarrStore, is_zarr
from ..rasters import Step, lengths_of_axes, raster_of_axes
from ..raw_scan import Measurement

MICROSCOPE = "metadata/Acquisition_instrument/TEM"
PLACES = {
    "energy_ev": ("beam_energy", 1e3),
    "aperture_rad": ("convergence_angle", 1e-3),
    "detector_distance_m": ("camera_length", 1e-3),
}
"""Attributes of the microscope, and factors from keV, mrad and mm."""


def is_hspy(path: Path) -> bool:
    """Return True if a file holds a signal of HyperSpy with patterns."""
    with Hdf5(path) as file:
        return _signal(file) is not None


def is_zspy(path: Path) -> bool:
    """Return True for a folder of HyperSpy's Zarr format."""
    return path.suffix.lower() == ".zspy" and is_zarr(path)


def read_hspy(path: Path, dataset: str | None = None) -> Measurement:
    """Read the first signal of 3 or 4 dimensions, or the one whose data are at ``dataset``.

    Raises:
        ValueError: if the file has none.
    """
    with Hdf5(path) as file:
        group = _group(path, file, dataset)
        file.dataset(f"{group}/data", (3, 4))
        shape = file.shape(f"{group}/data")
        units = [plain_text(file.attribute(axis, "units")) if axis in file else "" for axis in _axes(group, shape)]
        numbers = {name: file.attribute_numbers(name) for name in (*_axes(group, shape), f"{group}/{MICROSCOPE}")}
        return _measurement(path, group, shape, file.stack(f"{group}/data", (3, 4)), units, numbers, file.unread)


def read_zspy(path: Path, dataset: str | None = None) -> Measurement:
    """Read the first signal of 3 or 4 dimensions of a Zarr folder, or the one whose data are at ``dataset``.

    Raises:
        ValueError: if it has none, or Zarr is not installed.
    """
    store = ZarrStore(path)
    group = _group(path, store, dataset)
    shape = store.shape(f"{group}/data")
    units = [plain_text(store.attributes(axis).get("units")) for axis in _axes(group, shape)]
    numbers = {name: store.numbers(name) for name in (*_axes(group, shape), f"{group}/{MICROSCOPE}")}
    return _measurement(path, group, shape, store.stack(f"{group}/data"), units, numbers, ())


def _group(path: Path, file: Hdf5 | ZarrStore, dataset: str | None) -> str:
    group = dataset.strip("/").rpartition("/")[0] if dataset else _signal(file)
    if group is None:
        raise ValueError(f"signal of 3 or 4 dimensions not found in {path.name}: set source.dataset")
    return group


def _signal(file: Hdf5 | ZarrStore) -> str | None:
    """Return the group of the first signal of patterns."""
    groups = (f"Experiments/{name}" for name in file.names("Experiments"))
    return next((group for group in groups if len(file.shape(f"{group}/data")) in (3, 4)), None)


def _axes(group: str, shape: Sequence[int]) -> list[str]:
    return [f"{group}/axis-{axis}" for axis in range(len(shape))]


def _measurement(
    path: Path,
    group: str,
    shape: tuple[int, ...],
    patterns: Stack,
    units: Sequence[str],
    numbers: dict[str, dict[str, float]],
    unread: Sequence[str],
) -> Measurement:
    """Return the measurement of a signal from the attributes of its axes and of the microscope."""
    steps = [
        _step(numbers[axis].get("scale"), unit, size) for axis, unit, size in zip(_axes(group, shape), units, shape)
    ]
    lengths, missing = lengths_of_axes(steps[-2], steps[-1], shape[-1], path.name)
    scan = (shape[0], shape[1]) if len(shape) == 4 else None
    return Measurement(
        patterns=patterns,
        positions=None if scan is None else raster_of_axes(steps[0], steps[1], scan, path.name),
        corner=None,
        radiation="electrons",
        name=path.stem,
        unread=[*unread, *missing],
        metadata={} if scan is None else {"scan_shape": list(scan)},
        **_instrument(numbers[f"{group}/{MICROSCOPE}"]) | lengths,
    )


def _step(scale: float | None, unit: str, size: int) -> Step | None:
    """Return the step of an axis and its unit; None for an axis of one point, or of no uniform step."""
    if size < 2 or not scale:
        return None
    return abs(scale), "" if unit.startswith(("_None_", "<")) else unit.replace("$", "")


def _instrument(numbers: dict[str, float]) -> dict[str, Any]:
    return {name: numbers[key] * unit for name, (key, unit) in PLACES.items() if numbers.get(key, 0) > 0}
