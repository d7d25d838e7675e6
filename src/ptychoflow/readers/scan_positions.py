"""Positions as a file holds them: two axes or a table; numbers and unit stay apart until ``source`` has decided."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..core.units import UnknownUnitError, factor, quantity_of

REMEDY = "set source.position_unit to m, mm, um, nm or px"
_WORD = (
    r"(?:(?:pos(?:ition)?s?|coord(?:inate)?s?|motor|sam(?:ple)?|stage|scan|probe|piezo|pzt|fine|enc(?:oder)?)[\W_]*)"
)
AXIS_NAME = re.compile(rf"(?:{_WORD}+|pp|[spdtm][\W_]*)?([yx])(?:[\W_]*(?:{_WORD}|m|um|mm|nm|px|start|readback|rbv))*")
"""Names of scan axes, as far as they follow the habits of beamlines."""


@dataclass(frozen=True)
class Positions:
    """Positions of the patterns.

    Attributes:
        values: ``(y, x)`` of each pattern, numbers as in the file, ``(J, 2)``.
        unit: of the values after ``scale``: metres or object pixels of the uncut patterns.
        scale: factors of y and x from the numbers in the file to ``unit``.
        problem: why the unit is not known; empty where it is.
    """

    values: np.ndarray
    unit: Literal["m", "px"] = "m"
    scale: tuple[float, float] = (1.0, 1.0)
    problem: str = ""

    def __len__(self) -> int:
        return len(self.values)

    def scaled(self, unit: str = "auto") -> "Positions":
        """Return the positions in metres or pixels.

        Args:
            unit: of the numbers in the file, as ``source.position_unit``; ``auto`` takes what the file says.

        Raises:
            ValueError: if neither says it; the message names the setting.
        """
        values = np.asarray(self.values, np.float64)
        if unit == "px":
            return Positions(values, "px")
        if unit != "auto":
            return Positions(values * factor(unit, "length", "source.position_unit"))
        if self.problem:
            raise ValueError(f"{self.problem}: {REMEDY}")
        return Positions(values * self.scale, self.unit)


def positions_in(values: np.ndarray, y_unit: str, x_unit: str, where: str) -> Positions:
    """Return positions whose axes have units by name, which may differ, or be unknown.

    Args:
        values: ``(y, x)``, ``(J, 2)``.
        y_unit: unit of y; an empty one is metres.
        x_unit: unit of x.
        where: name of the positions in messages.
    """
    units = (y_unit, x_unit)
    kinds = {quantity_of(unit) == "pixels" for unit in units}
    if len(kinds) == 2:
        return Positions(values, problem=f"{where} has the units {y_unit!r} of y and {x_unit!r} of x")
    if kinds == {True}:
        return Positions(values, "px")
    try:
        y, x = (factor(unit, "length", where) for unit in units)
    except UnknownUnitError as error:
        return Positions(values, problem=str(error))
    return Positions(values, scale=(y, x))


def pair_axes(y: np.ndarray, x: np.ndarray, count: int) -> np.ndarray | None:
    """Pair the axes of a scan of ``count`` patterns, ``(J, 2)``: one value a pattern, or the axes of a raster.

    Args:
        y: slow axis, of any shape.
        x: fast axis, of any shape.
        count: number of patterns.

    Returns:
        Positions ``(y, x)``; None if the lengths suit neither one another nor a raster of so many patterns.
    """
    y, x = (np.asarray(axis, np.float64).ravel() for axis in (y, x))
    if len(y) * len(x) == count and not len(y) == len(x) == count:
        y, x = (grid.ravel() for grid in np.meshgrid(y, x, indexing="ij"))
    return np.stack([y, x], axis=1) if len(y) == len(x) else None


def table_columns(table: np.ndarray, count: int) -> np.ndarray:
    """Return a table with one row a pattern, ``(J, columns)``, that may stand as rows or as columns."""
    lying = table.shape[0] in (2, 3) and (table.shape[1] == count or table.shape[1] > 3) and table.shape[0] != count
    return table.T if lying else table


def axis_of(name: str) -> str:
    """Return ``y`` or ``x`` where a name is that of a scan axis: ``Y``, ``pos_x``, ``samy``, ``xcoords``; else ''."""
    match = AXIS_NAME.fullmatch(name.strip().lower())
    return next(group for group in match.groups() if group) if match else ""
