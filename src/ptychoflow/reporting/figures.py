"""The figures of one reconstruction as PNG files: what a person opens from the results folder or Snakemake's report."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from .images import (
    AMPLITUDE,
    ERROR,
    FIT,
    colour,
    colour_wave,
    limits,
    log_counts,
    phase_colours,
    scale_bar,
    symmetric_limits,
)

DPI = 110
SIDE = 3.1
"""Inches of one picture."""
BESIDE, ABOVE = 0.75, 0.5
"""Inches for its colour bar and its title."""
COLOURS = {"network": "#2166ac", "refined": "#b2182b", "truth": "#333333"}

FILES = tuple(
    f"{name}.png" for name in ("objects", "fit", "probe", "patterns", "errors", "uncertainty", "frc", "progress")
)
"""What :func:`draw_all` draws, at most."""


def draw_all(folder: Path, arrays: Mapping[str, np.ndarray], metrics: dict) -> None:
    """Draw every figure that the measures and arrays of a reconstruction have something for.

    Args:
        folder: where to put them.
        arrays: as ``evaluate`` keeps them in ``arrays.npz``.
        metrics: as ``evaluate`` keeps them in its JSON file.
    """
    stages = [stage for stage in ("network", "refined", "truth") if stage in arrays]
    figures = {
        "objects": draw_objects(arrays, stages, metrics["scan"]["pixel_size_m"]),
        "fit": draw_fit(arrays, metrics["stages"]),
        "probe": draw_probe(arrays["probe"]),
        "patterns": draw_patterns(arrays, metrics["patterns"]),
    }
    if "truth" in arrays:
        figures["errors"] = draw_errors(arrays, [stage for stage in stages if stage != "truth"])
    if "phase_uncertainty" in arrays:
        figures["uncertainty"] = draw_uncertainty(arrays)
    curves = ring_curves(metrics)
    if curves:
        figures["frc"] = draw_frc(curves)
    if metrics["progress"]["seconds"]:
        figures["progress"] = draw_progress(metrics["progress"])
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI)


def ring_curves(metrics: dict) -> dict[str, dict]:
    """The Fourier ring correlations that were measured, by what was correlated."""
    curves = {
        f"{stage} and truth": found["against_truth"]["frc"]
        for stage, found in metrics["stages"].items()
        if stage != "uniform" and found["against_truth"]
    }
    return curves | {f"{stage}, even and odd": found["frc"] for stage, found in metrics["split_half"].items()}


def draw_objects(arrays: Mapping[str, np.ndarray], stages: list[str], pixel_size_m: float) -> Figure:
    """Amplitude and phase of every stage, each row on one scale: the truth's, or that of what was refined."""
    figure, axes = _panels(2, len(stages) + 1)
    reference, mask = arrays[stages[-1]], arrays["refined_mask"]
    amplitudes = limits(np.abs(reference), mask), AMPLITUDE
    phases = phase_colours(np.angle(reference), mask)
    rows = [(np.abs, "amplitude", *amplitudes), (np.angle, "phase (rad)", *phases)]
    for row, (of, name, scale, colours) in enumerate(rows):
        for axis, stage in zip(axes[row], stages, strict=False):
            _image(axis, of(arrays[stage]), arrays.get(f"{stage}_mask", mask), scale, colours, f"{stage}, {name}")
        _scale_bar(axes[row, 0], mask.shape, pixel_size_m)
    weight = arrays["weight"]
    _image(axes[0, -1], weight, mask, (0, limits(weight, mask)[1]), FIT, "light received (rel.)")
    _image(axes[1, -1], mask, np.ones_like(mask), (0, 1), "gray", "coverage")
    return figure


def draw_errors(arrays: Mapping[str, np.ndarray], stages: list[str]) -> Figure:
    """Amplitude and phase error of every stage against the truth, each row on one scale."""
    figure, axes = _panels(2, len(stages))
    errors = {
        "amplitude error": lambda stage: np.abs(arrays[stage]) - np.abs(arrays["truth"]),
        "phase error (rad)": lambda stage: np.angle(arrays[stage] * arrays["truth"].conj()),
    }
    for row, (name, of) in enumerate(errors.items()):
        scale = symmetric_limits(of(stages[-1]), arrays[f"{stages[-1]}_mask"])
        for axis, stage in zip(axes[row], stages, strict=True):
            _image(axis, of(stage), arrays[f"{stage}_mask"], scale, ERROR, f"{stage}, {name}")
    return figure


def draw_uncertainty(arrays: Mapping[str, np.ndarray]) -> Figure:
    """The refined phase and how far to trust it; beside them how far it is off, where there is a truth."""
    phase, spread, mask = np.angle(arrays["refined"]), arrays["phase_uncertainty"], arrays["refined_mask"]
    scale = (0.0, limits(spread, mask)[1])
    figure, axes = _panels(1, 3 if "truth" in arrays else 2)
    _image(axes[0, 0], phase, mask, *phase_colours(phase, mask), "refined, phase (rad)")
    _image(axes[0, 1], spread, mask, scale, FIT, "one standard deviation (rad)")
    if "truth" in arrays:
        error = np.abs(np.angle(arrays["refined"] * arrays["truth"].conj()))
        _image(axes[0, 2], error, mask, scale, FIT, "distance from the truth (rad)")
    return figure


