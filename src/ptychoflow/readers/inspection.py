"""Inspection of a measurement: what its file holds, what is missing, and the ``source`` section that reads it."""

import dataclasses
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..config import MeasuredGeometry, Orientation, Source
from ..core.scan import Scan
from ..preprocessing.detector_statistics import (
    DetectorStatistics,
    beam_diameter,
    disc_overlap,
    inspect_detector,
    typical_step,
)
from ..preprocessing.scan_orientation import Finding, find_orientation
from ..preprocessing.trial_reconstruction import centroid
from .conversion import geometry_of, make_view, scan_from
from .detector_view import sample_patterns
from .position_table import TEXTS
from .raw_scan import Measurement
from .registry import READERS, read_measurement, read_positions

logger = logging.getLogger(__name__)

NOMINAL = {"energy_ev": 8000.0, "detector_distance_m": 1.0, "detector_pixel_m": 75e-6}
"""Lengths for a scan that has none; with positions in pixels they do not matter."""
ELECTRONS_M = 1e-11
"""Shorter wavelengths are those of electrons."""


@dataclass(frozen=True)
class Inspection:
    """The result of an inspection.

    Attributes:
        path: the file.
        source: the section that reads it, completed by the inspection.
        measurement: what its format says.
        detector: statistics of its patterns.
        scan: the scan, if it can be made; its positions as in the file.
        finding: orientation of the positions, if it can be determined.
        metadata: statistics of the scan, plain data.
        missing: what is missing and how to give it.
        warnings: what looks wrong.
    """

    path: Path
    source: Source
    measurement: Measurement
    detector: DetectorStatistics
    scan: Scan | None = None
    finding: Finding | None = None
    metadata: dict = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def inspect_file(path: Path, source: Source | None = None) -> Inspection:
    """Inspect a file, and determine from its patterns what the format leaves open.

    Args:
        path: the file or folder.
        source: what is already known about it.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged or of no known format.
    """
    source = source or Source(file=str(path))
    measurement = read_measurement(path, source)
    source = source.model_copy(update={"format": measurement.metadata["format"]})
    missing = []
    if measurement.positions is None:
        name = _file_with_positions(path, len(measurement.patterns))
        missing.append(f"positions: {'taken from ' + name if name else 'give their file in source.positions'}")
        if name:
            source = source.model_copy(update={"positions": name})
            measurement = read_measurement(path, source)
    source, doubt = _with_domain(measurement, source)
    detector = _detector(measurement, source)
    if source.fano_factor is None and not detector.is_poisson:
        source = source.model_copy(update={"fano_factor": round(detector.fano, 3)})
    measurement, source, lengths = _with_lengths(measurement, source)
    missing += lengths
    inspection = Inspection(path, source, measurement, detector, missing=tuple(missing), warnings=tuple(doubt))
    if measurement.positions is None or (lengths and measurement.positions.unit == "m"):
        return dataclasses.replace(inspection, warnings=inspection.warnings + tuple(_doubts(detector)))
    return _with_scan(inspection)


def _with_scan(inspection: Inspection) -> Inspection:
    """Return the inspection with the statistics of positions and probe."""
    source, detector = inspection.source, inspection.detector
    scan = scan_from(inspection.measurement, source.model_copy(update={"orientation": Orientation()}))
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


def _with_domain(measurement: Measurement, source: Source) -> tuple[Source, list[str]]:
    """Decide between counts and amplitudes where the format leaves it open: squares of amplitudes are integers."""
    sample = sample_patterns(measurement.patterns)
    if source.domain != "auto" or measurement.amplitude is not None or sample.dtype.kind in "ui":
        return source, []
    whole = np.array_equal(sample, np.rint(sample))
    squares = np.square(sample, dtype=np.float64)
    domain = (
        "amplitude"
        if not whole and np.abs(squares - np.rint(squares)).max() < 1e-2 * max(1, squares.max() ** 0.5)
        else "counts"
    )
    reason = "their squares are integers" if domain == "amplitude" else "they are integers" if whole else "a guess"
    return source.model_copy(update={"domain": domain}), [
        f"patterns are taken as {domain} ({reason}): check source.domain"
    ]


def _with_lengths(measurement: Measurement, source: Source) -> tuple[Measurement, Source, list[str]]:
    """Return the source with nominal lengths where the file has none."""
    try:
        geometry_of(measurement, source, measurement.patterns.shape[-1])
    except ValueError as error:
        given = (source.geometry or MeasuredGeometry()).model_dump(exclude_none=True)
        nominal = {key: value for key, value in NOMINAL.items() if key != "energy_ev" or "wavelength_m" not in given}
        return (
            measurement,
            source.model_copy(update={"geometry": MeasuredGeometry(**(nominal | given))}),
            [f"lengths: {error}"],
        )
    return measurement, source, []


def _detector(measurement: Measurement, source: Source) -> DetectorStatistics:
    view = make_view(measurement, source)
    counts = view.counts(measurement.patterns)
    step = max(1, len(counts) // 256)
    sample = counts[::step] if step > 1 else counts[:]
    return inspect_detector(sample, view.kept_mask(), view.corner, centroid(sample.mean(0, dtype=np.float64)))


def _file_with_positions(path: Path, count: int) -> str | None:
    """Find a table beside the file that has as many positions as the file has patterns."""
    folder = path if path.is_dir() else path.parent
    for other in sorted(folder.iterdir()):
        if other != path and other.is_file() and other.suffix.lower() in (*TEXTS, ".npy", ".h5", ".hdf5", ".npz"):
            try:
                if len(read_positions(other)) == count:
                    return other.name
            except (ValueError, OSError):
                continue
    return None


def _doubts(detector: DetectorStatistics) -> list[str]:
    doubts = []
    if detector.hot:
        doubts.append(f"{len(detector.hot)} hot pixels, the first at {detector.hot[0]}")
    if detector.dead:
        doubts.append(f"{len(detector.dead)} dead pixels, the first at {detector.dead[0]}")
    if detector.saturated > 0:
        doubts.append(f"{detector.saturated:.2%} of all values are the largest of their dtype: saturated?")
    if np.isfinite(detector.fano) and detector.fano < 0.8:
        doubts.append(f"noise is {detector.noise}")
    return doubts


def _doubts_about_scan(metadata: dict, scan: Scan, finding: Finding | None) -> list[str]:
    doubts = []
    if metadata["overlap"] < 0.4:
        doubts.append(
            f"overlap of neighbours is {metadata['overlap']:.0%} only: expect artefacts, or a wrong length or unit"
        )
    if metadata["step_px"] < 0.5:
        doubts.append(
            f"the step is {metadata['step_px']:.2g} px: is the unit of the positions right (source.position_unit)?"
        )
    if metadata["beam_diameter_px"] > 0.75 * scan.size:
        doubts.append("the probe nearly fills the field of view: keep more of the detector, or give a better probe")
    if metadata["repeated_positions"] > len(scan) // 10:
        doubts.append(f"{metadata['repeated_positions']} positions are repeated")
    if finding is not None and not finding.sure:
        doubts.append(
            f"the orientation of the scan is uncertain ({finding.sigma:.1f} standard errors): compare the R-factors, "
            "or give a probe"
        )
    return doubts


def format_name(inspection: Inspection) -> str:
    """Return the format's name for people."""
    name = inspection.measurement.metadata["format"]
    return f"{READERS[name].summary} ({name})" if name in READERS else name
