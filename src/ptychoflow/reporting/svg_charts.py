"""Line charts as SVG, in the colours of the page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 68, 26, 12, 42
COLOURS = 6
"""Number of series colours in the style sheet of the page; further series repeat them."""


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes:
        name: text in the legend.
        x: coordinates of the points; None and NaN are left out.
        y: likewise.
        colour: number of the colour.
        dashed: True for a dashed line.
        dots: True to mark the points.
        joined: True to join the points by a line.
        std: standard deviation of each point, half the height of its error bar.
    """

    name: str
    x: Sequence[float | None]
    y: Sequence[float | None]
    colour: int
    dashed: bool = False
    dots: bool = False
    joined: bool = True
    std: Sequence[float | None] = ()

    @property
    def points(self) -> list[tuple[float, float]]:
        """Points with two finite coordinates."""
        pairs = zip(self.x, self.y, strict=True)
        return [(x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)]

    @property
    def bars(self) -> list[tuple[float, float, float]]:
        """Error bars: x, lower and upper end."""
        triples = zip(self.x, self.y, self.std, strict=False)
        return [(x, y - std, y + std) for x, y, std in triples if x is not None and y is not None and std]


@dataclass(frozen=True)
class Chart:
    """Contents of a chart.

    Attributes:
        title: shown above it and read by a screen reader.
        x_label: with its unit.
        y_label: with its unit.
        series: the curves.
        logarithmic: True for a logarithmic y axis.
        x_logarithmic: True for a logarithmic x axis.
        x_names: tick labels at x = 0, 1, 2 ... instead of numbers.
        x_ticks: ticks along x; round numbers without them.
        from_zero: True if x begins at 0.
        x_limits: range of x; that of the points without it.
        y_limits: range of y; that of the points without it.
        levels: values and names of horizontal lines.
        marks: values and names of vertical lines.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    logarithmic: bool = False
    x_logarithmic: bool = False
    x_names: Sequence[str] = ()
    x_ticks: Sequence[float] = ()
    from_zero: bool = False
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    levels: Sequence[tuple[float, str]] = ()
    marks: Sequence[tuple[float, str]] = ()

    @property
    def legend(self) -> list[Series]:
        """Series that have points."""
        return [series for series in self.series if series.points]


def draw(chart: Chart) -> Markup:
    """Return a chart as an SVG element; empty text for a chart without points."""
    points = [point for series in chart.series for point in _positive(series, chart.logarithmic)]
    if not points:
        return Markup("")
    along_x = [x for x, _ in points] + ([0.0] if chart.from_zero else [])
    x_low, x_high = chart.x_limits or _widened(along_x, 0, chart.x_logarithmic)
    points += [
        (x, y) for series in chart.series for x, *ends in series.bars for y in ends if y > 0 or not chart.logarithmic
    ]
    lines = [level for level, _ in chart.levels if level > 0 or not chart.logarithmic]
    y_low, y_high = chart.y_limits or _widened([y for _, y in points] + lines, 0.05, chart.logarithmic)
    along = _axis(x_low, x_high, LEFT, WIDTH - RIGHT, chart.x_logarithmic)
    up = _axis(y_low, y_high, HEIGHT - BOTTOM, TOP, chart.logarithmic)
    parts = [*_grid(chart, along, up, (x_low, x_high), (y_low, y_high))]
    for series in chart.legend:
        parts += _curve(series, along, up, chart.logarithmic)
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, chart.title, Markup("").join(parts)
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers between two values, in steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten between two values; 2 and 5 times these below a factor of 50, linear ticks below 3."""
    if high / low < 3:
        return [tick for tick in ticks(low, high, 4) if tick > 0]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    multiples = (1, 2, 5) if high / low < 50 else (1,)
    return [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high]


def label(value: float) -> str:
    """Format a number for a tick."""
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.6g}".replace("-", "−")


def _positive(series: Series, logarithmic: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in series.points if y > 0 or not logarithmic]


def _widened(values: list[float], margin: float, logarithmic: bool = False) -> tuple[float, float]:
    """Return the range of values with a margin, never empty."""
    low, high = min(values), max(values)
    if logarithmic:
        low, high = math.log10(low), math.log10(high)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    low, high = low - margin * (high - low), high + margin * (high - low)
    return (10**low, 10**high) if logarithmic else (low, high)


def _axis(low: float, high: float, start: float, end: float, logarithmic: bool = False) -> Callable[[float], float]:
    """Return the map from a value to a coordinate of the image."""
    scale = math.log10 if logarithmic else float
    first, last = scale(low), scale(high)
    return lambda value: start + (end - start) * (scale(value) - first) / (last - first)


def _grid(chart: Chart, along: Callable, up: Callable, across: tuple, height: tuple) -> list[Markup]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in (log_ticks if chart.logarithmic else ticks)(*height):
        parts.append(_line(LEFT, up(tick), right, up(tick), "grid"))
        parts.append(_text(LEFT - 7, up(tick) + 4, label(tick), "end"))
    for tick, name in _ticks_across(chart, across):
        parts.append(_line(along(tick), bottom, along(tick), bottom + 4, "axis"))
        parts.append(_text(along(tick), bottom + 17, name, "middle"))
    for value, name in chart.levels:
        if height[0] <= value <= height[1]:
            parts.append(_line(LEFT, up(value), right, up(value), "level"))
            parts.append(_text(right + 4, up(value) + 4, name, "start", "soft"))
    for value, name in chart.marks:
        parts.append(_line(along(value), TOP, along(value), bottom, "level"))
        parts.append(_text(along(value) + 4, TOP + 11, name, "start", "soft"))
    parts.append(_line(LEFT, bottom, right, bottom, "axis"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 7, chart.x_label, "middle"))
    rotated = Markup('<text x="{0}" y="{1}" transform="rotate(-90 {0} {1})" text-anchor="middle">{2}</text>')
    parts.append(rotated.format(13, f"{(TOP + bottom) / 2:.0f}", chart.y_label))
    return parts


def _ticks_across(chart: Chart, across: tuple[float, float]) -> list[tuple[float, str]]:
    if chart.x_names:
        return [(float(index), name) for index, name in enumerate(chart.x_names)]
    numbers = chart.x_ticks or (log_ticks if chart.x_logarithmic else ticks)(*across)
    return [(tick, label(tick)) for tick in numbers]


def _curve(series: Series, along: Callable, up: Callable, logarithmic: bool) -> list[Markup]:
    points = [
        (min(max(along(x), LEFT), WIDTH - RIGHT), min(max(up(y), TOP), HEIGHT - BOTTOM))
        for x, y in _positive(series, logarithmic)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = f"s{series.colour % COLOURS}" + (" dashed" if series.dashed else "")
    line = Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>').format(style, path, series.name)
    parts = [line] if series.joined else []
    for x, low, high in series.bars:
        ends = [
            max(TOP, min(up(y), HEIGHT - BOTTOM)) if y > 0 or not logarithmic else HEIGHT - BOTTOM for y in (low, high)
        ]
        parts.append(_line(along(x), ends[0], along(x), ends[1], f"bar s{series.colour % COLOURS}"))
    if series.dots or len(points) == 1:
        dot = Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>')
        parts += [dot.format(style, f"{x:.1f}", f"{y:.1f}") for x, y in points]
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    ends = [f"{coordinate:.1f}" for coordinate in (x1, y1, x2, y2)]
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(style, *ends)


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, escape(text)
    )
