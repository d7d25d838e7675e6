"""The report page: contents for the template, which escapes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from .curves import loss_charts
from .explorer_data import PackedData, colour_tables
from .images import Detail
from .results import COLUMNS, Column, Result, by_scan, rows
from .run_loader import as_json, embedded
from .scan_section import scan_section
from .summary_text import advise, caveats, compare_initial_objects, duration, figures, lead, verdict
from .svg_charts import draw
from .sweep_figures import sweep_section
from .sweep_results import Point
from .timings import PARTS, Parts, Timing, parts_of_prediction, times_of_products

HERE = Path(__file__).parent
STAGE_NAMES = {"network": "network", "refined": "refined", "uniform": ""}


def render(
    title: str,
    results: Sequence[Result],
    records: Sequence[dict],
    sweeps: Mapping[str, Sequence[Point]],
    benchmarks: Sequence[Timing],
    version: str,
    packed: PackedData,
    table_sha256: str = "",
) -> str:
    """Return a report as HTML.

    Args:
        title: heading of the page.
        results: metrics and arrays.
        records: training logs.
        sweeps: points of each sweep, by name.
        benchmarks: of the steps; without them the times that the products hold are shown.
        version: of the code that renders the page.
        packed: takes the values that the page shows in detail; those that do not fit into it are left there.
        table_sha256: checksum of the table that is written with the page, which shows that the two belong together.
    """
    scans = by_scan(results)
    sections = [scan_section(found, Detail.for_results(len(results)), packed) for found in scans.values()]
    for shown in sections:
        shown["description"] = _describe_scan(shown["scan"], shown["shape_px"])
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"draw": draw, "as_json": as_json}
    return environment.get_template("page.html").render(
        title=title,
        table_sha256=table_sha256,
        lead=lead([_chosen(found) for found in scans.values()], results, records),
        css=Markup((HERE / "page.css").read_text()),
        js=Markup((HERE / "page.js").read_text() + (HERE / "page.explorer.js").read_text()),
        colour_tables=colour_tables(),
        cards=[_card(found, shown) for found, shown in zip(scans.values(), sections, strict=True)],
        advice=advise([_chosen(found) for found in scans.values()], records),
        caveats=caveats(results),
        columns=_shown_columns(results, records),
        table=_table(results, records),
        sweeps=[sweep_section(name, points) for name, points in sweeps.items() if points],
        sections=sections,
        networks=[_training(record) for record in records],
        times=_times(benchmarks or times_of_products(results, records), measured=bool(benchmarks)),
        parts=_parts(parts_of_prediction(results)),
        versions=_versions(results, records, version),
        settings=_settings(results, records),
        run=embedded(results, records),
    )


def _card(found: Sequence[Result], shown: dict) -> dict:
    """Return the summary of a scan: its best reconstruction from a network, else its best reconstruction."""
    best = _chosen(found)
    baselines = [result for result in found if not result.from_network]
    comparison = None
    if best.from_network and baselines:
        comparison = compare_initial_objects(best, min(baselines, key=_badness))
    level, reason = verdict(best)
    return {
        "scan": best.scan,
        "method": best.method,
        "picture": shown["thumbnail"],
        "level": level,
        "verdict": reason,
        "figures": figures(best),
        "comparison": comparison,
    }


def _chosen(found: Sequence[Result]) -> Result:
    """Return the best result from a network, else the best result."""
    return min([result for result in found if result.from_network] or list(found), key=_badness)


def _badness(result: Result) -> float:
    psnr = result.against_truth("refined", "phase_psnr_truth_range")
    return result.refined["r_factor"] if psnr is None else -psnr


def _describe_scan(scan: dict, shape_px: tuple[int, int]) -> str:
    parts = [
        f"{scan['patterns']} patterns of {scan['size_px']} x {scan['size_px']} px",
        _counts(scan),
        _origin(scan),
    ]
    nominal = ", nominal" if scan["nominal_geometry"] else ""
    pixel_m = scan["pixel_size_m"]
    sides = " x ".join(f"{side * pixel_m * 1e6:.3g}" for side in shape_px)
    parts.append(f"field of view {sides} µm, pixel size {pixel_m * 1e9:.3g} nm{nominal}")
    return "; ".join(parts) + "."


def _origin(scan: dict) -> str:
    labels = scan["metadata"].get("ground_truth_source")
    if labels:
        return f"measured; ground truth from the reconstruction {labels}"
    return "with ground truth" if scan["has_truth"] else "without ground truth"


def _counts(scan: dict) -> str:
    rounded = float(f"{scan['counts_per_pattern']:.3g}")
    return f"{rounded:,.0f} counts per pattern"


def _shown_columns(results: Sequence[Result], records: Sequence[dict]) -> list[Column]:
    """Return the columns that any row has a number in."""
    table = rows(results, records)
    return [column for column in COLUMNS if any(row[column.key] is not None for row in table)]


def _table(results: Sequence[Result], records: Sequence[dict]) -> list[list[dict]]:
    """Return rows of text, grouped by scan, with the best value of each column marked."""
    table, columns = rows(results, records), _shown_columns(results, records)
    groups: dict[str, list[dict]] = {}
    for row in table:
        groups.setdefault(row["scan"], []).append(row)
    return [[_cells(row, group, columns) for row in group] for group in groups.values()]


def _cells(row: dict, group: Sequence[dict], columns: Sequence[Column]) -> dict:
    cells = []
    for column in columns:
        value, std = row[column.key], row.get(f"{column.key}_std")
        text = "–" if value is None else f"{value:{column.digits}}"
        text += "" if std is None else f" ± {std:{column.digits}}"
        candidates = [r[column.key] for r in group if r["stage"] != "uniform" and f"{column.key}_std" not in r]
        known = [candidate for candidate in candidates if candidate is not None]
        top = {"low": min, "high": max}.get(column.better)
        best = top is not None and len(known) > 1 and value == top(known) and row["stage"] != "uniform"
        cells.append({"text": text, "best": best})
    return row | {"label": STAGE_NAMES[row["stage"]], "cells": cells}


def _training(record: dict) -> dict:
    metadata = [
        f"{record['parameters'] / 1e6:.2f} M parameters" if "parameters" in record else "",
        f"{record['steps']} optimiser steps in {duration(record['seconds'])}" if "steps" in record else "",
        f"{record['patterns_per_second']:.0f} patterns/s" if "patterns_per_second" in record else "",
        f"on {record['device']}" if "device" in record else "",
        "trained on " + ", ".join(f"{name} ({count['training']} groups)" for name, count in record["groups"].items())
        if "groups" in record
        else "",
    ]
    return {
        "name": record["method"],
        "description": "; ".join(filter(None, metadata)) + ".",
        "charts": loss_charts(record),
    }


def _times(timings: Sequence[Timing], measured: bool) -> dict:
    table, last = [], None
    for timing in timings:
        cells = [f"{timing.seconds:.1f}"]
        if measured:
            more = (timing.cpu_seconds, timing.memory_mb)
            cells += ["–" if value is None else f"{value:.0f}" for value in more]
        table.append({"step": timing.step, "of": timing.of, "cells": cells, "first": timing.step != last})
        last = timing.step
    columns = ["wall clock (s)", "processor time (s)", "memory (MB)"] if measured else ["wall clock (s)"]
    total = sum(timing.seconds for timing in timings)
    note = f"Total {duration(total)}" + (", with the start-up of each step." if measured else ".")
    return {"rows": table, "columns": columns, "note": note}


def _parts(found: Sequence[Parts]) -> dict:
    """Return seconds and patterns per second of each part of inference; parts that took no time are left out."""
    names = [part for part in PARTS if any(part in each.seconds for each in found)]
    rows = []
    for each in found:
        cells = [f"{each.seconds[n]:.2g} · {each.rates[n]:,.0f}/s" if n in each.rates else "–" for n in names]
        patterns = f"{each.metadata['patterns']} patterns"
        patterns += f" in {each.metadata['groups']} groups" if "groups" in each.metadata else ""
        of = f"{each.of}, {patterns} on {each.metadata['processes']} {each.metadata['device']}"
        rows.append({"of": of, "cells": [*cells, f"{each.rates['end_to_end']:.0f}/s"]})
    return {"columns": [*(name.replace("_", " ") for name in names), "inference in total"], "rows": rows}


def _versions(results: Sequence[Result], records: Sequence[dict], version: str) -> str:
    makers = {each["provenance"]["ptychoflow"] for each in [*(r.metrics for r in results), *records]}
    libraries: dict[str, str] = {}
    for each in [*(result.metrics for result in results), *records]:
        libraries |= each.get("versions", {})
    versions = ", ".join(f"{name} {number}" for name, number in sorted(libraries.items()))
    return f"Made by ptychoflow {', '.join(sorted(makers))}; this page by {version}. With {versions}."


def _settings(results: Sequence[Result], records: Sequence[dict]) -> list[dict]:
    """Return the settings and input checksums of every step, by method and scan."""
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
        text = _text({"provenance": provenance, "evaluate": result.metrics["provenance"]})
        settings.append({"name": f"{result.method}/{result.scan}", "text": text})
    return settings


def _text(data: object) -> str:
    return json.dumps(data, indent=1, sort_keys=True)
