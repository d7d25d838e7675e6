"""Inspect a measurement: what is this file, what is missing, how does the scan lie on the detector, how is it read?"""

import logging
import re
import time
from pathlib import Path

import numpy as np
import yaml

from ..config import Orientation, Source
from ..io.atomic import atomic_dir, atomic_file, write_json
from ..preprocessing.scan_orientation import Finding
from ..readers.download import resolve_path
from ..readers.inspection import Inspection, format_name, inspect_file

logger = logging.getLogger(__name__)

FILES = ("config.yaml", "inspection.json", "inspection.png")
"""What the folder of an inspection holds."""
EFFORTLESS = (64, 128, 256)
"""Sides that a first reconstruction cuts patterns to."""


def inspect(source: Source, output: Path | None = None) -> str:
    """Inspect a measurement: its format, what is missing, and how its scan lies on the detector.

    Reads a measurement of any format. Makes text: what the file holds, what is missing and how to give it, and the
    orientation of the positions that fits best. With ``output`` it makes a folder with a config that is ready to run,
    the findings as JSON and a picture.

    Args:
        source: the file, and what is already known about it.
        output: a folder for ``config.yaml``, ready to run, ``inspection.json`` and ``inspection.png``; nothing is
            written without it.

    Returns:
        What was found, as lines of text.

    Raises:
        FileNotFoundError: if the file is nowhere.
        ValueError: if it is no format known, or damaged.

    Example:
        ptychoflow inspect measurement.h5 --output inspections/measurement
    """
    began = time.perf_counter()
    path = resolve_path(source)
    inspection = inspect_file(path, source)
    if output is not None:
        with atomic_dir(output, FILES) as partial:
            write_json(partial / "inspection.json", as_data(inspection))
            with atomic_file(partial / "config.yaml") as file:
                file.write_text(ready_config(inspection))
            draw(inspection, partial / "inspection.png")
        logger.info("wrote %s: config.yaml is ready to run", output)
    logger.info("inspected %s in %.1f s", path, time.perf_counter() - began)
    return "\n".join(lines(inspection))


def lines(inspection: Inspection) -> list[str]:
    """What was found, for people."""
    found, detector, metadata = inspection.found, inspection.detector, inspection.metadata
    count, height, width = found.patterns.shape
    photons = "{:.4g} on average, {:.4g} to {:.4g}".format(*detector.photons)
    rows = [
        ("format", format_name(inspection)),
        ("patterns", f"{count} of {height} x {width} px, {found.patterns.dtype}"),
        ("photons each", photons + ("" if detector.whole else "; not whole numbers")),
        ("noise", f"Fano factor {detector.fano:.2f}: {detector.noise}"),
        ("direct beam", f"in the {'corner' if detector.corner else 'middle'}, light around {_point(detector.beam)} px"),
        ("bad pixels", f"{len(detector.hot)} hot, {len(detector.dead)} dead"),
        ("lengths", _lengths(inspection)),
    ]
    if metadata:
        step, beam, overlap = metadata["step_px"], metadata["beam_diameter_px"], metadata["overlap"]
        rows.append(("scan", f"{_point(metadata['extent_px'])} px, step {step:.2f} px"))
        rows.append(("overlap", f"{overlap:.0%} of the beam's area; the beam is {beam:.1f} px wide"))
    if inspection.finding is not None:
        rows.append(("orientation", _verdict(inspection.finding)))
    width = max(len(name) for name, _ in rows)
    said = [f"{name:<{width}}  {text}" for name, text in rows]
    said += ["", *table(inspection.finding)] if inspection.finding is not None else []
    said += ["", *(f"missing: {what}" for what in inspection.missing)] if inspection.missing else []
    return said + (["", *(f"doubt: {what}" for what in inspection.warnings)] if inspection.warnings else [])


def table(finding: Finding) -> list[str]:
    """Every orientation that was tried, the best first."""
    rows = sorted(zip(finding.errors, finding.sigmas, finding.orientations), key=lambda row: row[0])
    head = f"{'positions':<28}{'R-factor':>10}{'worse by':>15}"
    return [head, *(f"{name_of(o):<28}{error:>10.5f}{sigma:>10.1f} s.e." for error, sigma, o in rows)]


def name_of(orientation: Orientation) -> str:
    """An orientation in words."""
    words = [word for word in ("transpose", "flip_y", "flip_x") if getattr(orientation, word)]
    turn = [f"turn {orientation.rotation_deg:.1f} deg"] if orientation.rotation_deg else []
    return ", ".join(words + turn) or "as in the file"


