"""Metrics of a sweep, collected over seeds, and their table."""

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..io.regular_file import check_regular, read_text
from .result_schema import MOST_DIGITS
from .results import COLUMNS, Result, rows

STAGES = ("network", "refined")
METRICS = {column.key: column for column in COLUMNS}


@dataclass(frozen=True)
class Point:
    """Metrics of one combination of values over its seeds.

    Attributes:
        method: name of the method that was varied.
        scan: name of the scan that was reconstructed, before its own variation.
        stage: ``network`` or ``refined``.
        values: name of each setting's value, without seeds.
        seeds: number of results.
        mean: of each metric over seeds; None where any lacks it.
        std: standard deviation of each metric over seeds; None for one seed or where any lacks it.
    """

    method: str
    scan: str
    stage: str
    values: dict[str, str]
    seeds: int
    mean: dict[str, float | None]
    std: dict[str, float | None]


def collect(results: Sequence[Result], combinations: Sequence[dict]) -> list[Point]:
    """Return the points of a sweep, in the order of its combinations.

    Args:
        results: metrics of all reconstructions of the sweep.
        combinations: ``base`` (method varied), ``method``, ``scans`` (reconstructed scan by scan varied) and ``values``
            of each.

    Raises:
        ValueError: if the metrics of a combination are not among the results.
    """
    by_name = {(result.method, result.scan): result for result in results}
    points: dict[tuple, dict[tuple, dict]] = {}
    for combination in combinations:
        values = {key: name for key, name in combination["values"].items() if not key.endswith(".seed")}
        for scan, varied in combination["scans"].items():
            name = (combination["method"], varied)
            if name not in by_name:
                raise ValueError(
                    f"metrics of {'/'.join(name)} not found among the results: evaluate it, or give its metrics file"
                )
            for row in rows([by_name[name]]):
                if row["stage"] in STAGES:
                    key = (combination["base"], scan, row["stage"], tuple(values.items()))
                    points.setdefault(key, {})[name] = row
    return [_point(method, scan, stage, dict(v), list(of.values())) for (method, scan, stage, v), of in points.items()]


def _point(method: str, scan: str, stage: str, values: dict[str, str], table: list[dict]) -> Point:
    columns = {metric: [row[metric] for row in table] for metric in METRICS}
    complete = {metric: column for metric, column in columns.items() if None not in column}
    mean = {metric: statistics.mean(complete[metric]) if metric in complete else None for metric in METRICS}
    several = complete if len(table) > 1 else {}
    std = {metric: statistics.stdev(several[metric]) if metric in several else None for metric in METRICS}
    return Point(method, scan, stage, values, len(table), mean, std)


def sweep_table(points: Sequence[Point]) -> str:
    """Return the points as comma-separated text: mean and standard deviation of every metric, and number of seeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    columns = [name for metric in METRICS for name in (metric, f"{metric}_std")]
    writer.writerow(["method", "scan", "stage", *keys, "seeds", *columns])
    for point in points:
        numbers = [number for metric in METRICS for number in (point.mean[metric], point.std[metric])]
        writer.writerow(
            [point.method, point.scan, point.stage, *(point.values[k] for k in keys), point.seeds, *numbers]
        )
    return text.getvalue()


def read_sweep(path: Path) -> list[Point]:
    """Read the points of a table that :func:`sweep_table` made.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is not a table of a sweep.
    """
    check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"sweep table not found: {path}")
    text = read_text(path)
    try:
        table = csv.DictReader(text.splitlines())
        names = list(table.fieldnames or [])
        keys = names[names.index("stage") + 1 : names.index("seeds")]
        return [_read_point(row, keys) for row in table]
    except (ValueError, KeyError, TypeError, csv.Error):
        raise ValueError(f"{path} is not a sweep table: run `ptychoflow sweep` again") from None


def _read_point(row: dict[str, str], keys: Sequence[str]) -> Point:
    mean = {metric: _number(row[metric]) for metric in METRICS}
    std = {metric: _number(row[f"{metric}_std"]) for metric in METRICS}
    values = {key: row[key] for key in keys}
    return Point(row["method"], row["scan"], row["stage"], values, int(row["seeds"]), mean, std)


def _number(text: str) -> float | None:
    if text and not abs(float(text)) <= MOST_DIGITS:
        raise ValueError(f"expected a number of up to {MOST_DIGITS:g}, got {text[:20]}")
    return float(text) if text else None