def draw_fit(arrays: Mapping[str, np.ndarray], found: dict) -> Figure:
    """The R-factor at each scan position, painted where that position is the nearest."""
    stages = [stage for stage in ("network", "refined") if f"{stage}_r_map" in arrays]
    figure, axes = _panels(1, len(stages))
    for axis, stage in zip(axes[0], stages, strict=True):
        values = arrays[f"{stage}_r_map"]
        mask = arrays["refined_mask"]
        title = f"{stage}, R-factor {found[stage]['r_factor']:.4f}"
        _image(axis, values, mask, (0, limits(values, mask)[1]), FIT, title)
    return figure


def draw_probe(probe: np.ndarray) -> Figure:
    """Each mode: hue is phase and brightness amplitude; then the amplitude alone."""
    shown = probe[:4]
    figure, axes = _panels(2, len(shown))
    share = np.sum(np.abs(probe) ** 2, axis=(1, 2)) / np.sum(np.abs(probe) ** 2)
    for column, wave in enumerate(shown):
        axes[0, column].imshow(colour_wave(wave))
        axes[0, column].set_title(f"probe mode {column + 1}, {share[column]:.1%} of the light", fontsize=10)
        amplitude, everywhere = np.abs(wave), np.ones(wave.shape, bool)
        scale = (0, float(amplitude.max()))
        _image(axes[1, column], amplitude, everywhere, scale, FIT, "amplitude (sqrt photons)")
    return figure


def draw_patterns(arrays: Mapping[str, np.ndarray], chosen: list[dict]) -> Figure:
    """Patterns measured and expected, logarithmic, each pair on one scale."""
    figure, axes = _panels(2, len(chosen))
    for column, pattern in enumerate(chosen):
        measured, expected = (log_counts(arrays[f"patterns_{kind}"][column]) for kind in ("measured", "expected"))
        known = np.isfinite(measured)
        scale = (0, float(measured[known].max()) or 1)
        title = f"{pattern['which']} fit, pattern {pattern['index']}, R {pattern['r_factor']:.4f}"
        _image(axes[0, column], measured, known, scale, FIT, f"{title}\nmeasured, log10(1 + counts)")
        _image(axes[1, column], expected, np.ones_like(known), scale, FIT, "expected")
    return figure


def draw_frc(curves: dict[str, dict]) -> Figure:
    """Ring correlations with their thresholds."""
    figure = Figure(figsize=(6.4, 4), layout="tight")
    axis = figure.add_subplot()
    for name, curve in curves.items():
        stage, style = name.replace(",", "").split()[0], "--" if "even" in name else "-"
        axis.plot(curve["frequency_cycles_per_px"], curve["correlation"], style, label=name, color=COLOURS[stage])
    curve = next(iter(curves.values()))
    axis.plot(curve["frequency_cycles_per_px"], curve["half_bit"], ":", color="0.4", lw=1.2, label="half bit")
    for level, name in ((1 / 2, "1/2"), (1 / 7, "1/7")):
        axis.axhline(level, color="0.7", lw=0.8)
        axis.annotate(name, (0.5, level), ha="right", va="bottom", color="0.4", fontsize=9)
    axis.set(xlabel="spatial frequency (cycles per px)", ylabel="ring correlation", xlim=(0, 0.5), ylim=(-0.1, 1.05))
    return _plain(figure, axis)


def draw_progress(progress: dict) -> Figure:
    """R-factor, and phase PSNR where there is a truth, against the seconds of refinement."""
    snapshots = progress["snapshots"]
    figure = Figure(figsize=(10 if snapshots["phase_psnr"] else 6.4, 4), layout="tight")
    columns = 2 if snapshots["phase_psnr"] else 1
    axis = figure.add_subplot(1, columns, 1)
    axis.plot(progress["seconds"], progress["r_factor"], color=COLOURS["refined"], label="R-factor")
    axis.set(xlabel="refinement (s)", ylabel="R-factor", yscale="log")
    _plain(figure, axis)
    if columns == 2:
        axis = figure.add_subplot(1, 2, 2)
        axis.plot(snapshots["seconds"], snapshots["phase_psnr"], "o-", ms=4, color=COLOURS["refined"], label="phase")
        axis.set(xlabel="refinement (s)", ylabel="phase PSNR, truth range (dB)")
        _plain(figure, axis)
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
    """A picture with its colour bar."""
    axis.imshow(colour(values, mask, scale, colours), interpolation="nearest")
    axis.set_title(title, fontsize=10)
    mappable = axis.imshow(np.full((1, 1), np.nan), cmap=colours, vmin=scale[0], vmax=scale[1])
    axis.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(values.shape[0] - 0.5, -0.5))
    axis.figure.colorbar(mappable, cax=axis.inset_axes([1.03, 0, 0.05, 1])).ax.tick_params(labelsize=8)


def _scale_bar(axis: Axes, shape: tuple[int, int], pixel_size_m: float) -> None:
    """A length in the lower left corner of a picture."""
    bar = scale_bar(pixel_size_m, shape[1])
    height, left, length = 0.93 * shape[0], 0.05 * shape[1], bar.share * shape[1]
    outline = [Stroke(linewidth=4.5, foreground="black"), Normal()]
    axis.plot([left, left + length], [height, height], color="white", lw=3, solid_capstyle="butt", path_effects=outline)
    outline = [Stroke(linewidth=2, foreground="black"), Normal()]
    middle = left + length / 2
    axis.text(middle, 0.915 * shape[0], bar.label, color="white", ha="center", fontsize=9, path_effects=outline)


def _plain(figure: Figure, axis: Axes) -> Figure:
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    axis.grid(alpha=0.25)
    return figure
