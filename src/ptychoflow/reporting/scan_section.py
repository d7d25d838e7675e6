"""What a report shows of one scan: its objects on one scale in one frame, curves, and the panels below."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.alignment import window
from .images import (
    AMPLITUDE,
    ERROR,
    FIT,
    Detail,
    colour,
    data_uri,
    gradient,
    limits,
    phase_colours,
    scale_bar,
    symmetric_limits,
)
from .results import Result
from .scan_panels import panels
from .svg_charts import Chart, Series, label


@dataclass(frozen=True)
class View:
    """A reconstruction, or the truth, in the frame that a scan's pictures share.

    Attributes:
        key: names it within the page.
        name: names it to a reader.
        score: one line about how good it is.
        object: complex, ``(H, W)``.
        mask: where it is known.
        r_map: the R-factor at the nearest scan position; None for the truth.
        colour: its number among the scan's curves.
    """

    key: str
    name: str
    score: str
    object: np.ndarray
    mask: np.ndarray
    r_map: np.ndarray | None
    colour: int


@dataclass(frozen=True)
class Kind:
    """A way to look at every view: what to show of it, on what scale, in what colours."""

    key: str
    name: str
    of: Callable[[View], np.ndarray | None]
    scale: tuple[float, float]
    colours: str


def scene(results: Sequence[Result], detail: Detail) -> dict:
    """Everything to show of one scan, for the template.

    Args:
        results: of this scan, networks first.
        detail: how finely.
    """
    arrays = [_load(result) for result in results]
    views = _views(results, arrays)
    kinds = _kinds(views)
    first = results[0].metrics
    return {
        "name": results[0].scan,
        "scan": first["scan"],
        "views": [{"key": view.key, "name": view.name, "score": view.score, "colour": view.colour} for view in views],
        "kinds": [_tiles(kind, views, detail) for kind in kinds],
        "thumbnail": _thumbnail(kinds[0], views, detail),
        "charts": [chart for chart in [*progress_charts(results), ring_chart(results)] if chart is not None],
        "panels": panels(results, arrays, detail),
        "scale_bar": scale_bar(first["scan"]["pixel_size_m"], views[0].object.shape[1]),
        "shape_px": views[0].object.shape,
    }


def progress_charts(results: Sequence[Result]) -> list[Chart]:
    """Phase PSNR and R-factor against the processor's seconds of refinement, a curve for each result."""
    psnr, r_factor = [], []
    for number, result in enumerate(results):
        progress = result.metrics["progress"]
        snapshots = progress["snapshots"]
        start = "from the network" if result.from_network else "from a flat object"
        name, colour_number = f"{result.method}, {start}", _colour(results, number, "refined")
        seconds = progress["cpu_seconds"]
        psnr.append(Series(name, snapshots["cpu_seconds"], snapshots["phase_psnr"], colour_number, dots=True))
        r_factor.append(Series(name, seconds, progress["r_factor"], colour_number))
    label = "refinement (s of processor time)"
    charts = [
        Chart("Phase against time of refinement", label, "phase PSNR (dB)", psnr, from_zero=True),
        Chart("R-factor against time of refinement", label, "R-factor", r_factor, logarithmic=True, from_zero=True),
    ]
    return [chart for chart in charts if chart.legend]


def ring_chart(results: Sequence[Result]) -> Chart | None:
    """Fourier ring correlations with the truth, or of even and odd patterns, and their thresholds."""
    series, half_bit = [], None
    for number, result in enumerate(results):
        for stage in result.stages:
            truth, halves = result.metrics["stages"][stage]["against_truth"], result.metrics["split_half"].get(stage)
            name, shade = f"{result.method}, {stage}", _colour(results, number, stage)
            for found, words in ((truth, ""), (halves, ", even and odd")):
                if found is None:
                    continue
                curve, dashed = found["frc"], bool(words)
                frequency = curve["frequency_cycles_per_px"]
                series.append(Series(name + words, frequency, curve["correlation"], shade, dashed=dashed))
                half_bit = half_bit or Series("half-bit threshold", frequency, curve["half_bit"], 5, dashed=True)
    if half_bit is None:
        return None
    return Chart(
        "Fourier ring correlation",
        f"spatial frequency (cycles per px of {results[0].metrics['scan']['pixel_size_m'] * 1e9:.3g} nm)",
        "ring correlation",
        [*series, half_bit],
        x_limits=(0, 0.5),
        y_limits=(-0.05, 1.05),
        levels=[(1 / 2, "1/2"), (1 / 7, "1/7")],
    )


