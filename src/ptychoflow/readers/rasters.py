"""Raster scans: positions and lengths from calibrated axes of a datacube, or from shape and step in the settings."""

from typing import Any

import numpy as np

from ..config import Raster
from ..core.units import factor, quantity_of
from .raw_scan import Measurement
from .scan_positions import Positions, positions_in

Step = tuple[float, str]
"""Step of a calibrated axis and its unit."""
EXPECTED = "1/nm, 1/angstrom, mrad or rad"


def raster_of_axes(y: Step | None, x: Step | None, counts: tuple[int, int], file: str) -> Positions:
    """Return the positions of a raster from the steps of its axes; an axis without a step takes that of the other.

    Axes without calibration are counted in scan steps, which are not object pixels.

    Args:
        y: step of the slow axis and its unit; None if it has no step.
        x: step of the fast axis and its unit.
        counts: rows and columns.
        file: name of the file in messages.
    """
    y, x = y or x or (1.0, ""), x or y or (1.0, "")
    values = _grid(counts, (y[0] or 1.0, x[0] or 1.0))
    if any(quantity_of(unit) in (None, "pixels") and not _is_unknown(unit) for _, unit in (y, x)):
        steps = f"the step is {y[0]:g}, {x[0]:g} (source.raster.step_m or a scale in source.keys gives it)"
        return Positions(values, problem=f"{file}: the scan axes are not calibrated, {steps}")
    return positions_in(values, y[1], x[1], f"{file}: scan axis")


def lengths_of_axes(y: Step | None, x: Step | None, side: int, file: str) -> tuple[dict[str, Any], list[str]]:
    """Return the lengths of a measurement from its diffraction axes, and why they could not be read.

    Args:
        y: step of the rows of a pattern and its unit.
        x: step of its columns and its unit.
        side: width of a pattern, px.
        file: name of the file in messages.

    Returns:
        The object pixel from reciprocal lengths; from angles the detector pixel at a distance of 1 m; from lengths the
        detector pixel.

    Raises:
        ValueError: if the steps differ.
    """
    step = x or y
    if step is None or step[0] == 0:
        return {}, []
    size, unit = step
    where = f"{file}: diffraction axis"
    if y is not None and (abs(y[0] / size - 1) > 1e-3 or y[1] != unit):
        raise ValueError(
            f"{where} steps are {y[0]:g} {y[1]} and {size:g} {unit}, expected equal ones: resample the patterns"
        )
    quantity = quantity_of(unit)
    if quantity == "reciprocal length":
        return {"pixel_size_m": 1 / (side * size * factor(unit, quantity, where))}, []
    if quantity == "angle":
        return {"detector_distance_m": 1.0, "detector_pixel_m": size * factor(unit, quantity, where)}, []
    if quantity == "length":
        return {"detector_pixel_m": size * factor(unit, quantity, where)}, []
    return {}, [f"{where} has the unit {unit!r}, expected one of {EXPECTED}"]


def raster_positions(measurement: Measurement, raster: Raster) -> Positions:
    """Return the positions of ``source.raster``, m; not finite in the columns of the flyback.

    Args:
        measurement: its shape is taken where the settings give none.
        raster: step, shape and flyback of the scan.

    Raises:
        ValueError: if the shape is not known or not that of the patterns.
    """
    shape, count = raster.shape or measurement.metadata.get("scan_shape"), len(measurement.patterns)
    if shape is None:
        raise ValueError(
            f"rows and columns of the scan not found for the {count} patterns: give them in source.raster.shape"
        )
    rows, columns = (int(side) for side in shape)
    if rows * columns != count:
        raise ValueError(
            f"got {count} patterns for a raster of {rows} x {columns}, expected {rows * columns}: correct "
            "source.raster.shape"
        )
    if raster.flyback_columns >= columns:
        raise ValueError(
            f"source.raster.flyback_columns is {raster.flyback_columns}, expected fewer than the {columns} columns"
        )
    step = raster.step_m if isinstance(raster.step_m, tuple) else (raster.step_m, raster.step_m)
    values = _grid((rows, columns), step)
    values.reshape(rows, columns, 2)[:, columns - raster.flyback_columns :] = np.nan
    return Positions(values)


def _grid(counts: tuple[int, int], steps: tuple[float, float]) -> np.ndarray:
    """Return the positions ``(y, x)`` of a raster row by row, ``(J, 2)``."""
    axes = (np.arange(count) * step for count, step in zip(counts, steps, strict=True))
    return np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=1)


def _is_unknown(unit: str) -> bool:
    return bool(unit) and quantity_of(unit) is None
