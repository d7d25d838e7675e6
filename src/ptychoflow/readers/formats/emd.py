"""Reader of 4D-STEM in EMD files, of py4DSTEM and others: ``(scan y, scan x, q y, q x)``, each axis calibrated.

Positions follow from the steps of the scan axes, the object pixel from the steps of the diffraction axes; the
wavelength must be given in ``source.geometry``.
"""

from pathlib import Path

import numpy as np

from ...core.units import factor, quantity_of
from ...io.safe_hdf5 import Hdf5
from ..raw_scan import Measurement
from ..scan_positions import Positions, positions_in

DEEPEST = 6
EXPECTED = "1/nm, 1/angstrom, mrad or rad"


def is_emd(path: Path) -> bool:
    """Return True if a dataset of four dimensions has calibrated axes beside it."""
    with Hdf5(path) as file:
        return _datacube(file) is not None


def read_emd(path: Path, dataset: str | None = None) -> Measurement:
    """Read the first datacube of an EMD file, or the one at ``dataset``."""
    with Hdf5(path) as file:
        group = dataset.rpartition("/")[0] if dataset else _datacube(file)
        if group is None:
            raise ValueError(f"datacube of four dimensions not found in {path.name}: set source.dataset")
        name = dataset or f"{group}/data"
        rows, columns, _, side = file.dataset(name, (4,)).shape
        first = 0 if f"{group}/dim0" in file else 1  # dim0 to dim3 since EMD 1.0, dim1 to dim4 before
        steps = [_step(file, f"{group}/dim{first + axis}") for axis in range(4)]
        return Measurement(
            patterns=file.stack(name, (4,)),
            positions=_raster(steps[0], steps[1], (rows, columns), path),
            corner=None,
            radiation="electrons",
            name=path.stem,
            unread=file.unread,
            **_frequencies(file, steps[2], steps[3], side),
        )


def _datacube(file: Hdf5, group: str = "", depth: int = 0) -> str | None:
    """Find the first group that holds ``data`` of four dimensions with a ``dim`` beside it."""
    names = file.names(group or "/")
    if "data" in names and len(file.shape(f"{group}/data")) == 4 and {"dim1", "dim2"} & set(names):
        return group
    if depth == DEEPEST:
        return None
    return next(filter(None, (_datacube(file, f"{group}/{name}", depth + 1) for name in names)), None)


def _step(file: Hdf5, name: str) -> tuple[float, str] | None:
    """Read the step of a calibrated axis and its unit; None if the axis is missing or has one point."""
    if not file.shape(name) or file.shape(name)[0] < 2:
        return None
    values = file.array(name, 1)[:2].astype(np.float64)
    return abs(float(values[1] - values[0])), file.unit(name)


def _raster(y: tuple[float, str] | None, x: tuple[float, str] | None, counts: tuple[int, int], path: Path) -> Positions:
    """Return the positions of a raster from the steps of its axes; an axis of one point takes the step of the other.

    Axes without calibration are counted in scan steps, which are not object pixels.
    """
    y, x = y or x or (1.0, ""), x or y or (1.0, "")
    axes = (np.arange(count) * (step or 1.0) for count, (step, _) in zip(counts, (y, x)))
    values = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=1)
    if any(quantity_of(unit) in (None, "pixels") and not _is_unknown(unit) for _, unit in (y, x)):
        steps = f"the step is {y[0]:g}, {x[0]:g} (source.keys takes a scale)"
        return Positions(values, problem=f"{path.name}: the scan axes are not calibrated, {steps}")
    return positions_in(values, y[1], x[1], f"{path.name}: scan axis")


def _is_unknown(unit: str) -> bool:
    return bool(unit) and quantity_of(unit) is None


def _frequencies(file: Hdf5, y: tuple[float, str] | None, x: tuple[float, str] | None, side: int) -> dict:
    """Return the lengths from the diffraction axes: object pixel, or from angles detector pixel over distance."""
    step = x or y
    if step is None or step[0] == 0:
        return {}
    size, unit = step
    where = f"{file.path.name}: diffraction axis"
    if y is not None and (abs(y[0] / size - 1) > 1e-3 or y[1] != unit):
        raise ValueError(
            f"{where} steps are {y[0]:g} {y[1]} and {size:g} {unit}, expected equal ones: resample the patterns"
        )
    quantity = quantity_of(unit)
    if quantity == "reciprocal length":
        return {"pixel_size_m": 1 / (side * size * factor(unit, quantity, where))}
    if quantity == "angle":
        return {"detector_distance_m": 1.0, "detector_pixel_m": size * factor(unit, quantity, where)}
    if quantity == "length":
        return {"detector_pixel_m": size * factor(unit, quantity, where)}
    file.unread.append(f"{where} has the unit {unit!r}, expected one of {EXPECTED}")
    return {}
