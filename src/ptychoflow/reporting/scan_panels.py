"""What more a report shows of a scan than its objects, a panel for each matter.

To show something new: write a function of the scan's results and their arrays that returns a :class:`Panel`, or None
where there is nothing to show, and name it in :data:`PANELS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .images import ERROR, FIT, Detail, colour, colour_wave, data_uri, gradient, limits, log_counts, phase_colours
from .results import Result
from .svg_charts import Chart, label

Arrays = Sequence[Mapping[str, np.ndarray]]
SIGMAS = 5.0
"""Differences between measured and expected are shown up to so many standard deviations of the counting noise."""
TRUST = (
    "Left the phase, right how far it may be off, a constant and a ramp apart: one standard deviation, found by "
    "fitting counts that were simulated from the result. It holds noise and slow convergence, but no error that the "
    "model itself cannot make. On scans simulated to measure it, 63 to 78 % of an object's pixels lay within 1 and 93 "
    "to 98 % within 1.96 of it, 71 and 95 % over all; asked are 68 and 95 %."
)
"""What the map of uncertainty is, and what it was measured to be worth: docs/results/coverage.md."""


@dataclass(frozen=True)
class Picture:
    """Pictures side by side, under one caption.

    Attributes:
        parts: data URIs, from left to right.
        caption: what they show.
        beside: more about it, smaller.
        smooth: whether pixels may be smoothed where they are drawn larger.
    """

    parts: Sequence[str]
    caption: str
    beside: str = ""
    smooth: bool = False


@dataclass(frozen=True)
class ThrottledProgressBar:
    """A colour bar: its colours as a CSS gradient, and what is written under its ends and its middle."""

    gradient: str
    ticks: tuple[str, str, str]


@dataclass(frozen=True)
class Panel:
    """One matter: a title, pictures with their colour bars, curves, and a note on how to read them."""

    title: str
    pictures: Sequence[Picture] = ()
    bars: Sequence[ThrottledProgressBar] = ()
    charts: Sequence[Chart] = ()
    note: str = ""


def panels(results: Sequence[Result], arrays: Arrays, detail: Detail) -> list[Panel]:
    """Every panel there is something to show in.

    Args:
        results: of one scan, networks first.
        arrays: of each result, as ``evaluate`` keeps them.
        detail: how finely to draw.
    """
    made = (make(results, arrays, detail) for make in PANELS)
    return [panel for panel in made if panel is not None]


def patterns(results: Sequence[Result], arrays: Arrays, detail: Detail) -> Panel | None:
    """Patterns measured, expected and their difference: the best, the median and the worst fit of the first result."""
    chosen = results[0].metrics["patterns"]
    shown = []
    for row, pattern in enumerate(chosen[: detail.patterns]):
        measured, expected = (arrays[0][f"patterns_{kind}"][row] for kind in ("measured", "expected"))
        known = np.isfinite(measured)
        scale = (0.0, max(float(log_counts(measured[known]).max(initial=0)), 0.1))
        # the root of a count has a standard deviation of 1/2
        sigmas = 2 * (np.sqrt(np.where(known, measured, 0)) - np.sqrt(expected))
        parts = [
            colour(log_counts(np.where(known, measured, 0)), known, scale, FIT),
            colour(log_counts(expected), np.ones_like(known), scale, FIT),
            colour(sigmas, known, (-SIGMAS, SIGMAS), ERROR),
        ]
        beside = f"pattern {pattern['index']}, R {pattern['r_factor']:.4f}, up to {10 ** scale[1] - 1:.3g} counts"
        shown.append(Picture([_small(part, detail) for part in parts], f"{pattern['which']} fit", beside))
    bars = [
        ThrottledProgressBar(gradient(FIT), ("0", "log counts", "most")),
        ThrottledProgressBar(gradient(ERROR), (f"−{label(SIGMAS)} σ", "measured less expected", f"+{label(SIGMAS)} σ")),
    ]
    note = (
        f"Left measured, middle expected from {results[0].method} after refinement, on one scale; right their "
        "difference, in standard deviations of the counting noise: what is no noise has a shape."
    )
    return Panel("Patterns measured and expected", shown, bars, note=note)


def probe_and_light(results: Sequence[Result], arrays: Arrays, detail: Detail) -> Panel | None:
    """The strongest modes of the probe, their share of the light, and how much of it each pixel received."""
    probe = arrays[0]["probe"]
    power = np.sum(np.abs(probe) ** 2, axis=(1, 2))
    strongest = np.argsort(-power)[:4].tolist()
    shown = [
        Picture(
            [_small(colour_wave(probe[mode]), detail)],
            f"mode {number}",
            f"{power[mode] / power.sum():.1%} of the light",
        )
        for number, mode in enumerate(strongest, 1)
    ]
    weight, mask = arrays[0]["weight"].astype(np.float32), arrays[0]["refined_mask"].astype(bool)
    light = colour(weight, mask, (0.0, limits(weight, mask)[1]), FIT)
    shown.append(Picture([_small(light, detail)], "coverage", "light received, where the object is known", True))
    return Panel("Probe and coverage", shown, note="Probe: hue is phase, brightness amplitude.")


def uncertainty(results: Sequence[Result], arrays: Arrays, detail: Detail) -> Panel | None:
    """Each refined phase, and beside it one standard deviation of what it may be off, where that was estimated."""
    known = [(result, found) for result, found in zip(results, arrays, strict=True) if "phase_uncertainty" in found]
    if not known:
        return None
    most = max(limits(found["phase_uncertainty"], found["refined_mask"].astype(bool))[1] for _, found in known)
    shown = []
    for result, found in known:
        phase, spread, mask = np.angle(found["refined"]), found["phase_uncertainty"], found["refined_mask"].astype(bool)
        parts = [colour(phase, mask, *phase_colours(phase, mask)), colour(spread, mask, (0.0, most), FIT)]
        words = f"{np.sqrt(np.mean(spread[mask] ** 2)):.3f} rad rms{_inside(found, mask)}"
        shown.append(Picture([_small(part, detail) for part in parts], result.method, words, True))
    bar = ThrottledProgressBar(gradient(FIT), ("0", "one standard deviation (rad)", label(float(f"{most:.2g}"))))
    return Panel("How far to trust the phase", shown, [bar], note=TRUST)


def _inside(found: Mapping[str, np.ndarray], mask: np.ndarray) -> str:
    """How many pixels of a simulated scan lie as near to the truth as they should."""
    if "truth" not in found:
        return ""
    error = np.angle(found["refined"] * found["truth"].conj())[mask]
    off = np.abs(error - error.mean()) / found["phase_uncertainty"][mask]
    within = [f"{np.mean(off < width):.0%}" for width in (1, 1.96)]
    return f"; {within[0]} and {within[1]} of its pixels lie within 1 and 1.96 of it (asked: 68 and 95 %)"


PANELS: tuple[Callable[[Sequence[Result], Arrays, Detail], Panel | None], ...] = (
    patterns,
    probe_and_light,
    uncertainty,
)


def _small(rgba: np.ndarray, detail: Detail) -> str:
    return data_uri(rgba, detail.small_px, detail.quality)
