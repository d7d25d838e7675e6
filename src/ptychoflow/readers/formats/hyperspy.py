"""Reader of HyperSpy's ``.hspy``: signals with calibrated axes in HDF5."""

from pathlib import Path
from typing import Any

from ...core.units import plain_text
from ...io.safe_hdf5 import Hdf5
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


def read_hspy(path: Path, dataset: str | None = None) -> Measurement:
    """Read the first signal of 3 or 4 dimensions, or the one whose data are at ``dataset``.

    Raises:
        ValueError: if the file has none.
    """
    with Hdf5(path) as file:
        group = dataset.rpartition("/")[0] if dataset else _signal(file)
        if group is None:
            raise ValueError(f"signal of 3 or 4 dimensions not found in {path.name}: set source.dataset")
        name = f"{group}/data"
        shape = file.dataset(name, (3, 4)).shape
        steps = [_step(file, f"{group}/axis-{axis}", size) for axis, size in enumerate(shape)]
        lengths, unread = lengths_of_axes(steps[-2], steps[-1], shape[-1], path.name)
        is_raster = len(shape) == 4
        return Measurement(
            patterns=file.stack(name, (3, 4)),
            positions=raster_of_axes(steps[0], steps[1], shape[:2], path.name) if is_raster else None,
            corner=None,
            radiation="electrons",
            name=path.stem,
            unread=[*file.unread, *unread],
            metadata={"scan_shape": list(shape[:2])} if is_raster else {},
            **_instrument(file, group) | lengths,
        )


def _signal(file: Hdf5) -> str | None:
    """Return the group of the first signal of patterns."""
    groups = (f"Experiments/{name}" for name in file.names("Experiments"))
    return next((group for group in groups if len(file.shape(f"{group}/data")) in (3, 4)), None)


def _step(file: Hdf5, axis: str, size: int) -> Step | None:
    """Return the step of an axis and its unit; None for an axis of one point, or of no uniform step."""
    scale = file.attribute_numbers(axis).get("scale")
    if size < 2 or not scale:
        return None
    unit = plain_text(file.attribute(axis, "units"))
    return abs(scale), "" if unit.startswith(("_None_", "<")) else unit.replace("$", "")


def _instrument(file: Hdf5, group: str) -> dict[str, Any]:
    numbers = file.attribute_numbers(f"{group}/{MICROSCOPE}")
    return {name: numbers[key] * unit for name, (key, unit) in PLACES.items() if numbers.get(key, 0) > 0}
