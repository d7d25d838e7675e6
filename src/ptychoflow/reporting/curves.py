"""The curves of a report as charts, each described once: losses, refinement progress, Fourier ring correlations."""

from collections.abc import Collection, Mapping, Sequence

from .results import Result
from .svg_charts import Chart, Series

HALF_BIT_COLOUR = 5


def loss_charts(record: dict) -> list[Chart]:
    """Return the losses of a training by epoch, marked where a stage begins, and its validation errors.

    Args:
        record: training log that ``train`` wrote.
    """
    curves = record["curves"]
    names = {"loss": "loss", "supervised": "supervised loss", "physics": "physics loss"}
    losses = [
        Series(text, curves["epoch"], curves[name], number)
        for number, (name, text) in enumerate(names.items())
        if name in curves
    ]
    starts = _stage_starts(curves)
    validation = record.get("validation", {})
    charts = [Chart("Losses", "epoch", "loss", losses, logarithmic=True, from_zero=True, marks=starts)]
    for name, title, unit in (
        ("patch_error", "Validation error of patches", "validation error"),
        ("data_error", "Validation residual of counts", "validation residual"),
    ):
        if name in validation:
            series = [Series(title.lower(), validation["epoch"], validation[name], 1, dots=True)]
            charts.append(Chart(title, "epoch", unit, series, logarithmic=True))
    return [chart for chart in charts if chart.legend]


def progress_charts(results: Sequence[Result]) -> list[Chart]:
    """Return phase PSNR and R-factor against the processor time of refinement, a curve for each result.

    Args:
        results: of one scan.
    """
    psnr, r_factor = [], []
    for number, result in enumerate(results):
        progress = result.metrics["progress"]
        snapshots = progress["snapshots"]
        initial = "network" if result.from_network else "uniform"
        name, colour = f"{result.method}, {initial} initial object", stage_colour(results, number, "refined")
        psnr.append(Series(name, snapshots["cpu_seconds"], snapshots["phase_psnr"], colour, dots=True))
        r_factor.append(Series(name, progress["cpu_seconds"], progress["r_factor"], colour))
        if held_out := progress.get("held_out_r_factor"):
            held_out_name = f"{result.method}, held-out pixels"
            r_factor.append(Series(held_out_name, progress["cpu_seconds"], held_out, colour, dashed=True))
    time = "refinement (s of processor time)"
    charts = [
        Chart("Phase PSNR during refinement", time, "phase PSNR (dB)", psnr, from_zero=True),
        Chart("R-factor during refinement", time, "R-factor", r_factor, logarithmic=True, from_zero=True),
    ]
    return [chart for chart in charts if chart.legend]


def results_frc_chart(results: Sequence[Result]) -> Chart | None:
    """Return the Fourier ring correlations with the ground truth and between halves; None where there are none.

    Args:
        results: of one scan.
    """
    curves: dict[str, dict] = {}
    colours: dict[str, int] = {}
    halves = set()
    for number, result in enumerate(results):
        for stage in result.stages:
            name = f"{result.method}, {stage}"
            split = f"{name}, even and odd"
            for key, found in (
                (name, result.metrics["stages"][stage]["against_truth"]),
                (split, result.metrics["split_half"].get(stage)),
            ):
                if found is not None:
                    curves[key], colours[key] = found["frc"], stage_colour(results, number, stage)
            halves.add(split)
    return frc_chart(curves, results[0].metrics["scan"]["pixel_size_m"], colours, halves) if curves else None


def frc_chart(
    curves: Mapping[str, dict],
    pixel_size_m: float,
    colours: Mapping[str, int] | None = None,
    dashed: Collection[str] = (),
) -> Chart:
    """Return Fourier ring correlations with the thresholds 1/2, 1/7 and half-bit.

    Args:
        curves: summaries of :class:`ptychoflow.metrics.frc.RingCorrelation`, by name; at least one.
        pixel_size_m: pixel size of the object, m.
        colours: number of each curve's colour; in order without it.
        dashed: names of the curves to dash.
    """
    colours = colours or {name: number for number, name in enumerate(curves)}
    series = [
        Series(name, curve["frequency_cycles_per_px"], curve["correlation"], colours[name], dashed=name in dashed)
        for name, curve in curves.items()
    ]
    first = next(iter(curves.values()))
    threshold = Series(
        "half-bit threshold", first["frequency_cycles_per_px"], first["half_bit"], HALF_BIT_COLOUR, dashed=True
    )
    return Chart(
        "Fourier ring correlation",
        f"spatial frequency (cycles per px of {pixel_size_m * 1e9:.3g} nm)",
        "ring correlation",
        [*series, threshold],
        x_limits=(0, 0.5),
        y_limits=(-0.05, 1.05),
        levels=[(1 / 2, "1/2"), (1 / 7, "1/7")],
    )


def stage_colour(results: Sequence[Result], number: int, stage: str) -> int:
    """Return the colour of a stage of result ``number``: the same in every chart and picture of a scan."""
    before = sum(len(result.stages) for result in results[:number])
    return (before + results[number].stages.index(stage)) % 4


def _stage_starts(curves: dict) -> list[tuple[float, str]]:
    """Return the epoch at which each stage after the first begins, with its name."""
    stages, epochs = curves.get("stage", []), curves["epoch"]
    steps = range(1, len(stages))
    return [(epochs[k - 1], f"stage {int(stages[k]) + 1}") for k in steps if int(stages[k]) != int(stages[k - 1])]
