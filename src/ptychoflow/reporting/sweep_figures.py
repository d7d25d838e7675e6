"""What a sweep looks like: its points as lines, drawn as a figure for a paper and as charts for the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .svg_charts import Chart, Series
from .sweep_results import MEASURES, STAGES, Point

SHOWN = ("phase_psnr", "frc_truth", "frc_halves", "r_factor")
"""Measures drawn, where there are any."""
MOST_PANELS = 3
STYLES = {"network": "--", "refined": "-"}
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#a0529a", "#333333", "#8a929c")
LOGARITHMIC_FROM = 8
"""Ratio of the greatest to the least value from which their axis is logarithmic."""
IN_DECIBELS = ("phase_psnr", "amplitude_psnr")
"""Measures that are logarithms already."""
APART = 0.12
"""Between points above the same word, in the distance of two words."""
SETTINGS = {
    "simulation.photons_per_pattern": "photons per pattern",
    "train_on": "training scans",
    "training.stages": "training",
    "training.groups_per_epoch": "groups per epoch",
}
"""Names of settings on an axis, where the last part of the key is not enough."""
UNITS = {"percent": "%", "px": "px", "m": "m", "ev": "eV", "rad": "rad"}
"""What the last part of a key says of its unit."""


@dataclass(frozen=True)
class Line:
    """Points that differ in the first setting only, drawn in one colour.

    Attributes:
        name: the method, the values of its other settings, the stage.
        stage: ``network`` or ``refined``.
        colour: its number, which the stages of a method share.
        points: in the order of the sweep.
    """

    name: str
    stage: str
    colour: int
    points: list[Point]


def measures_shown(points: Sequence[Point]) -> list[str]:
    """The measures worth a panel, of those that there are."""
    return [m for m in SHOWN if any(point.mean[m] is not None for point in points)][:MOST_PANELS]


def lines(points: Sequence[Point], measure: str) -> list[Line]:
    """The points that have a measure, as what is drawn: the first setting runs along, the others tell lines apart."""
    series: dict[tuple, list[Point]] = {}
    for point in points:
        if point.mean[measure] is not None:
            _, *others = point.values.values() or [""]
            series.setdefault((point.method, *others, point.stage), []).append(point)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(key[:-1] for key in series))}
    return [Line(", ".join(key), key[-1], numbers[key[:-1]], found) for key, found in series.items()]


def along(points: Sequence[Point]) -> tuple[str, list[str], list[float] | None]:
    """What runs along x: the setting, the names of its values, and these as numbers unless one of them is a word."""
    setting = next(iter(points[0].values), "") if points else ""
    names = list(dict.fromkeys(point.values.get(setting, "") for point in points))
    try:
        return setting, names, [float(name) for name in names]
    except ValueError:
        return setting, names, None


def logarithmic(numbers: Sequence[float]) -> bool:
    """Whether numbers belong on a logarithmic axis."""
    return min(numbers) > 0 and max(numbers) / min(numbers) >= LOGARITHMIC_FROM


def measure_logarithmic(points: Sequence[Point], measure: str) -> bool:
    """Whether the values of a measure belong on a logarithmic axis."""
    found = [point.mean[measure] for point in points if point.mean[measure] is not None]
    return measure not in IN_DECIBELS and bool(found) and logarithmic(found)


def places(line: Line, number: int, of: int, names: list[str], numbers: list[float] | None) -> list[float]:
    """Where the points of a line lie along x; above a word the lines stand side by side."""
    setting = next(iter(line.points[0].values), "")
    here = [names.index(point.values.get(setting, "")) for point in line.points]
    return [n + APART * (number - (of - 1) / 2) for n in here] if numbers is None else [numbers[n] for n in here]


def setting_name(key: str) -> str:
    """A setting as an axis names it, with its unit: ``overlap (%)`` for ``simulation.trajectory.overlap_percent``."""
    if key in SETTINGS:
        return SETTINGS[key]
    words = key.rpartition(".")[2].split("_")
    unit = UNITS.get(words[-1]) if len(words) > 1 else None
    return f"{' '.join(words[:-1])} ({unit})" if unit else " ".join(words)


def draw_sweep(points: Sequence[Point]) -> Figure:
    """A row for each scan, a column for each measure: the first setting along x, a line for the others."""
    scans, measures = list(dict.fromkeys(point.scan for point in points)), measures_shown(points)
    figure = Figure(figsize=(0.4 + 3.4 * len(measures), 0.6 + 2.9 * len(scans)), layout="constrained")
    panels = figure.subplots(len(scans), len(measures), squeeze=False)
    for axes, scan in zip(panels, scans, strict=True):
        for axis, measure in zip(axes, measures, strict=True):
            _panel(axis, [point for point in points if point.scan == scan], measure)
            axis.set_title(scan if len(scans) > 1 else "", fontsize=10)
    named = {text: line for axis in panels.flat for line, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=min(len(named), 4), frameon=False)
    return figure


def _panel(axis: Axes, points: Sequence[Point], measure: str) -> None:
    setting, names, numbers = along(points)
    drawn = lines(points, measure)
    for number, line in enumerate(drawn):
        axis.errorbar(
            places(line, number, len(drawn), names, numbers),
            [point.mean[measure] for point in line.points],
            [point.spread[measure] or 0 for point in line.points],
            fmt="o" if numbers is None else "o" + STYLES[line.stage],
            mfc="white" if line.stage == "network" else None,
            color=COLOURS[line.colour % len(COLOURS)],
            label=line.name,
            ms=5,
            capsize=3,
        )
    if measure_logarithmic(points, measure):
        axis.set_yscale("log")
    axis.set(xlabel=setting_name(setting), ylabel=MEASURES[measure].heading)
    if numbers is None:
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.5, len(names) - 0.5)
    elif logarithmic(numbers):
        axis.set_xscale("log")
    elif len(numbers) <= 6:
        axis.set_xticks(numbers, names)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)


def section(name: str, points: Sequence[Point]) -> dict:
    """A sweep as the page shows it: what was varied, its charts, and a table of mean and spread."""
    measures = measures_shown(points)
    scans = list(dict.fromkeys(point.scan for point in points))
    return {
        "name": name.replace("_", " "),
        "caption": _caption(points),
        "charts": [_chart([p for p in points if p.scan == scan], m, scan) for scan in scans for m in measures],
        "columns": [
            *(setting_name(key) for key in points[0].values),
            *(MEASURES[measure].heading for measure in measures),
        ],
        "rows": [_cells(point, measures) for point in points],
    }


def _caption(points: Sequence[Point]) -> str:
    seeds = [point.seeds for point in points]
    least, most = min(seeds), max(seeds)
    over = f"over {most} seeds" if least == most else f"over up to {most} seeds"
    told = f"Mean {over}; bars are one standard deviation." if most > 1 else "One seed each."
    both = {point.stage for point in points} == set(STAGES)
    return told + (" Dashed and open: what the network made; solid: what refinement made of it." if both else "")


def _chart(points: Sequence[Point], measure: str, scan: str) -> Chart:
    setting, names, numbers = along(points)
    drawn = lines(points, measure)
    series = [
        Series(
            line.name,
            places(line, number, len(drawn), names, numbers),
            [point.mean[measure] for point in line.points],
            line.colour,
            dashed=line.stage == "network",
            dots=True,
            joined=numbers is not None,
            spread=[point.spread[measure] for point in line.points],
        )
        for number, line in enumerate(drawn)
    ]
    heading = MEASURES[measure].heading
    return Chart(
        f"{scan}: {heading}",
        setting_name(setting),
        heading,
        series,
        logarithmic=measure_logarithmic(points, measure),
        x_logarithmic=numbers is not None and logarithmic(numbers),
        x_names=names if numbers is None else (),
        x_limits=(-0.5, len(names) - 0.5) if numbers is None else None,
    )


def _cells(point: Point, measures: Sequence[str]) -> dict:
    """A row of the table: what the point is of, then mean and spread of each measure."""
    cells = [point.values[key] for key in point.values]
    for measure in measures:
        mean, spread, digits = point.mean[measure], point.spread[measure], MEASURES[measure].digits
        cells.append("–" if mean is None else f"{mean:{digits}}" + (f" ± {spread:{digits}}" if spread else ""))
    return {"scan": point.scan, "of": f"{point.method}, {point.stage}", "seeds": point.seeds, "cells": cells}
