"""The section of one scan in a report: objects on one scale in one frame, charts, and panels."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics.alignment import window
from .curves import progress_charts, results_frc_chart, stage_colour
from .explorer_data import PackedData, explorer_data
from .images import (
    AMPLITUDE,
    ERROR,
    MAGNITUDE,
    Detail,
    colour,
    data_uri,
    gradient,
    limits,
    phase_colours,
    scale_bar,
    symmetric_limits,
)
from .result_schema import read_figure_arrays
from .results import Result
from .scan_panels import panels
from .svg_charts import label


@dataclass(frozen=True)
class ObjectView:
    """A reconstruction or the ground truth, in the frame that the images of a scan share.

    Attributes:
        key: identifier within the page.
        name: shown to a reader.
        score: its metrics in one line.
        object: complex, ``(H, W)``.
        mask: True where it is known, ``(H, W)``.
        r_map: R-factor of the nearest pattern, ``(H, W)``; None for the ground truth.
        colour: number of its colour in the charts.
    """

    key: str
    name: str
    score: str
    object: np.ndarray
    mask: np.ndarray
    r_map: np.ndarray | None
    colour: int


@dataclass(frozen=True)
class Quantity:
    """A quantity shown of every view: how to compute it, its range and its colour map."""

    key: str
    name: str
    compute: Callable[[ObjectView], np.ndarray | None]
    scale: tuple[float, float]
    colours: str


def scan_section(results: Sequence[Result], detail: Detail, packed: PackedData) -> dict:
    """Return everything that the template shows of one scan.

    Args:
        results: of this scan, networks first.
        detail: size and quality of the images.
        packed: where the values that the explorer shows go.

    Raises:
        ValueError: if the arrays of a result are damaged.
    """
    arrays = [_load(result) for result in results]
    views = _views(results, arrays)
    quantities = _quantities(views)
    first = results[0].metrics
    return {
        "name": results[0].scan,
        "scan": first["scan"],
        "views": [{"key": view.key, "name": view.name, "score": view.score, "colour": view.colour} for view in views],
        "kinds": [_tiles(quantity, views, detail) for quantity in quantities],
        "thumbnail": _thumbnail(quantities[0], views, detail),
        "charts": [chart for chart in [*progress_charts(results), results_frc_chart(results)] if chart is not None],
        "panels": panels(results, arrays, detail),
        "scale_bar": scale_bar(first["scan"]["pixel_size_m"], views[0].object.shape[1]),
        "shape_px": views[0].object.shape,
        "explorer": explorer_data(
            results, arrays, [(view.key, view.name, view.object, view.mask) for view in views], packed
        ),
    }


def _load(result: Result) -> dict[str, np.ndarray]:
    try:
        return read_figure_arrays(result.arrays, result.stages, len(result.metrics["patterns"]))
    except (ValueError, OSError) as error:
        raise ValueError(f"{result.arrays} is damaged ({error}): run `ptychoflow evaluate` again") from None


def _views(results: Sequence[Result], arrays: Sequence[Mapping[str, np.ndarray]]) -> list[ObjectView]:
    """Return every stage of every result and the ground truth, in the frame of the first result."""
    origin, shape = arrays[0]["origin"], arrays[0]["refined"].shape
    views = []
    for number, (result, found) in enumerate(zip(results, arrays, strict=True)):
        corner = np.rint(origin - found["origin"]).astype(int)
        for stage in result.stages:
            image, inside = window(found[stage], corner, shape)
            known = window(found[f"{stage}_mask"], corner, shape)[0].astype(bool) & inside
            r_map = window(found[f"{stage}_r_map"], corner, shape)[0]
            name = f"{result.method}, {'network' if stage == 'network' else _refined_name(result)}"
            shade = stage_colour(results, number, stage)
            views.append(ObjectView(f"{number}-{stage}", name, _score(result, stage), image, known, r_map, shade))
    if "truth" in arrays[0]:
        mask = arrays[0]["refined_mask"].astype(bool)
        views.append(ObjectView("truth", "ground truth", "", arrays[0]["truth"], mask, None, 4))
    return views


def _refined_name(result: Result) -> str:
    return "refined" if result.from_network else "refined from a uniform object"


def _score(result: Result, stage: str) -> str:
    r_factor = f"R {result.metrics['stages'][stage]['r_factor']:.4f}"
    psnr = result.against_truth(stage, "phase_psnr_truth_range")
    return r_factor if psnr is None else f"{psnr:.1f} dB, {r_factor}"


def _quantities(views: Sequence[ObjectView]) -> list[Quantity]:
    """Return the quantities to show.

    Phase and amplitude have the range of the ground truth, or of the first refined object. Errors and R-factors have
    one range for all views.
    """
    reference = next((v for v in views if v.key == "truth"), None) or next(v for v in views if "refined" in v.key)

    def phase(view: ObjectView) -> np.ndarray:
        return np.angle(view.object)

    def amplitude(view: ObjectView) -> np.ndarray:
        return np.abs(view.object)

    def error(view: ObjectView) -> np.ndarray | None:
        return None if view.r_map is None else np.angle(view.object * reference.object.conj())

    def r_factor(view: ObjectView) -> np.ndarray | None:
        return view.r_map

    quantities = [
        Quantity("phase", "Phase (rad)", phase, *phase_colours(phase(reference), reference.mask)),
        Quantity("amplitude", "Amplitude", amplitude, limits(amplitude(reference), reference.mask), AMPLITUDE),
    ]
    if reference.key == "truth":
        error_range = symmetric_limits(*_pooled(error, views))
        quantities.append(Quantity("error", "Phase error (rad)", error, error_range, ERROR))
    r_factor_range = (0.0, limits(*_pooled(r_factor, views))[1])
    return [*quantities, Quantity("r_factor", "R-factor by position", r_factor, r_factor_range, MAGNITUDE)]


def _pooled(
    compute: Callable[[ObjectView], np.ndarray | None], views: Sequence[ObjectView]
) -> tuple[np.ndarray, np.ndarray]:
    """Stack a quantity over the views that have it, with their masks, each ``(K, H, W)``."""
    shown = [(values, view.mask) for view in views if (values := compute(view)) is not None]
    return np.stack([values for values, _ in shown]), np.stack([mask for _, mask in shown])


def _tiles(quantity: Quantity, views: Sequence[ObjectView], detail: Detail) -> dict:
    low, high = quantity.scale
    tiles = {
        view.key: data_uri(colour(values, view.mask, quantity.scale, quantity.colours), detail.tile_px, detail.quality)
        for view in views
        if (values := quantity.compute(view)) is not None
    }
    return {
        "key": quantity.key,
        "name": quantity.name,
        "tiles": tiles,
        "gradient": gradient(quantity.colours),
        "ticks": [_tick(value, high - low) for value in (low, (low + high) / 2, high)],
    }


def _tick(value: float, span: float) -> str:
    """Format a number on a colour bar, to a thousandth of its span."""
    return label(round(value, 3 - math.ceil(math.log10(span))) + 0.0)  # no minus zero


def _thumbnail(phase: Quantity, views: Sequence[ObjectView], detail: Detail) -> str:
    best = next(view for view in views if "refined" in view.key)
    low, high = phase.scale
    rgba = colour(np.angle(best.object), best.mask, (low, high), phase.colours)
    return data_uri(rgba, detail.small_px, detail.quality)