def as_data(inspection: Inspection) -> dict:
    """What was found, for programs."""
    finding, detector = inspection.finding, inspection.detector
    return {
        "file": inspection.path.name,
        "source": inspection.source.model_dump(mode="json", exclude_defaults=True),
        "shape": list(inspection.found.patterns.shape),
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
    """A whole config that reads the file and reconstructs it from a flat object, with what is nominal told on top."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", inspection.found.name).strip("-") or "scan"
    source = inspection.source.model_copy(update={"file": str(inspection.path.resolve())})
    entry: dict = {"source": source.model_dump(mode="json", exclude_defaults=True)}
    side = min(inspection.found.patterns.shape[1:])
    if side not in EFFORTLESS:
        entry["packing"] = {"crop": max((size for size in EFFORTLESS if size < side), default=side - side % 2)}
    config = {
        "title": name,
        "scans": {name: entry},
        "methods": {"flat": {"initial_object": "uniform", "reconstruct": [name]}},
        "refinement": {"epochs": 20, "probe_start_epoch": 2},  # a probe that is not refined explains no measurement
    }
    head = [f"# What ptychoflow found in {inspection.path.name}. Run it: make run CONFIG=the path of this file"]
    head += [f"# MISSING in the file, so check what stands here: {what}" for what in inspection.missing]
    head += [f"# DOUBT: {what}" for what in inspection.warnings]
    return "\n".join([*head, yaml.safe_dump(config, sort_keys=False)])


def draw(inspection: Inspection, path: Path) -> None:
    """The mean pattern, the positions, how each orientation fits, and a first image in the best and the next one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.4), layout="constrained")
    panels = figure.subplots(1, 5)
    for panel in panels:
        panel.set_axis_off()
    _draw_pattern(panels[0], inspection)
    if inspection.scan is not None:
        _draw_positions(panels[1], inspection)
    if inspection.finding is not None:
        _draw_fits(panels[2], inspection.finding)
        _draw_images(panels[3:], inspection)
    figure.savefig(path, dpi=110)


def _draw_pattern(panel, inspection: Inspection) -> None:
    if inspection.scan is None:
        return
    some = np.asarray(inspection.scan.counts[:: max(1, len(inspection.scan) // 64)])
    panel.imshow(np.log1p(some.mean(0)), cmap="magma")
    panel.plot(*inspection.detector.beam[::-1], "+", color="cyan")
    panel.set_title("mean pattern, log; + light")


def _draw_positions(panel, inspection: Inspection) -> None:
    from ..preprocessing.position_transform import oriented

    y, x = oriented(inspection.scan.positions, inspection.source.orientation).T
    panel.set_axis_on()
    panel.plot(x, y, ".", markersize=2)
    panel.set_aspect("equal")
    panel.invert_yaxis()
    panel.set_title("positions, px")


def _draw_fits(panel, finding: Finding) -> None:
    order = np.argsort(finding.errors)[::-1]
    panel.set_axis_on()
    names = [name_of(finding.orientations[i]) for i in order]
    least, most = min(finding.errors), max(finding.errors)
    colours = ["tab:green" if finding.errors[i] == least else "tab:gray" for i in order]
    panel.barh(names, [finding.errors[i] for i in order], color=colours)
    panel.tick_params(labelsize=7)
    panel.set_xlim(least - 0.2 * (most - least), most + 0.1 * (most - least))
    panel.set_title(f"R-factor; best by {finding.sigma:.0f} s.e.")


def _draw_images(panels, inspection: Inspection) -> None:
    import torch

    from ..preprocessing.position_transform import oriented
    from ..preprocessing.trial_reconstruction import fit, most_structured_region

    finding, part = inspection.finding, most_structured_region(inspection.scan, 240)
    best, worst = finding.best, finding.orientations[int(np.argmax(finding.errors))]
    positions = torch.from_numpy(np.stack([oriented(part.positions, o) for o in (best, worst)]))
    images = fit(part, positions, 8)[1].numpy()
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
    return f"wavelength {geometry.wavelength_m:.4g} m, object pixel {geometry.pixel_size_m:.4g} m"


def _verdict(finding: Finding) -> str:
    how = "sure" if finding.sure else "NOT sure"
    return f"{name_of(finding.best)}: {how}, by {finding.sigma:.1f} standard errors over {finding.patterns} patterns"


def _point(values) -> str:
    return "({})".format(", ".join(f"{value:.1f}" for value in values))
