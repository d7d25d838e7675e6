"""Positions in files of their own: text tables and npy arrays."""

import codecs
import csv
import re
from pathlib import Path

import numpy as np

from ..core.units import split_unit
from ..io.npz_archive import open_npy
from .scan_positions import Positions, axis_of, positions_in

LARGEST_TEXT = 1 << 28
TEXTS = (".txt", ".csv", ".dat", ".tsv")
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
SPACE_BEFORE_UNIT = re.compile(r"\s+(?=[(\[/])|(?<=/)\s+")


def read_position_table(path: Path) -> Positions:
    """Read positions ``(y, x)``, ``(J, 2)``, from a text or npy file.

    The columns named for y and x are taken, in the unit beside their names: ``y``, ``Y (um)``, ``pos_y [nm]``,
    ``y_mm``; without a unit they are metres. Without names columns are ``y, x`` in ``.csv`` files and ``x y`` in other
    texts, as in ptychodus. Lines that begin with ``#`` are comments, one of which may name the columns. An npy array is
    ``(J, 2)``, ``y, x``, m.

    Raises:
        ValueError: if it is not a table of two numbers a row, or names its columns, but not y and x.
    """
    if path.suffix.lower() == ".npy":
        array = open_npy(path)
        if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "uif":
            raise ValueError(f"{path.name} is {array.dtype} {array.shape}, expected real (patterns, 2), y and x")
        return Positions(np.asarray(array, np.float64))
    lines = [line for line in (line.strip() for line in _read_text(path).splitlines()) if line]
    names, head = _find_head(lines)
    rows = [_cells(text) for text in lines[head:] if not text.startswith("#")]
    if not names and rows and not any(_is_number(cell) for cell in rows[0]):
        listed = ", ".join(repr(cell) for cell in rows[0])
        raise ValueError(f"{path.name} has the columns {listed}, expected some named y and x: rename those")
    columns = [axis_of(split_unit(name)[0]) for name in names]
    y, x = (columns.index("y"), columns.index("x")) if names else (0, 1) if path.suffix == ".csv" else (1, 0)
    try:
        values = np.array([[_number(row[y]), _number(row[x])] for row in rows], np.float64).reshape(-1, 2)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path.name} is not a position table ({error}): expected two numbers a row") from None
    y_unit, x_unit = (split_unit(names[column])[1] for column in (y, x)) if names else ("", "")
    return positions_in(values, y_unit, x_unit, f"{path.name}: head")


def _read_text(path: Path) -> str:
    """Return the text of a table, in UTF-8, UTF-16 with its mark, or Latin-1, as spreadsheets write them."""
    if path.stat().st_size > LARGEST_TEXT:
        raise ValueError(
            f"{path.name} is {path.stat().st_size >> 20} MiB of text, expected a position table of at most "
            f"{LARGEST_TEXT >> 20} MiB: correct source.positions"
        )
    content = path.read_bytes()
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content:
        raise ValueError(f"{path.name} is not a text file: correct source.positions")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _find_head(lines: list[str]) -> tuple[list[str], int]:
    """Return the column names among the comments and the first other line, and the index of the first row."""
    for index, line in enumerate(lines):
        names = _cells(SPACE_BEFORE_UNIT.sub("", line.lstrip("# \t")))
        if {axis_of(split_unit(name)[0]) for name in names} >= {"y", "x"}:
            return names, index + 1
        if not line.startswith("#"):
            break
    return [], 0


def _cells(line: str) -> list[str]:
    """Split a line at semicolons, tabs, commas or white space; a comma between digits may be a decimal one."""
    delimiter = next((mark for mark in ";\t," if mark in line), None)
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))] if delimiter else line.split()


def _number(cell: str) -> float:
    return float(cell.replace(",", "."))


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True
