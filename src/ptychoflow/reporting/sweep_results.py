"""Measures of a sweep, collected over seeds, and their table."""

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .results import COLUMNS, Result, rows

STAGES = ("network", "refined")
MEASURES = {column.key: column for column in COLUMNS}


@dataclass(frozen=True)
class Point:
    """What one combination of values came to, over its seeds.

    Attributes:
        method: that was varied.
        scan: that was reconstructed, by the name it was varied from.
        stage: ``network`` or ``refined``.
        values: the name of each setting's value, seeds apart.
        seeds: how many results it is the mean of.
        mean: of each measure over seeds, None where any lacks it.
        spread: its standard deviation over seeds, None for one seed or where any lacks the measure.
    """

    method: str
    scan: str
    stage: str
    values: dict[str, str]
    seeds: int
    mean: dict[str, float | None]
    spread: dict[str, float | None]


def collect(results: Sequence[Result], combinations: Sequence[dict]) -> list[Point]:
    """The points of a sweep, in the order of its combinations.

    Raises:
        ValueError: if measures of a combination are not among the results.
    """
    by_name = {(result.method, result.scan): result for result in results}
    points: dict[tuple, dict[tuple, dict]] = {}
    for each in combinations:
        values = {key: name for key, name in each["values"].items() if not key.endswith(".seed")}
        for scan, varied in each["scans"].items():
            name = (each["method"], varied)
            if name not in by_name:
                raise ValueError(f"measures of {'/'.join(name)} belong to the sweep and were not given: give them")
            for row in rows([by_name[name]]):
                if row["stage"] in STAGES:
                    key = (each["base"], scan, row["stage"], tuple(values.items()))
                    points.setdefault(key, {})[name] = row
    return [_point(method, scan, stage, dict(v), list(of.values())) for (method, scan, stage, v), of in points.items()]


def _point(method: str, scan: str, stage: str, values: dict[str, str], each: list[dict]) -> Point:
    columns = {measure: [row[measure] for row in each] for measure in MEASURES}
    whole = {measure: found for measure, found in columns.items() if None not in found}
    mean = {measure: statistics.mean(whole[measure]) if measure in whole else None for measure in MEASURES}
    several = whole if len(each) > 1 else {}
    spread = {measure: statistics.stdev(whole[measure]) if measure in several else None for measure in MEASURES}
    return Point(method, scan, stage, values, len(each), mean, spread)


def sweep_table(points: Sequence[Point]) -> str:
    """The points for other programs, comma-separated: mean and spread of every measure, and over how many seeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    spreads = [name for measure in MEASURES for name in (measure, f"{measure}_spread")]
    writer.writerow(["method", "scan", "stage", *keys, "seeds", *spreads])
    for point in points:
        numbers = [number for measure in MEASURES for number in (point.mean[measure], point.spread[measure])]
        writer.writerow(
            [point.method, point.scan, point.stage, *(point.values[k] for k in keys), point.seeds, *numbers]
        )
    return text.getvalue()


def read_sweep(path: Path) -> list[Point]:
    """The points of a table that :func:`sweep_table` made.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is no such table.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no table of a sweep {path}")
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        names = list(table.fieldnames or [])
        try:
            keys = names[names.index("stage") + 1 : names.index("seeds")]
            return [_read(row, keys) for row in table]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{path} is no table of a sweep: run `ptychoflow sweep` again") from None


def _read(row: dict[str, str], keys: Sequence[str]) -> Point:
    mean = {measure: float(row[measure]) if row[measure] else None for measure in MEASURES}
    told = {measure: row[f"{measure}_spread"] for measure in MEASURES}
    spread = {measure: float(text) if text else None for measure, text in told.items()}
    values = {key: row[key] for key in keys}
    return Point(row["method"], row["scan"], row["stage"], values, int(row["seeds"]), mean, spread)
