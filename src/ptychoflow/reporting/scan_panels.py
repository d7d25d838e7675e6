"""Panels of a scan's section in the report: patterns, probe and illumination, phase uncertainty.

To add a panel, write a function of a scan's results and arrays that returns a :class:`Panel`, or None where there is
nothing to show, and list it in :data:`PANELS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.probe_caustic import STEPS, probe_caustic
from .images import (
    ERROR,
    MAGNITUDE,
    Detail,
    colour,
    colour_wave,
    data_uri,
    gradient,
    length_text,
    limits,
    log_counts,
    phase_colours,
)
from .results import Result
from .svg_charts import Chart, Series, label

Arrays = Sequence[Mapping[str, np.ndarray]]
SIGMAS = 5.0
"""Range of the residuals shown, in standard deviations of the counting noise."""
UNCERTAINTY_NOTE = (
    "Left: phase. Right: standard deviation σ of the phase, except for a constant and a linear ramp, by parametric "
    "bootstrap: counts simulated from the result are reconstructed again. It includes counting noise and incomplete "
    "convergence, but not errors of the model. On simulated scans, 63 to 78 % of an object's pixels were within 1 σ of "
    "the ground truth and 93 to 98 % within 1.96 σ; 71 % and 95 % over all scans, where 68 % and 95 % are expected."
)
"""The uncertainty map and its measured coverage: docs/results/coverage.md."""

INSTRUMENT_NOTE = (
    "The first probe mode at a pattern is the mean probe plus its variations times their weights (orthogonal probe "
    "relaxation). A weight of 0.1 carries 1 % of the photons of that mode. Weights that follow the scan are a drift of "
    "the beam; weights that look like the object are detail of the object in the wrong place: refine fewer variations. "
    "The background is added to every pattern."
)
"""How to read probe variations and background."""


@dataclass(frozen=True)
class Picture:
    """Images side by side under one caption.

    Attributes:
        parts: data URIs, from left to right.
        caption: first line of the caption.
        details: second line, smaller.
        smooth: True if pixels are interpolated where the image is enlarged.
    """

    parts: Sequence[str]
    caption: str
    details: str = ""
    smooth: bool = False


@dataclass(frozen=True)
class ColourBar:
    """A colour bar: its colours as a CSS gradient, and the labels of its start, middle and end."""

    gradient: str
    ticks: tuple[str, str, str]


@dataclass(frozen=True)
class Panel:
    """A titled group of pictures with their colour bars, charts, and a note on how to read them."""

    title: str
    pictures: Sequence[Picture] = ()
    bars: Sequence[ColourBar] = ()
    charts: Sequence[Chart] = ()
    note: str = ""


def panels(results: Sequence[Result], arrays: Arrays, detail: Detail) -> list[Panel]:
    """Return all panels of a scan that have something to show.

    Args:
        results: of one scan, networks first.
        arrays: of each result, as :func:`ptychoflow.reporting.figure_arrays.figure_arrays` returns them.
        detail: size and quality of the images.
    """
    built = (build(results, arrays, detail) for build in PANELS)
    return [panel for panel in built if panel is not None]


def patterns(results: Sequence[Result], arrays: Arrays, detail: Detail) -> Panel | None:
    """Show measured and expected patterns of the first result, and their residuals: worst, median and best fits."""
    chosen = results[0].metrics["patterns"]
    shown = []
    for row, pattern in enumerate(chosen[: detail.patterns]):
        measured, expected = (arrays[0][f"patterns_{kind}"][row] for kind in ("measured", "expected"))
        known = np.isfinite(measured)
        scale = (0.0, max(float(log_counts(measured[known]).max(initial=0)), 0.1))
        # the root of a count has a standard deviation of sqrt(F) / 2
        std = np.sqrt(results[0].metrics["scan"].get("fano_factor", 1.0)) / 2
        sigmas = (np.sqrt(np.where(known, measured, 0)) - np.sqrt(expected)) / std
        parts = [
            colour(log_counts(np.where(known, measured, 0)), known, scale, MAGNITUDE),
            colour(log_counts(expected), np.ones_like(known), scale, MAGNITUDE),
            colour(sigmas, known, (-SIGMAS, SIGMAS), ERROR),
        ]
        details = f"pattern {pattern['index']}, R {pattern['r_factor']:.4f}, up to {10 ** scale[1] - 1:.3g} counts"
        shown.append(Picture([_small(part, detail) for part in parts], f"{pattern['which']} fit", details))
    bars = [
        ColourBar(gradient(MAGNITUDE), ("0", "log counts", "maximum")),
        ColourBar(gradient(ERROR), (f"−{label(SIGMAS)} σ", "residual", f"+{label(SIGMAS)} σ")),
    ]
    note = (
        f"Left: measured counts. Middle: counts expected from {results[0].method} after refinement, on the same scale. "
        "Right: residual in standard deviations of the counting noise. Counting noise has no structure: structure in "
        "the residual is an error of the model."
    )
    return Panel("Patterns measured and expected", shown, bars, note=note)


def probe_and_illumination(results: Sequence[Result], arrays: Arrays, detail: Detail) -> Panel | None:
    """Show the strongest probe modes with their fraction of the photons, and the illumination of each pixel."""
    probe = arrays[0]["probe"]
    power = np.sum(np.abs(probe) ** 2, axis=(1, 2))
    strongest = np.argsort(-power)[:4].tolist()
    shown = [
        Picture(
            [_small(colour_wave(probe[mode]), detail)],
            f"mode {number}",
            f"{power[mode] / power.sum():.1%} of the photons",
        )
        for number, mode in enumerate(strongest, 1)
    ]
    weight, mask = arrays[0]["weight"].astype(np.float32), arrays[0]["refined_mask"].astype(bool)
    illumination = colour(weight, mask, (0.0, limits(weight, mask)[1]), MAGNITUDE)
    shown.append(Picture([_small(illumination, detail)], "illumination", "relative, on the covered pixels", True))
    return Panel("Probe and illumination", shown, note="Probe modes: hue is phase, value is amplitude.")


def caustic(results: Sequence[Result], arrays: Arrays, detail: Detail) -> Panel | None:
    """Show the intensity of the strongest probe mode along the beam, in both directions across it."""
    scan, probe = results[0].metrics["scan"], arrays[0]["probe"]
    mode = probe[np.argmax(np.sum(np.abs(probe) ** 2, axis=(1, 2)))]
    found = probe_caustic(mode, scan["pixel_size_m"], scan["wavelength_m"])
    reach, width = found.distances_m[-1], mode.shape[-1] * scan["pixel_size_m"]
    shown = []
    for axis, lines in (("x", found.x), ("y", found.y)):
        amplitude = np.sqrt(lines.T)
        shades = colour(amplitude, np.ones_like(amplitude, bool), (0.0, float(amplitude.max()) or 1.0), MAGNITUDE)
        details = f"{length_text(2 * reach)} along the beam, {length_text(width)} across"
        shown.append(Picture([_small(shades, detail)], f"{axis} over distance", details, True))
    nominal = ", nominal" if scan["nominal_geometry"] else ""
    where = (
        "in the plane of the sample"
        if abs(found.focus_m) < reach / STEPS
        else (f"{length_text(abs(found.focus_m))} {'behind' if found.focus_m > 0 else 'before'} the sample{nominal}")
    )
    note = f"Amplitude of mode 1; the beam comes from the left, the sample is in the middle. It is narrowest {where}."
    return Panel("Probe along the beam", shown, note=note)


def uncertainty(results: Sequence[Result], arrays: Arrays, detail: Detail) -> Panel | None:
    """Show each refined phase beside its standard deviation, where that was estimated."""
    known = [(result, found) for result, found in zip(results, arrays, strict=True) if "phase_uncertainty" in found]
    if not known:
        return None
    most = max(limits(found["phase_uncertainty"], found["refined_mask"].astype(bool))[1] for _, found in known)
    shown = []
    for result, found in known:
        phase, mask = np.angle(found["refined"]), found["refined_mask"].astype(bool)
        phase_std = found["phase_uncertainty"]
        parts = [colour(phase, mask, *phase_colours(phase, mask)), colour(phase_std, mask, (0.0, most), MAGNITUDE)]
        details = f"{np.sqrt(np.mean(phase_std[mask] ** 2)):.3f} rad rms{_coverage_text(found, mask)}"
        shown.append(Picture([_small(part, detail) for part in parts], result.method, details, True))
    bar = ColourBar(gradient(MAGNITUDE), ("0", "standard deviation (rad)", label(float(f"{most:.2g}"))))
    return Panel("Phase uncertainty", shown, [bar], note=UNCERTAINTY_NOTE)


def instrument(results: Sequence[Result], arrays: Arrays, detail: Detail) -> Panel | None:
    """Show what varied during the scan of the first result that fitted it: probe variations, weights, background."""
    fitted = (found for found in arrays if {"probe_variations", "background"} & set(found))
    found = next(fitted, None)
    if found is None:
        return None
    shown, bars, charts = [], [], []
    if "probe_variations" in found:
        weights, mask = found["variation_weights"], found["refined_mask"].astype(bool)
        for number, (mode, column) in enumerate(zip(found["probe_variations"][:4], weights.T, strict=False), 1):
            details = f"weight {np.sqrt(np.mean(column**2)):.2g} rms"
            shown.append(Picture([_small(colour_wave(mode), detail)], f"variation {number}", details))
        most = float(np.abs(weights[:, 0]).max()) or 1.0
        part = colour(found["variation_map"], mask, (-most, most), ERROR)
        shown.append(Picture([_small(part, detail)], "weight of variation 1", "at the nearest pattern"))
        bars.append(ColourBar(gradient(ERROR), (f"−{label(most)}", "weight", f"+{label(most)}")))
        index = list(range(len(weights)))
        series = [Series(f"variation {n + 1}", index, column.tolist(), n) for n, column in enumerate(weights.T[:4])]
        charts.append(Chart("Weights of the probe variations", "pattern", "weight", series))
    if "background" in found:
        counts = found["background"]
        part = colour(counts, np.ones(counts.shape, bool), (0.0, float(counts.max()) or 1.0), MAGNITUDE)
        details = f"{counts.mean():.3g} counts on average, up to {counts.max():.3g}"
        shown.append(Picture([_small(part, detail)], "background", details))
    return Panel("Drift of the beam and background", shown, bars, charts, INSTRUMENT_NOTE)


def _coverage_text(found: Mapping[str, np.ndarray], mask: np.ndarray) -> str:
    """Return the fraction of pixels within 1 and 1.96 standard deviations of a known ground truth."""
    if "truth" not in found:
        return ""
    error = np.angle(found["refined"] * found["truth"].conj())[mask]
    off = np.abs(error - error.mean()) / found["phase_uncertainty"][mask]
    within = [f"{np.mean(off < width):.0%}" for width in (1, 1.96)]
    return f"; {within[0]} and {within[1]} of pixels within 1 and 1.96 σ of the ground truth (expected: 68% and 95%)"


PANELS: tuple[Callable[[Sequence[Result], Arrays, Detail], Panel | None], ...] = (
    patterns,
    probe_and_illumination,
    caustic,
    instrument,
    uncertainty,
)


def _small(rgba: np.ndarray, detail: Detail) -> str:
    return data_uri(rgba, detail.small_px, detail.quality)
