"""What is this file? Everything that can be told from it, what is missing, and the ``source`` section that reads it."""

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..config import MeasuredGeometry, Orientation, Source
from ..core.scan import Scan
from ..preprocessing.detector_statistics import Detector, beam_diameter, disc_overlap, look_at_detector, typical_step
from ..preprocessing.scan_orientation import Finding, find_orientation
from ..preprocessing.trial_reconstruction import centroid
from .conversion import geometry_of, object_features, scan_from
from .detector_view import look
from .position_table import TEXTS
from .raw_scan import Measurement
from .registry import READERS, read_measurement, read_positions

logger = logging.getLogger(__name__)

NOMINAL = {"energy_ev": 8000.0, "detector_distance_m": 1.0, "detector_pixel_m": 75e-6}
"""Lengths to look at a scan with that has none; with positions in pixels they do not matter."""
ELECTRONS_M = 1e-11
"""Shorter wavelengths are those of electrons."""


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        path: the file.
        source: the section that reads it, with what was found put in.
        found: what its format says.
        detector: what its patterns say.
        scan: the scan, where it could be made; its positions as in the file.
        finding: how they lie, where that could be tried.
        metadata: further findings, plain data, in the order to tell them.
        missing: what is missing and how to give it.
        warnings: what looks wrong.
    """

    path: Path
    source: Source
    found: Measurement
    detector: Detector
    scan: Scan | None = None
    finding: Finding | None = None
    metadata: dict = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def inspect_file(path: Path, source: Source | None = None) -> Inspection:
    """Look into a file and try what it leaves open.

    Args:
        path: the file or folder.
        source: what is already known about it.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no format known, or damaged.
    """
    source = source or Source(file=str(path))
    found = read_measurement(path, source)
    source = source.model_copy(update={"format": found.metadata["format"]})
    missing = []
    if found.positions is None:
        name = _file_with_positions(path, len(found.patterns))
        missing.append(f"positions: {'taken from ' + name if name else 'give their file in source.positions'}")
        if name:
            source = source.model_copy(update={"positions": name})
            found = read_measurement(path, source)
    source, doubt = _with_domain(found, source)
    detector = _detector(found, source)
    found, source, lengths = _with_lengths(found, source)
    missing += lengths
    inspection = Inspection(path, source, found, detector, missing=tuple(missing), warnings=tuple(doubt))
    if found.positions is None or (lengths and found.unit == "m"):
        return dataclasses.replace(inspection, warnings=inspection.warnings + tuple(_doubts(detector)))
    return _with_scan(inspection)


def _with_scan(inspection: Inspection) -> Inspection:
    """The inspection with what positions and probe tell."""
    source, detector = inspection.source, inspection.detector
    scan = scan_from(inspection.found, source.model_copy(update={"orientation": Orientation()}))
    step, diameter = typical_step(scan.positions), beam_diameter(scan.probe)
    finding = find_orientation(scan, rotations=scan.geometry.wavelength_m < ELECTRONS_M) if len(scan) > 3 else None
    metadata = {
        "step_px": step,
        "beam_diameter_px": diameter,
        "overlap": disc_overlap(step, diameter),
        "extent_px": np.ptp(scan.positions, axis=0).tolist(),
        "repeated_positions": int(len(scan) - len(np.unique(scan.positions, axis=0))),
    }
    warnings = [*inspection.warnings, *_doubts(detector), *_doubts_about_scan(metadata, scan, finding)]
    if finding is not None and (finding.sure or finding.best == Orientation()):
        source = source.model_copy(update={"orientation": finding.best})
    return dataclasses.replace(
        inspection, source=source, scan=scan, finding=finding, metadata=metadata, warnings=tuple(warnings)
    )


def _with_domain(found: Measurement, source: Source) -> tuple[Source, list[str]]:
    """Counts or amplitudes, where the format leaves it open: their noise tells."""
    sample = look(found.patterns)
    if source.domain != "auto" or found.amplitude is not None or sample.dtype.kind in "ui":
        return source, []
    whole = np.array_equal(sample, np.rint(sample))
    squares = np.square(sample, dtype=np.float64)
    domain = (
        "amplitude"
        if not whole and np.abs(squares - np.rint(squares)).max() < 1e-2 * max(1, squares.max() ** 0.5)
        else "counts"
    )
    why = (
        "their squares are whole numbers" if domain == "amplitude" else "they are whole numbers" if whole else "a guess"
    )
    return source.model_copy(update={"domain": domain}), [
        f"patterns are taken as {domain} ({why}): check source.domain"
    ]


def _with_lengths(found: Measurement, source: Source) -> tuple[Measurement, Source, list[str]]:
    """Nominal lengths where the file has none."""
    try:
        geometry_of(found, source.geometry or MeasuredGeometry(), found.patterns.shape[-1])
    except ValueError as error:
        given = (source.geometry or MeasuredGeometry()).model_dump(exclude_none=True)
        nominal = {key: value for key, value in NOMINAL.items() if key != "energy_ev" or "wavelength_m" not in given}
        return (
            found,
            source.model_copy(update={"geometry": MeasuredGeometry(**(nominal | given))}),
            [f"lengths: {error}"],
        )
    return found, source, []


def _detector(found: Measurement, source: Source) -> Detector:
    view = object_features(found, source)
    counts = view.counts(found.patterns)
    step = max(1, len(counts) // 256)
    sample = counts[::step] if step > 1 else counts[:]
    return look_at_detector(sample, view.seen_mask(), view.corner, centroid(sample.mean(0, dtype=np.float64)))


def _file_with_positions(path: Path, count: int) -> str | None:
    """A table beside the file that has as many positions as there are patterns."""
    folder = path if path.is_dir() else path.parent
    for other in sorted(folder.iterdir()):
        if other != path and other.is_file() and other.suffix.lower() in (*TEXTS, ".npy", ".h5", ".hdf5", ".npz"):
            try:
                if len(read_positions(other)[0]) == count:
                    return other.name
            except (ValueError, OSError):
                continue
    return None


def _doubts(detector: Detector) -> list[str]:
    doubts = []
    if detector.hot:
        doubts.append(f"{len(detector.hot)} hot pixels, the first at {detector.hot[0]}")
    if detector.dead:
        doubts.append(f"{len(detector.dead)} dead pixels, the first at {detector.dead[0]}")
    if detector.saturated > 0:
        doubts.append(f"{detector.saturated:.2%} of all values are as large as their type holds: saturated?")
    if np.isfinite(detector.fano) and detector.fano < 0.8:
        doubts.append(f"the noise is {detector.noise}")
    return doubts


def _doubts_about_scan(metadata: dict, scan: Scan, finding: Finding | None) -> list[str]:
    doubts = []
    if metadata["overlap"] < 0.4:
        doubts.append(
            f"neighbours overlap by {metadata['overlap']:.0%} only: expect artefacts, or a wrong length or unit"
        )
    if metadata["step_px"] < 0.5:
        doubts.append(
            f"the step is {metadata['step_px']:.2g} px: is the unit of the positions right (source.position_unit)?"
        )
    if metadata["beam_diameter_px"] > 0.75 * scan.size:
        doubts.append("the probe nearly fills its frame: cut less of the detector, or the probe is only a guess")
    if metadata["repeated_positions"] > len(scan) // 10:
        doubts.append(f"{metadata['repeated_positions']} positions are repeated")
    if finding is not None and not finding.sure:
        doubts.append(
            f"how the scan lies is not sure ({finding.sigma:.1f} standard errors): look at the table, or give a probe"
        )
    return doubts


def format_name(inspection: Inspection) -> str:
    """The format in words."""
    name = inspection.found.metadata["format"]
    return f"{READERS[name].summary} ({name})" if name in READERS else name
