"""Report of an inspection: text for people, data for programs, a ready config, and a picture."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from ..config import Orientation
from ..core.scan import Scan
from ..preprocessing.position_transform import oriented
from ..preprocessing.scan_orientation import Finding
from ..preprocessing.trial_reconstruction import most_structured_region, reconstruct_trials
from .inspection import Inspection, format_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EFFORTLESS = (64, 128, 256)
"""Sides that patterns of other sizes are cropped to in a ready config, px."""
MOST_ARRAYS = 60
"""Arrays of a file that are listed."""


def lines(inspection: Inspection) -> list[str]:
    """Return the findings as lines of text."""
    measurement, detector, metadata = inspection.measurement, inspection.detector, inspection.metadata
    count, height, width = measurement.patterns.shape
    photons = "{:.4g} on average, {:.4g} to {:.4g}".format(*detector.photons)
    rows = [
        ("format", format_name(inspection)),
        ("patterns", f"{count} of {height} x {width} px, {measurement.patterns.dtype}"),
        ("photons", photons + ("" if detector.whole else "; not integers")),
        ("noise", f"Fano factor {detector.fano:.2f}: {detector.noise}"),
        (
            "direct beam",
            f"in the {'corner' if detector.corner else 'middle'}, centre of mass at {_point(detector.beam)} px",
        ),
        ("bad pixels", f"{len(detector.hot)} hot, {len(detector.dead)} dead"),
        ("lengths", _lengths(inspection)),
    ]
    if metadata:
        step, beam, overlap = metadata["step_px"], metadata["beam_diameter_px"], metadata["overlap"]
        rows.append(("scan", f"{_point(metadata['extent_px'])} px, step {step:.2f} px"))
        rows.append(("overlap", f"{overlap:.0%} of the beam's area; beam diameter {beam:.1f} px"))
    if inspection.finding is not None:
        rows.append(("orientation", _verdict(inspection.finding)))
    if inspection.source.defocus_m is not None:
        rows.append(("defocus", f"{inspection.source.defocus_m:.3g} m from focus to sample"))
    text = _contents(inspection)
    width = max(len(name) for name, _ in rows)
    text += [f"{name:<{width}}  {value}" for name, value in rows]
    text += ["", *table(inspection.finding)] if inspection.finding is not None else []
    text += ["", *(f"missing: {item}" for item in inspection.missing)] if inspection.missing else []
    return text + (["", *(f"doubt: {item}" for item in inspection.warnings)] if inspection.warnings else [])


def table(finding: Finding) -> list[str]:
    """Return a table of all candidate orientations, the best first."""
    rows = sorted(zip(finding.errors, finding.sigmas, finding.orientations), key=lambda row: row[0])
    head = f"{'positions':<28}{'R-factor':>10}{'worse by':>15}"
    return [head, *(f"{name_of(o):<28}{error:>10.5f}{sigma:>10.1f} s.e." for error, sigma, o in rows)]


def name_of(orientation: Orientation) -> str:
    """Return the name of an orientation for people."""
    words = [word for word in ("transpose", "flip_y", "flip_x") if getattr(orientation, word)]
    rotation = [f"rotation {orientation.rotation_deg:.1f} deg"] if orientation.rotation_deg else []
    return ", ".join(words + rotation) or "as in the file"


def as_data(inspection: Inspection) -> dict[str, Any]:
    """Return the findings as plain data."""
    finding, detector = inspection.finding, inspection.detector
    return {
        "file": inspection.path.name,
        "source": inspection.source.model_dump(mode="json", exclude_defaults=True),
        "contents": [
            {
                "name": info.name,
                "shape": list(info.shape),
                "dtype": str(info.dtype),
                "unit": info.unit,
                "value": info.value,
            }
            for info in inspection.contents
        ],
        "guesses": dict(inspection.guess.reasons),
        "packing": inspection.packing,
        "ready": not inspection.placeholders,
        "shape": list(inspection.measurement.patterns.shape),
        "detector": {key: value for key, value in vars(detector).items()} | {"noise": detector.noise},
        "metadata": inspection.metadata,
        "orientation": None
        if finding is None
        else {
            "best": finding.best.model_dump(mode="json"),
            "sure": finding.sure,
            "sigma": finding.sigma,
            "tried": [
                {"orientation": o.model_dump(mode="json"), "error": error, "sigma": sigma}
                for o, error, sigma in zip(finding.orientations, finding.errors, finding.sigmas)
            ],
        },
        "missing": list(inspection.missing),
        "warnings": list(inspection.warnings),
    }


def ready_config(inspection: Inspection) -> str:
    """Return a config that reads the file and reconstructs it by rPIE; comments name what is missing or doubtful."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", inspection.measurement.name).strip("-") or "scan"
    source = inspection.source.model_copy(update={"file": str(inspection.path.resolve())})
    entry: dict = {"source": source.model_dump(mode="json", exclude_defaults=True)}
    if inspection.packing:
        entry["packing"] = dict(inspection.packing)
    side = min(inspection.measurement.patterns.shape[1:])
    if side not in EFFORTLESS:
        crop = max((size for size in EFFORTLESS if size < side), default=side - side % 2)
        entry["packing"] = entry.get("packing", {}) | {"crop": crop}
    config = {
        "title": name,
        "scans": {name: entry},
        "methods": {"rpie": {"initial_object": "uniform", "reconstruct": [name]}},
        "refinement": {"epochs": 20, "probe_start_epoch": 2},  # a probe that is not refined explains no measurement
    }
    head = [f"# What ptychoflow found in {inspection.path.name}. Run it: ptychoflow run, and the path of this file"]
    head += [f"# MISSING in the file, so check what stands here: {what}" for what in inspection.missing]
    head += [f"# DOUBT: {what}" for what in inspection.warnings]
    return "\n".join([*head, yaml.safe_dump(config, sort_keys=False)])


