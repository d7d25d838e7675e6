"""Charts of a sweep, for the figure file and for the report page."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from .matplotlib_charts import plot_chart
from .svg_charts import Chart, Series
from .sweep_results import METRICS, STAGES, Point

SHOWN = ("phase_psnr", "frc_truth", "frc_halves", "r_factor")
"""Metrics drawn, where they are defined, in order of preference."""
MOST_PANELS = 3
MOST_TICKS = 6
"""Values of a setting up to which each has its tick."""
LOGARITHMIC_FROM = 8
"""Ratio of the greatest to the least value from which an axis is logarithmic."""
IN_DECIBELS = ("phase_psnr", "amplitude_psnr")
"""Metrics in dB, which are always drawn on a linear axis."""
APART = 0.12
"""Distance of points above the same value name, as a fraction of the distance of two names."""
SETTINGS = {
    "simulation.photons_per_pattern": "photons per pattern",
    "train_on": "training scans",
    "training.stages": "training",
    "training.groups_per_epoch": "groups per epoch",
}
"""Axis labels of settings whose last part of the key is not clear alone."""
UNITS = {"percent": "%", "px": "px", "m": "m", "ev": "eV", "rad": "rad"}
"""Unit by the last word of a key."""


@dataclass(frozen=True)
class Line:
    """Points that differ only in the first setting, drawn as one line.

    Attributes:
        name: method, values of the other settings, stage.
        stage: ``network`` or ``refined``.
        colour: number of the colour; the stages of a method share it.
        points: in order of the sweep.
    """

    name: str
    stage: str
    colour: int
    points: list[Point]


def metrics_shown(points: Sequence[Point]) -> list[str]:
    """Return the metrics to draw: the first :data:`MOST_PANELS` of :data:`SHOWN` that any point has."""
    return [m for m in SHOWN if any(point.mean[m] is not None for point in points)][:MOST_PANELS]


def lines(points: Sequence[Point], metric: str) -> list[Line]:
    """Group the points that have a metric into lines: the first setting is along x, the others distinguish lines."""
    series: dict[tuple, list[Point]] = {}
    for point in points:
        if point.mean[metric] is not None:
            _, *others = point.values.values() or [""]
            series.setdefault((point.method, *others, point.stage), []).append(point)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(key[:-1] for key in series))}
    return [Line(", ".join(key), key[-1], numbers[key[:-1]], found) for key, found in series.items()]


def along(points: Sequence[Point]) -> tuple[str, list[str], list[float] | None]:
    """Return the setting along x, the names of its values, and the values as numbers; None where one is a word."""
    setting = next(iter(points[0].values), "") if points else ""
    names = list(dict.fromkeys(point.values.get(setting, "") for point in points))
    try:
        return setting, names, [float(name) for name in names]
    except ValueError:
        return setting, names, None


def is_logarithmic(numbers: Sequence[float]) -> bool:
    """Return True if numbers belong on a logarithmic axis."""
    return min(numbers) > 0 and max(numbers) / min(numbers) >= LOGARITHMIC_FROM


def metric_is_logarithmic(points: Sequence[Point], metric: str) -> bool:
    """Return True if the values of a metric belong on a logarithmic axis."""
    values = [mean for point in points if (mean := point.mean[metric]) is not None]
    return metric not in IN_DECIBELS and bool(values) and is_logarithmic(values)


def x_coordinates(line: Line, number: int, of: int, names: list[str], numbers: list[float] | None) -> list[float]:
    """Return the x coordinates of the points of a line; above a value name the lines are side by side.

    Args:
        line: the line.
        number: its number among the lines.
        of: number of lines.
        names: names of the values.
        numbers: the values; None where one is a word.
    """
    setting = next(iter(line.points[0].values), "")
    indices = [names.index(point.values.get(setting, "")) for point in line.points]
    return [n + APART * (number - (of - 1) / 2) for n in indices] if numbers is None else [numbers[n] for n in indices]


def setting_name(key: str) -> str:
    """Return the axis label of a setting: ``overlap (%)`` for ``simulation.trajectory.overlap_percent``."""
    if key in SETTINGS:
        return SETTINGS[key]
    words = key.rpartition(".")[2].split("_")
    unit = UNITS.get(words[-1]) if len(words) > 1 else None
    return f"{' '.join(words[:-1])} ({unit})" if unit else " ".join(words)


def draw_sweep(points: Sequence[Point]) -> Figure:
    """Draw a sweep: a row for each scan, a column for each metric."""
    scans, metrics = list(dict.fromkeys(point.scan for point in points)), metrics_shown(points)
    figure = Figure(figsize=(0.4 + 3.4 * len(metrics), 0.6 + 2.9 * len(scans)), layout="constrained")
    panels = figure.subplots(len(scans), len(metrics), squeeze=False)
    for axes, scan in zip(panels, scans, strict=True):
        for axis, metric in zip(axes, metrics, strict=True):
            plot_chart(axis, _chart([point for point in points if point.scan == scan], metric, scan))
            axis.set_title(scan if len(scans) > 1 else "", fontsize=10)
    named = {text: line for axis in panels.flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=min(len(named), 4), frameon=False)
    return figure


def sweep_section(name: str, points: Sequence[Point]) -> dict:
    """Return a sweep for the page: caption, charts, and a table of mean and standard deviation."""
    metrics = metrics_shown(points)
    scans = list(dict.fromkeys(point.scan for point in points))
    return {
        "name": name.replace("_", " "),
        "caption": _caption(points),
        "charts": [_chart([p for p in points if p.scan == scan], m, scan) for scan in scans for m in metrics],
        "columns": [
            *(setting_name(key) for key in points[0].values),
            *(METRICS[metric].heading for metric in metrics),
        ],
        "rows": [_cells(point, metrics) for point in points],
    }


def _caption(points: Sequence[Point]) -> str:
    seeds = [point.seeds for point in points]
    least, most = min(seeds), max(seeds)
    over = f"over {most} seeds" if least == most else f"over up to {most} seeds"
    text = f"Mean {over}; error bars are one standard deviation." if most > 1 else "One seed each."
    both = {point.stage for point in points} == set(STAGES)
    return text + (" Dashed: network; solid: refined." if both else "")


def _chart(points: Sequence[Point], metric: str, scan: str) -> Chart:
    setting, names, numbers = along(points)
    drawn = lines(points, metric)
    series = [
        Series(
            line.name,
            x_coordinates(line, number, len(drawn), names, numbers),
            [point.mean[metric] for point in line.points],
            line.colour,
            dashed=line.stage == "network",
            dots=True,
            joined=numbers is not None,
            std=[point.std[metric] for point in line.points],
        )
        for number, line in enumerate(drawn)
    ]
    heading = METRICS[metric].heading
    return Chart(
        f"{scan}: {heading}",
        setting_name(setting),
        heading,
        series,
        logarithmic=metric_is_logarithmic(points, metric),
        x_logarithmic=numbers is not None and is_logarithmic(numbers),
        x_names=names if numbers is None else (),
        x_ticks=numbers if numbers is not None and len(numbers) <= MOST_TICKS and not is_logarithmic(numbers) else (),
        x_limits=(-0.5, len(names) - 0.5) if numbers is None else None,
    )


def _cells(point: Point, metrics: Sequence[str]) -> dict:
    """Return a row of the table: the values of the point, then mean and standard deviation of each metric."""
    cells = [point.values[key] for key in point.values]
    for metric in metrics:
        mean, std, digits = point.mean[metric], point.std[metric], METRICS[metric].digits
        cells.append("–" if mean is None else f"{mean:{digits}}" + (f" ± {std:{digits}}" if std else ""))
    return {"scan": point.scan, "method": f"{point.method}, {point.stage}", "seeds": point.seeds, "cells": cells}
