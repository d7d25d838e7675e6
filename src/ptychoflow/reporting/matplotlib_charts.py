"""Charts drawn by matplotlib: for figures as files and for notebooks."""

from matplotlib.axes import Axes

from .svg_charts import Chart, Series, label

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#a0529a", "#333333", "#8a929c")
"""Colours of series by number: those of the page on a white background."""


def plot_chart(axis: Axes, chart: Chart) -> None:
    """Draw a chart: curves, levels, marks and labels. The caller adds title and legend.

    Args:
        axis: an empty axis.
        chart: what to draw.
    """
    for series in chart.legend:
        _plot_series(axis, series)
    for value, name in chart.levels:
        axis.axhline(value, color="0.7", lw=0.8)
        axis.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.4")
    for value, name in chart.marks:
        axis.axvline(value, color="0.6", lw=0.8, ls="--")
        axis.annotate(name, (value, 1), xycoords=("data", "axes fraction"), ha="left", va="top", color="0.4")
    axis.set(xlabel=chart.x_label, ylabel=chart.y_label)
    if chart.logarithmic:
        axis.set_yscale("log")
    if chart.x_logarithmic:
        axis.set_xscale("log")
    if chart.x_names:
        axis.set_xticks(range(len(chart.x_names)), chart.x_names)
    elif chart.x_ticks:
        axis.set_xticks(chart.x_ticks, [label(tick) for tick in chart.x_ticks])
    if chart.x_limits:
        axis.set_xlim(chart.x_limits)
    elif chart.from_zero:
        axis.set_xlim(left=0)
    if chart.y_limits:
        axis.set_ylim(chart.y_limits)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)


def _plot_series(axis: Axes, series: Series) -> None:
    """Draw a curve; points of a dashed one are open."""
    line = ("--" if series.dashed else "-") if series.joined else ""
    points = "o" if series.dots else ""
    face = "white" if series.dashed else None
    colour = COLOURS[series.colour % len(COLOURS)]
    x, y = zip(*series.points, strict=True)
    if series.std:
        std = [
            value or 0
            for a, b, value in zip(series.x, series.y, series.std, strict=True)
            if a is not None and b is not None
        ]
        axis.errorbar(x, y, std, fmt=points + line, mfc=face, color=colour, label=series.name, ms=5, capsize=3)
    else:
        axis.plot(x, y, points + line, mfc=face, ms=4, color=colour, label=series.name)