def _load(result: Result) -> dict[str, np.ndarray]:
    try:
        with np.load(result.arrays, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{result.arrays} is damaged ({error}): evaluate again") from None


def _views(results: Sequence[Result], arrays: Sequence[Mapping[str, np.ndarray]]) -> list[View]:
    """Every stage of every result and the truth, moved into the frame of the first."""
    origin, shape = arrays[0]["origin"], arrays[0]["refined"].shape
    views = []
    for number, (result, found) in enumerate(zip(results, arrays, strict=True)):
        corner = np.rint(origin - found["origin"]).astype(int)
        for stage in result.stages:
            image, mask, r_map = (
                window(found[name], corner, shape) for name in (stage, f"{stage}_mask", f"{stage}_r_map")
            )
            name = f"{result.method}, {'network' if stage == 'network' else _refined_name(result)}"
            known = mask[0].astype(bool) & mask[1]
            shade = _colour(results, number, stage)
            views.append(View(f"{number}-{stage}", name, _score(result, stage), image[0], known, r_map[0], shade))
    if "truth" in arrays[0]:
        mask = arrays[0]["refined_mask"].astype(bool)
        views.append(View("truth", "truth", "what was simulated", arrays[0]["truth"], mask, None, 4))
    return views


def _refined_name(result: Result) -> str:
    return "refined" if result.from_network else "iterated from flat"


def _colour(results: Sequence[Result], number: int, stage: str) -> int:
    """The number of a stage among all of a scan, the truth's left out."""
    before = sum(len(result.stages) for result in results[:number])
    index = before + results[number].stages.index(stage)
    return index % 4


def _score(result: Result, stage: str) -> str:
    r_factor = f"R {result.metrics['stages'][stage]['r_factor']:.4f}"
    psnr = result.against_truth(stage, "phase_psnr_truth_range")
    return r_factor if psnr is None else f"{psnr:.1f} dB, {r_factor}"


def _kinds(views: Sequence[View]) -> list[Kind]:
    """Phase and amplitude on the scale of the truth, or of what was refined first; errors and fits on one for all."""
    reference = next((v for v in views if v.key == "truth"), None) or next(v for v in views if "refined" in v.key)

    def phase(view: View) -> np.ndarray:
        return np.angle(view.object)

    def amplitude(view: View) -> np.ndarray:
        return np.abs(view.object)

    def error(view: View) -> np.ndarray | None:
        return None if view.r_map is None else np.angle(view.object * reference.object.conj())

    def misfit(view: View) -> np.ndarray | None:
        return view.r_map

    kinds = [
        Kind("phase", "Phase (rad)", phase, *phase_colours(phase(reference), reference.mask)),
        Kind("amplitude", "Amplitude", amplitude, limits(amplitude(reference), reference.mask), AMPLITUDE),
    ]
    if reference.key == "truth":
        kinds.append(Kind("error", "Phase error (rad)", error, symmetric_limits(*_pooled(error, views)), ERROR))
    misfit_scale = (0.0, limits(*_pooled(misfit, views))[1])
    return [*kinds, Kind("misfit", "R-factor by position", misfit, misfit_scale, FIT)]


def _pooled(of: Callable[[View], np.ndarray | None], views: Sequence[View]) -> tuple[np.ndarray, np.ndarray]:
    """One picture of all views that have one, and where it is known."""
    shown = [view for view in views if of(view) is not None]
    return np.stack([of(view) for view in shown]), np.stack([view.mask for view in shown])


def _tiles(kind: Kind, views: Sequence[View], detail: Detail) -> dict:
    low, high = kind.scale
    tiles = {
        view.key: data_uri(colour(kind.of(view), view.mask, kind.scale, kind.colours), detail.tile_px, detail.quality)
        for view in views
        if kind.of(view) is not None
    }
    return {
        "key": kind.key,
        "name": kind.name,
        "tiles": tiles,
        "gradient": gradient(kind.colours),
        "ticks": [_tick(value, high - low) for value in (low, (low + high) / 2, high)],
    }


def _tick(value: float, span: float) -> str:
    """A number on a colour bar, to a thousandth of its span."""
    return label(round(value, 3 - math.ceil(math.log10(span))) + 0.0)  # no minus zero


def _thumbnail(kind: Kind, views: Sequence[View], detail: Detail) -> str:
    best = next(view for view in views if "refined" in view.key)
    return data_uri(colour(kind.of(best), best.mask, kind.scale, kind.colours), detail.small_px, detail.quality)
