"""Measures of a sweep: collected over seeds, as a table and as a figure."""

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .results import COLUMNS, Result, rows

SHOWN = ("phase_psnr", "frc_truth", "frc_halves", "r_factor")
"""Measures drawn, where there are any."""
MOST_PANELS = 3
STYLES = {"network": "--", "refined": "-"}
COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#762a83", "#e08214", "#333333")
LOGARITHMIC_FROM = 8
"""Ratio of the greatest to the least value from which their axis is logarithmic."""


@dataclass(frozen=True)
class Point:
    """What one combination of values came to, over its seeds.

    Attributes:
        model: that was varied.
        scan: that was reconstructed, by the name it was varied from.
        stage: ``network`` or ``refined``.
        values: the name of each setting's value, seeds apart.
        rows: the measures, one row for each seed.
    """

    model: str
    scan: str
    stage: str
    values: dict[str, str]
    rows: list[dict]

    def mean(self, measure: str) -> float | None:
        """Mean over seeds, None where any lacks it."""
        found = [row[measure] for row in self.rows]
        return None if None in found else statistics.mean(found)

    def spread(self, measure: str) -> float | None:
        """Standard deviation over seeds, None for one seed or where any lacks the measure."""
        found = [row[measure] for row in self.rows]
        return None if None in found or len(found) < 2 else statistics.stdev(found)


def collect(results: Sequence[Result], combinations: Sequence[dict]) -> list[Point]:
    """The points of a sweep, in the order of its combinations.

    Raises:
        ValueError: if measures of a combination are not among the results.
    """
    by_name = {(result.model, result.scan): result for result in results}
    points: dict[tuple, dict[tuple, dict]] = {}
    for each in combinations:
        values = {key: name for key, name in each["values"].items() if not key.endswith(".seed")}
        for scan, varied in each["scans"].items():
            name = (each["model"], varied)
            if name not in by_name:
                raise ValueError(f"measures of {'/'.join(name)} belong to the sweep and were not given: give them")
            for row in rows([by_name[name]]):
                if row["stage"] in STYLES:
                    key = (each["base"], scan, row["stage"], tuple(values.items()))
                    points.setdefault(key, {})[name] = row
    return [Point(model, scan, stage, dict(v), list(of.values())) for (model, scan, stage, v), of in points.items()]


def sweep_table(points: Sequence[Point]) -> str:
    """The points for other programs, comma-separated: mean and spread of every measure, and over how many seeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    measures = [column.key for column in COLUMNS]
    spreads = [name for measure in measures for name in (measure, f"{measure}_spread")]
    writer.writerow(["model", "scan", "stage", *keys, "seeds", *spreads])
    for point in points:
        numbers = [number for measure in measures for number in (point.mean(measure), point.spread(measure))]
        writer.writerow(
            [point.model, point.scan, point.stage, *(point.values[k] for k in keys), len(point.rows), *numbers]
        )
    return text.getvalue()


def draw_sweep(points: Sequence[Point]) -> Figure:
    """A row for each scan, a column for each measure: the first setting along x, a line for the others."""
    scans = list(dict.fromkeys(point.scan for point in points))
    measures = [m for m in SHOWN if any(point.mean(m) is not None for point in points)][:MOST_PANELS]
    figure = Figure(figsize=(0.8 + 4.2 * len(measures), 0.8 + 3.2 * len(scans)), layout="constrained")
    panels = figure.subplots(len(scans), len(measures), squeeze=False)
    for axes, scan in zip(panels, scans, strict=True):
        for axis, measure in zip(axes, measures, strict=True):
            _panel(axis, [p for p in points if p.scan == scan and p.mean(measure) is not None], measure)
            axis.set_title(scan, fontsize=10)
    lines = {text: line for axis in panels.flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=min(len(lines), 4), frameon=False)
    return figure


def _panel(axis: Axes, points: Sequence[Point], measure: str) -> None:
    setting = next(iter(points[0].values), None) if points else None
    names = list(dict.fromkeys(point.values.get(setting, "") for point in points))
    numbers = _numbers(names)
    places = dict(zip(names, numbers or range(len(names)), strict=True))
    series: dict[tuple, list[Point]] = {}
    for point in points:
        others = (name for key, name in point.values.items() if key != setting)
        series.setdefault((point.model, *others, point.stage), []).append(point)
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(dict.fromkeys(key[:-1] for key in series))}
    for (*name, stage), line in series.items():
        axis.errorbar(
            [places[point.values.get(setting, "")] for point in line],
            [point.mean(measure) for point in line],
            [point.spread(measure) or 0 for point in line],
            fmt=("o" if numbers is None else "o" + STYLES[stage]),
            mfc="white" if stage == "network" else None,
            color=colours[tuple(name)],
            label=f"{', '.join(name)}, {stage}",
            ms=4,
            capsize=3,
        )
    axis.set(xlabel=setting or "", ylabel=next(column.heading for column in COLUMNS if column.key == measure))
    _scale(axis, names, numbers)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)


def _scale(axis: Axes, names: list[str], numbers: list[float] | None) -> None:
    if numbers is None:
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.5, len(names) - 0.5)
    elif min(numbers) > 0 and max(numbers) / min(numbers) >= LOGARITHMIC_FROM:
        axis.set_xscale("log")


def _numbers(names: Sequence[str]) -> list[float] | None:
    """The values as numbers, None where one of them is a word."""
    try:
        return [float(name) for name in names]
    except ValueError:
        return None
