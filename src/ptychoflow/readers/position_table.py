"""Positions in files of their own: text tables and npy arrays."""

import csv
from pathlib import Path
from typing import Literal

import numpy as np

from ..io.npz_archive import open_npy

LARGEST_TEXT = 1 << 28
TEXTS = (".txt", ".csv", ".dat", ".tsv")


def read_position_table(path: Path) -> tuple[np.ndarray, Literal["m", "px"]]:
    """Read positions ``(y, x)``, ``(J, 2)``, from a text or npy file; their unit is metres.

    The columns named ``y`` and ``x`` (also ``y_m``, ``Y (m)``) are taken; without names they are ``y, x`` in ``.csv``
    files and ``x y`` in other texts, as in ptychodus. Lines that begin with ``#`` are comments. An npy array is
    ``(J, 2)``, ``y, x``.

    Raises:
        ValueError: if it is not a table of two numbers a row.
    """
    if path.suffix == ".npy":
        array = open_npy(path)
        if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "uif":
            raise ValueError(f"{path.name} is {array.dtype} {array.shape}, expected real (patterns, 2), y and x")
        return np.asarray(array, np.float64), "m"
    if path.stat().st_size > LARGEST_TEXT:
        raise ValueError(
            f"{path.name} is {path.stat().st_size >> 20} MiB of text, expected a position table of at most "
            f"{LARGEST_TEXT >> 20} MiB: correct source.positions"
        )
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not a text file ({error}): correct source.positions") from None
    lines = [line for line in lines if line]
    names = _names(_cells(lines[0].lstrip("# "))) if lines else []
    rows = [_cells(line) for line in lines[1 if names else 0 :] if not line.startswith("#")]
    y, x = _columns(names, path)
    try:
        return np.array([[float(row[y]), float(row[x])] for row in rows], np.float64).reshape(-1, 2), "m"
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path.name} is not a position table ({error}): expected two numbers a row") from None


def _cells(line: str) -> list[str]:
    """Split a line at commas, semicolons, tabs or white space."""
    delimiter = next((mark for mark in ",;\t" if mark in line), None)
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))] if delimiter else line.split()


def _names(cells: list[str]) -> list[str]:
    """Return column names without their units, lower case; none where the line holds numbers."""
    names = [cell.lower().split("(")[0].split("[")[0].strip().removesuffix("_m") for cell in cells]
    return names if {"y", "x"} <= set(names) else []


def _columns(names: list[str], path: Path) -> tuple[int, int]:
    if names:
        return names.index("y"), names.index("x")
    return (0, 1) if path.suffix == ".csv" else (1, 0)