def draw(inspection: Inspection, path: Path) -> None:
    """Draw mean pattern, positions, errors of the orientations, and trial objects of the best and the worst one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.4), layout="constrained")
    panels = figure.subplots(1, 5)
    for panel in panels:
        panel.set_axis_off()
    _draw_pattern(panels[0], inspection)
    if inspection.scan is not None:
        _draw_positions(panels[1], inspection.scan, inspection.source.orientation)
    if inspection.scan is not None and inspection.finding is not None:
        _draw_errors(panels[2], inspection.finding)
        _draw_images(panels[3:], inspection.scan, inspection.finding)
    figure.savefig(path, dpi=110)


def _contents(inspection: Inspection) -> list[str]:
    """Return a table of the arrays of a file, with what is guessed of them."""
    if not inspection.contents:
        return []
    guesses = {
        getattr(inspection.guess.keys, key).name: f"{key}: {reason}" for key, reason in inspection.guess.reasons.items()
    }
    shown = sorted(inspection.contents, key=lambda info: info.name not in guesses)[:MOST_ARRAYS]
    rows = []
    for info in (info for info in inspection.contents if info in shown):
        shape = "x".join(map(str, info.shape)) or "number"
        value = f"{info.value:.6g}" if info.value is not None and info.size == 1 else ""
        rows.append(
            (info.name, shape, str(info.dtype), " ".join(filter(None, (value, info.unit))), guesses.get(info.name))
        )
    widths = [max(len(str(row[column])) for row in rows) for column in range(4)]
    text = ["contents"]
    for row in rows:
        cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths))
        text.append(f"  {cells}  {'<- ' + guesses[row[0]] if row[0] in guesses else ''}".rstrip())
    more = len(inspection.contents) - len(shown)
    return [*text, *([f"  and {more} more"] if more > 0 else []), ""]


def _draw_pattern(panel: "Axes", inspection: Inspection) -> None:
    if inspection.scan is None:
        return
    some = np.asarray(inspection.scan.counts[:: max(1, len(inspection.scan) // 64)])
    panel.imshow(np.log1p(some.mean(0)), cmap="magma")
    panel.plot(*inspection.detector.beam[::-1], "+", color="cyan")
    panel.set_title("mean pattern, log; + centre of mass")


def _draw_positions(panel: "Axes", scan: Scan, orientation: Orientation) -> None:
    y, x = oriented(scan.positions, orientation).T
    panel.set_axis_on()
    panel.plot(x, y, ".", markersize=2)
    panel.set_aspect("equal")
    panel.invert_yaxis()
    panel.set_title("positions, px")


def _draw_errors(panel: "Axes", finding: Finding) -> None:
    order = np.argsort(finding.errors)[::-1]
    panel.set_axis_on()
    names = [name_of(finding.orientations[i]) for i in order]
    least, most = min(finding.errors), max(finding.errors)
    colours = ["tab:green" if finding.errors[i] == least else "tab:gray" for i in order]
    panel.barh(names, [finding.errors[i] for i in order], color=colours)
    panel.tick_params(labelsize=7)
    panel.set_xlim(least - 0.2 * (most - least), most + 0.1 * (most - least))
    panel.set_title(f"R-factor; best by {finding.sigma:.0f} s.e.")


def _draw_images(panels: "Sequence[Axes]", scan: Scan, finding: Finding) -> None:
    part = most_structured_region(scan, 240)
    best, worst = finding.best, finding.orientations[int(np.argmax(finding.errors))]
    positions = torch.from_numpy(np.stack([oriented(part.positions, o) for o in (best, worst)]))
    images = reconstruct_trials(part, positions, 8)[1].numpy()
    inner = (slice(part.size // 2, -part.size // 2),) * 2
    for panel, image, which, orientation in zip(panels, images, ("best", "worst"), (best, worst)):
        phase = np.angle(image / image[inner].mean())
        low, high = np.percentile(phase[inner] if phase[inner].size else phase, (1, 99))
        panel.imshow(phase, cmap="gray", vmin=low, vmax=high)
        panel.set_title(f"phase, {which}: {name_of(orientation)}", fontsize=9)


def _lengths(inspection: Inspection) -> str:
    if any(what.startswith("lengths") for what in inspection.missing):
        return "not in the file"
    if inspection.scan is None:
        return "in the file"
    geometry = inspection.scan.geometry
    if geometry.near_field:
        return (
            f"wavelength {geometry.wavelength_m:.4g} m, object pixel {geometry.pixel_size_m:.4g} m, near field over "
            f"{geometry.effective_distance_m:.4g} m, magnification {geometry.magnification:.4g}"
        )
    return f"wavelength {geometry.wavelength_m:.4g} m, object pixel {geometry.pixel_size_m:.4g} m"


def _verdict(finding: Finding) -> str:
    verdict = "certain" if finding.sure else "UNCERTAIN"
    return (
        f"{name_of(finding.best)}: {verdict}, by {finding.sigma:.1f} standard errors over {finding.patterns} patterns"
    )


def _point(values: "Iterable[float]") -> str:
    return "({})".format(", ".join(f"{value:.1f}" for value in values))
