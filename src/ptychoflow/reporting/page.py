"""The page: everything a reader looks at, put into the template, which escapes it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from .images import Detail
from .results import COLUMNS, Column, Result, by_scan, rows
from .run_loader import embedded
from .scan_section import scene
from .summary_text import advise, caveats, compare_starts, duration, figures, lead, verdict
from .svg_charts import Chart, Series, draw
from .sweep_figures import section
from .sweep_results import Point
from .timings import PARTS, Parts, Timing, parts_of_prediction, told_by_steps

HERE = Path(__file__).parent
STAGE_NAMES = {"network": "network", "refined": "refined", "uniform": ""}


def render(
    title: str,
    results: Sequence[Result],
    records: Sequence[dict],
    sweeps: Mapping[str, Sequence[Point]],
    benchmarks: Sequence[Timing],
    version: str,
) -> str:
    """The HTML of a report.

    Args:
        title: its heading.
        results: measures and arrays.
        records: of the trainings.
        sweeps: the points of each, by name.
        benchmarks: of the steps; what products say themselves stands in where there are none.
        version: of the code that renders it.
    """
    scans = by_scan(results)
    scenes = [scene(found, Detail.for_results(len(results))) for found in scans.values()]
    for each in scenes:
        each["facts"] = _scan_facts(each["scan"], each["shape_px"])
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["draw"] = draw
    return environment.get_template("page.html").render(
        title=title,
        lead=lead([_chosen(found) for found in scans.values()], results, records),
        css=Markup((HERE / "page.css").read_text()),
        js=Markup((HERE / "page.js").read_text()),
        cards=[_card(found, each) for found, each in zip(scans.values(), scenes, strict=True)],
        advice=advise([_chosen(found) for found in scans.values()], records),
        caveats=caveats(results),
        columns=_shown_columns(results, records),
        table=_table(results, records),
        sweeps=[section(name, points) for name, points in sweeps.items() if points],
        scenes=scenes,
        networks=[_model(record) for record in records],
        times=_times(benchmarks or told_by_steps(results, records), measured=bool(benchmarks)),
        parts=_parts(parts_of_prediction(results)),
        versions=_versions(results, records, version),
        settings=_settings(results, records),
        run=embedded(results, records),
    )


def loss_charts(record: dict) -> list[Chart]:
    """Losses of a training by epoch with its stages, and what validation measured."""
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
    for name, text in (("patch_error", "validation error of patches"), ("data_error", "validation misfit of counts")):
        if name in validation:
            series = [Series(text, validation["epoch"], validation[name], 1, dots=True)]
            charts.append(Chart(text.capitalize(), "epoch", text.partition(" of ")[0], series, logarithmic=True))
    return [chart for chart in charts if chart.legend]


def _card(found: Sequence[Result], shown: dict) -> dict:
    """The summary of a scan: its best reconstruction from a network, or the best there is."""
    best = _chosen(found)
    flats = [result for result in found if not result.from_network]
    level, why = verdict(best)
    return {
        "scan": best.scan,
        "method": best.method,
        "picture": shown["thumbnail"],
        "level": level,
        "verdict": why,
        "figures": figures(best),
        "starts": compare_starts(best, min(flats, key=_badness)) if best.from_network and flats else None,
    }


def _chosen(found: Sequence[Result]) -> Result:
    """The best from a network, or the best there is."""
    return min([result for result in found if result.from_network] or list(found), key=_badness)


def _badness(result: Result) -> float:
    psnr = result.against_truth("refined", "phase_psnr_truth_range")
    return result.refined["r_factor"] if psnr is None else -psnr


def _scan_facts(scan: dict, shape_px: tuple[int, int]) -> str:
    words = [
        f"{scan['patterns']} patterns of {scan['size_px']} x {scan['size_px']} px",
        _counts(scan),
        _origin(scan),
    ]
    nominal = ", nominal" if scan["nominal_geometry"] else ""
    pixel_m = scan["pixel_size_m"]
    sides = " x ".join(f"{side * pixel_m * 1e6:.3g}" for side in shape_px)
    words.append(f"{sides} µm of the object, pixel {pixel_m * 1e9:.3g} nm{nominal}")
    return "; ".join(words) + "."


def _origin(scan: dict) -> str:
    labels = scan["metadata"].get("labels_from")
    if labels:
        return f"measured; its truth is what {labels} found"
    return "simulated, so the truth is known" if scan["has_truth"] else "measured, no truth"


def _counts(scan: dict) -> str:
    rounded = float(f"{scan['counts_per_pattern']:.3g}")
    return f"{rounded:,.0f} counts each"


def _shown_columns(results: Sequence[Result], records: Sequence[dict]) -> list[Column]:
    """The columns that any row has a number for."""
    table = rows(results, records)
    return [column for column in COLUMNS if any(row[column.key] is not None for row in table)]


def _table(results: Sequence[Result], records: Sequence[dict]) -> list[list[dict]]:
    """Rows of text, by scan, the best value of each column marked."""
    table, columns = rows(results, records), _shown_columns(results, records)
    groups: dict[str, list[dict]] = {}
    for row in table:
        groups.setdefault(row["scan"], []).append(row)
    return [[_cells(row, group, columns) for row in group] for group in groups.values()]


def _cells(row: dict, group: Sequence[dict], columns: Sequence[Column]) -> dict:
    cells = []
    for column in columns:
        value, spread = row[column.key], row.get(f"{column.key}_spread")
        text = "–" if value is None else f"{value:{column.digits}}"
        text += "" if spread is None else f" ± {spread:{column.digits}}"
        rivals = [r[column.key] for r in group if r["stage"] != "uniform" and f"{column.key}_spread" not in r]
        known = [rival for rival in rivals if rival is not None]
        top = {"low": min, "high": max}.get(column.better)
        best = top is not None and len(known) > 1 and value == top(known) and row["stage"] != "uniform"
        cells.append({"text": text, "best": best})
    return row | {"label": STAGE_NAMES[row["stage"]], "cells": cells}


def _model(record: dict) -> dict:
    metadata = [
        f"{record['parameters'] / 1e6:.2f} M parameters" if "parameters" in record else "",
        f"{record['steps']} steps in {duration(record['seconds'])}" if "steps" in record else "",
        f"{record['patterns_per_second']:.0f} patterns/s" if "patterns_per_second" in record else "",
        f"on {record['device']}" if "device" in record else "",
        "trained on " + ", ".join(f"{name} ({count['training']} groups)" for name, count in record["groups"].items())
        if "groups" in record
        else "",
    ]
    return {"name": record["method"], "facts": "; ".join(filter(None, metadata)) + ".", "charts": loss_charts(record)}


def _stage_starts(curves: dict) -> list[tuple[float, str]]:
    """Where each stage after the first begins, epochs."""
    stages, epochs = curves.get("stage", []), curves["epoch"]
    steps = range(1, len(stages))
    return [(epochs[k - 1], f"stage {int(stages[k]) + 1}") for k in steps if int(stages[k]) != int(stages[k - 1])]


def _times(timings: Sequence[Timing], measured: bool) -> dict:
    table, last = [], None
    for timing in timings:
        cells = [f"{timing.seconds:.1f}"]
        if measured:
            more = (timing.cpu_seconds, timing.memory_mb)
            cells += ["–" if value is None else f"{value:.0f}" for value in more]
        table.append({"step": timing.step, "of": timing.of, "cells": cells, "first": timing.step != last})
        last = timing.step
    columns = ["wall clock (s)", "processor (s)", "memory (MB)"] if measured else ["wall clock (s)"]
    total = sum(timing.seconds for timing in timings)
    note = f"{duration(total)} in all, steps one after another" + (", start-up of each included." if measured else ".")
    return {"rows": table, "columns": columns, "note": note}


def _parts(found: Sequence[Parts]) -> dict:
    """Seconds and patterns per second of each part of each prediction; parts that took no time are left out."""
    names = [part for part in PARTS if any(part in each.seconds for each in found)]
    rows = []
    for each in found:
        cells = [f"{each.seconds[n]:.2g} · {each.rates[n]:,.0f}/s" if n in each.rates else "–" for n in names]
        patterns = f"{each.metadata['patterns']} patterns"
        patterns += f" in {each.metadata['groups']} groups" if "groups" in each.metadata else ""
        of = f"{each.of}, {patterns} on {each.metadata['processes']} {each.metadata['device']}"
        rows.append({"of": of, "cells": [*cells, f"{each.rates['end_to_end']:.0f}/s"]})
    return {"columns": [*(name.replace("_", " ") for name in names), "prediction in all"], "rows": rows}


def _versions(results: Sequence[Result], records: Sequence[dict], version: str) -> str:
    makers = {each["provenance"]["ptychoflow"] for each in [*(r.metrics for r in results), *records]}
    libraries: dict[str, str] = {}
    for each in [*(result.metrics for result in results), *records]:
        libraries |= each.get("versions", {})
    words = ", ".join(f"{name} {number}" for name, number in sorted(libraries.items()))
    return f"Made by ptychoflow {', '.join(sorted(makers))}; this page by {version}. With {words}."


def _settings(results: Sequence[Result], records: Sequence[dict]) -> list[dict]:
    """What each step was told, by method and scan, and the checksums of what it was given."""
    settings = [
        {"name": f"train {record['method']}", "text": _text([record["config"], record.get("provenance", {})])}
        for record in records
    ]
    for name, found in by_scan(results).items():
        settings.append({"name": f"scan {name}", "text": _text(found[0].metrics["scan"])})
    for result in results:
        provenance = {
            stage: metadata.get("provenance") for stage, metadata in result.metrics["reconstructions"].items()
        }
        text = _text({"made by": provenance, "evaluate": result.metrics["provenance"]})
        settings.append({"name": f"{result.method}/{result.scan}", "text": text})
    return settings


def _text(data: object) -> str:
    return json.dumps(data, indent=1, sort_keys=True)
