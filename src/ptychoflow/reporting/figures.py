"""Figures of one reconstruction as PNG files, for the results folder and Snakemake's report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from .curves import progress_charts, results_frc_chart
from .images import (
    AMPLITUDE,
    ERROR,
    MAGNITUDE,
    colour,
    colour_wave,
    limits,
    log_counts,
    phase_colours,
    scale_bar,
    symmetric_limits,
)
from .matplotlib_charts import plot_chart
from .results import Result
from .svg_charts import Chart

DPI = 110
SIDE = 3.1
"""Side of one image, inches."""
BESIDE, ABOVE = 0.75, 0.5
"""Room for its colour bar and its title, inches."""

FILES = tuple(
    f"{name}.png" for name in ("objects", "r_factor", "probe", "patterns", "errors", "uncertainty", "frc", "progress")
)
"""Every file that :func:`draw_all` can write."""


def draw_all(folder: Path, arrays: Mapping[str, np.ndarray], metrics: dict) -> None:
    """Draw every figure that the metrics and arrays of a reconstruction allow.

    Args:
        folder: directory of the figures.
        arrays: as :func:`ptychoflow.reporting.figure_arrays.figure_arrays` returns them.
        metrics: contents of the metrics file.
    """
    stages = [stage for stage in ("network", "refined", "truth") if stage in arrays]
    figures = {
        "objects": draw_objects(arrays, stages, metrics["scan"]["pixel_size_m"]),
        "r_factor": draw_r_factor(arrays, metrics["stages"]),
        "probe": draw_probe(arrays["probe"]),
        "patterns": draw_patterns(arrays, metrics["patterns"]),
    }
    if "truth" in arrays:
        figures["errors"] = draw_errors(arrays, [stage for stage in stages if stage != "truth"])
    if "phase_uncertainty" in arrays:
        figures["uncertainty"] = draw_uncertainty(arrays)
    results = [Result(metrics, folder / "arrays.npz")]
    curves = {"frc": [chart] if (chart := results_frc_chart(results)) else [], "progress": progress_charts(results)}
    figures |= {name: draw_curves(charts) for name, charts in curves.items() if charts}
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI)


def draw_objects(arrays: Mapping[str, np.ndarray], stages: list[str], pixel_size_m: float) -> Figure:
    """Draw amplitude and phase of every stage, each row on one scale, with illumination and coverage."""
    figure, axes = _panels(2, len(stages) + 1)
    reference, mask = arrays[stages[-1]], arrays["refined_mask"]
    amplitudes = limits(np.abs(reference), mask), AMPLITUDE
    phases = phase_colours(np.angle(reference), mask)
    rows: list[tuple[Callable, str, tuple[float, float], str]]
    rows = [(np.abs, "amplitude", *amplitudes), (np.angle, "phase (rad)", *phases)]
    for row, (compute, name, scale, colours) in enumerate(rows):
        for axis, stage in zip(axes[row], stages, strict=False):
            _image(axis, compute(arrays[stage]), arrays.get(f"{stage}_mask", mask), scale, colours, f"{stage}, {name}")
        _scale_bar(axes[row, 0], mask.shape, pixel_size_m)
    weight = arrays["weight"]
    _image(axes[0, -1], weight, mask, (0, limits(weight, mask)[1]), MAGNITUDE, "illumination (rel.)")
    _image(axes[1, -1], mask, np.ones_like(mask), (0, 1), "gray", "coverage")
    return figure


def draw_errors(arrays: Mapping[str, np.ndarray], stages: list[str]) -> Figure:
    """Draw amplitude and phase error of every stage against the ground truth, each row on one scale."""
    figure, axes = _panels(2, len(stages))
    errors = {
        "amplitude error": lambda stage: np.abs(arrays[stage]) - np.abs(arrays["truth"]),
        "phase error (rad)": lambda stage: np.angle(arrays[stage] * arrays["truth"].conj()),
    }
    for row, (name, compute) in enumerate(errors.items()):
        scale = symmetric_limits(compute(stages[-1]), arrays[f"{stages[-1]}_mask"])
        for axis, stage in zip(axes[row], stages, strict=True):
            _image(axis, compute(stage), arrays[f"{stage}_mask"], scale, ERROR, f"{stage}, {name}")
    return figure


def draw_uncertainty(arrays: Mapping[str, np.ndarray]) -> Figure:
    """Draw the refined phase, its standard deviation and, where there is a ground truth, its error."""
    phase, phase_std, mask = np.angle(arrays["refined"]), arrays["phase_uncertainty"], arrays["refined_mask"]
    scale = (0.0, limits(phase_std, mask)[1])
    figure, axes = _panels(1, 3 if "truth" in arrays else 2)
    _image(axes[0, 0], phase, mask, *phase_colours(phase, mask), "refined, phase (rad)")
    _image(axes[0, 1], phase_std, mask, scale, MAGNITUDE, "standard deviation (rad)")
    if "truth" in arrays:
        error = np.abs(np.angle(arrays["refined"] * arrays["truth"].conj()))
        _image(axes[0, 2], error, mask, scale, MAGNITUDE, "error against ground truth (rad)")
    return figure


def draw_r_factor(arrays: Mapping[str, np.ndarray], metrics: dict) -> Figure:
    """Draw the R-factor of the nearest pattern at each pixel."""
    stages = [stage for stage in ("network", "refined") if f"{stage}_r_map" in arrays]
    figure, axes = _panels(1, len(stages))
    for axis, stage in zip(axes[0], stages, strict=True):
        values = arrays[f"{stage}_r_map"]
        mask = arrays["refined_mask"]
        title = f"{stage}, R-factor {metrics[stage]['r_factor']:.4f}"
        _image(axis, values, mask, (0, limits(values, mask)[1]), MAGNITUDE, title)
    return figure


def draw_probe(probe: np.ndarray) -> Figure:
    """Draw each probe mode with phase as hue and amplitude as value, and its amplitude."""
    shown = probe[:4]
    figure, axes = _panels(2, len(shown))
    fraction = np.sum(np.abs(probe) ** 2, axis=(1, 2)) / np.sum(np.abs(probe) ** 2)
    for column, wave in enumerate(shown):
        axes[0, column].imshow(colour_wave(wave))
        axes[0, column].set_title(f"probe mode {column + 1}, {fraction[column]:.1%} of the photons", fontsize=10)
        amplitude, mask = np.abs(wave), np.ones(wave.shape, bool)
        scale = (0, float(amplitude.max()))
        _image(axes[1, column], amplitude, mask, scale, MAGNITUDE, "amplitude (sqrt photons)")
    return figure


def draw_patterns(arrays: Mapping[str, np.ndarray], chosen: list[dict]) -> Figure:
    """Draw measured and expected patterns on a logarithmic scale, each pair on one range."""
    figure, axes = _panels(2, len(chosen))
    for column, pattern in enumerate(chosen):
        measured, expected = (log_counts(arrays[f"patterns_{kind}"][column]) for kind in ("measured", "expected"))
        known = np.isfinite(measured)
        scale = (0, float(measured[known].max()) or 1)
        title = f"{pattern['which']} fit, pattern {pattern['index']}, R {pattern['r_factor']:.4f}"
        _image(axes[0, column], measured, known, scale, MAGNITUDE, f"{title}\nmeasured, log10(1 + counts)")
        _image(axes[1, column], expected, np.ones_like(known), scale, MAGNITUDE, "expected")
    return figure


def draw_curves(charts: Sequence[Chart]) -> Figure:
    """Draw charts side by side, each with its legend."""
    figure = Figure(figsize=(1.4 + 5 * len(charts), 4), layout="tight")
    for axis, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
        plot_chart(axis, chart)
        axis.legend(frameon=False, fontsize=9)
    return figure


def _panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    width, height = columns * (SIDE + BESIDE), rows * (SIDE + ABOVE)
    figure = Figure(figsize=(width, height))
    margins = {"left": 0.1 / width, "right": 1 - BESIDE / width, "bottom": 0.1 / height, "top": 1 - ABOVE / height}
    axes = figure.subplots(
        rows, columns, squeeze=False, gridspec_kw=margins | {"wspace": BESIDE / SIDE, "hspace": ABOVE / SIDE}
    )
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _image(
    axis: Axes, values: np.ndarray, mask: np.ndarray, scale: tuple[float, float], colours: str, title: str
) -> None:
    """Draw an image with its colour bar."""
    axis.imshow(colour(values, mask, scale, colours), interpolation="nearest")
    axis.set_title(title, fontsize=10)
    mappable = axis.imshow(np.full((1, 1), np.nan), cmap=colours, vmin=scale[0], vmax=scale[1])
    axis.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(values.shape[0] - 0.5, -0.5))
    axis.figure.colorbar(mappable, cax=axis.inset_axes((1.03, 0, 0.05, 1))).ax.tick_params(labelsize=8)


def _scale_bar(axis: Axes, shape: tuple[int, int], pixel_size_m: float) -> None:
    """Draw a scale bar in the lower left corner of an image."""
    bar = scale_bar(pixel_size_m, shape[1])
    height, left, length = 0.93 * shape[0], 0.05 * shape[1], bar.fraction * shape[1]
    outline = [Stroke(linewidth=4.5, foreground="black"), Normal()]
    axis.plot([left, left + length], [height, height], color="white", lw=3, solid_capstyle="butt", path_effects=outline)
    outline = [Stroke(linewidth=2, foreground="black"), Normal()]
    middle = left + length / 2
    axis.text(middle, 0.915 * shape[0], bar.label, color="white", ha="center", fontsize=9, path_effects=outline)
