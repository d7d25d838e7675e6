"""Inspection of a measurement: what its file holds, what is missing, and the ``source`` section that reads it."""

import dataclasses
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..config import Keys, MeasuredGeometry, Orientation, Source
from ..core.scan import Scan, describe_invalid, is_invalid_count
from ..core.units import factor
from ..io.sandbox import read_in_subprocess
from ..preprocessing.cropping import centroid
from ..preprocessing.defocus_search import find_orientation_and_defocus
from ..preprocessing.detector_statistics import (
    DetectorStatistics,
    beam_diameter,
    disc_overlap,
    inspect_detector,
    typical_step,
)
from ..preprocessing.near_field_signs import find_moving_shadows
from ..preprocessing.order_doubts import doubt_order
from ..preprocessing.plausibility import (
    ELECTRONS_BELOW_M,
    STEPS_PX,
    UNITS,
    doubts_about_lengths,
    doubts_about_steps,
    likely_unit,
    outlying_positions,
)
from ..preprocessing.position_transform import oriented
from ..preprocessing.probe_guess import guess_probe
from ..preprocessing.scan_doubts import doubt_scan
from ..preprocessing.scan_orientation import Finding, find_orientation
from .containers import ArrayInfo, open_container
from .conversion import geometry_of, leave_out, make_view, scan_from
from .detector_view import mean_of_valid, sample_patterns
from .key_guesses import Guess, guess_keys
from .position_table import TEXTS
from .raw_scan import Measurement, UnknownFormatError
from .registry import READERS, read_measurement, read_positions

logger = logging.getLogger(__name__)

NOMINAL = {"energy_ev": 8000.0, "detector_distance_m": 1.0, "detector_pixel_m": 75e-6}
"""Lengths for a scan that has none; with positions in pixels they do not matter."""
WIDEST_PX = 20000
"""Extent of a scan up to which its orientation is tried, px."""
WIDEST_SCAN_M = 1e-2
"""Extent of a scan that is questioned where no length is known."""
LITTLE_OVERLAP = 0.5
"""Overlap below which the lengths of the far field are doubted where shadows move with the scan."""
FEW_BAD = 0.05
"""Share of pixels or patterns with invalid counts up to which they are masked or dropped."""
MOST_OUTLYING = 0.05
"""Share of positions that may be outliers."""


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
        contents: arrays of the file, where it holds named ones.
        guess: which array is what, where no reader knew it.
        packing: settings of ``packing`` that the patterns need.
        placeholders: True if ``source`` lacks lengths that only the user knows, or has nominal ones.
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
    contents: tuple[ArrayInfo, ...] = ()
    guess: Guess = field(default_factory=Guess)
    packing: dict = field(default_factory=dict)
    placeholders: bool = False
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
    measurement, source, contents, guess = _read(path, source)
    missing = []
    if measurement.positions is None:
        name = _file_with_positions(path, len(measurement.patterns))
        missing.append(f"positions: {'taken from ' + name if name else 'give their file in source.positions'}")
        if name:
            source = source.model_copy(update={"positions": name})
            measurement = read_measurement(path, source)
    source, doubts = _with_domain(measurement, source)
    doubts += _doubts_about_guess(guess)
    detector = _detector(measurement, source)
    # above 1 it is an upper bound, as patterns differ by the object: with a step of 1 it shows no gain
    counts_photons = detector.quantum == 1 and detector.fano > 1
    if source.fano_factor is None and not detector.is_poisson and not counts_photons:
        source = source.model_copy(update={"fano_factor": round(detector.fano, 3)})
    measurement, source, more = _with_likely_positions(measurement, source)
    doubts += more
    source, lengths = _with_lengths(measurement, source)
    missing += lengths
    inspection = Inspection(
        path,
        source,
        measurement,
        detector,
        contents=contents,
        guess=guess,
        missing=tuple(missing),
        warnings=tuple(doubts),
        placeholders=bool(lengths) or measurement.positions is None,
    )
    unknown = measurement.positions is None or bool(measurement.positions.problem and source.position_unit == "auto")
    if unknown or (lengths and source.geometry is None):
        return dataclasses.replace(inspection, warnings=inspection.warnings + tuple(_doubts(detector)))
    return _with_scan(inspection)


def _read(path: Path, source: Source) -> tuple[Measurement, Source, tuple[ArrayInfo, ...], Guess]:
    """Read a file by its format, by ``source.keys``, or by the keys that its names and shapes suggest."""
    try:
        measurement = read_measurement(path, source)
    except UnknownFormatError:
        contents, guess = _look_into(path, None)
        if guess.keys.patterns is None:
            raise
        measurement, source = _read_guessed(path, source, guess, tuple(guess.reasons))
        return measurement, source, contents, guess
    format = measurement.metadata["format"]
    source = source.model_copy(update={"format": "auto" if format == "keys" else format})
    contents, guess = _look_into(path, measurement.patterns.shape)
    wanted = _lacking(measurement, source)
    guess = Guess(guess.keys, {key: reason for key, reason in guess.reasons.items() if key in wanted})
    if guess.reasons and (source.keys is None or source.keys.patterns is None):
        measurement, source = _read_guessed(path, source, guess, tuple(guess.reasons))
    return measurement, source, contents, guess


def _look_into(path: Path, known: tuple[int, ...] | None) -> tuple[tuple[ArrayInfo, ...], Guess]:
    """Return the arrays of a file and guesses of what is what; none for a file without named arrays."""

    def look() -> tuple[tuple[ArrayInfo, ...], Guess]:
        with open_container(path) as container:
            if container is None:
                return (), Guess()
            return tuple(container.infos()), guess_keys(container, known)

    try:
        read_in_subprocess(look, path)
        return look()
    except ValueError as error:
        if known is None:
            raise
        logger.info("contents of %s are not listed: %s", path.name, error)
        return (), Guess()


def _lacking(measurement: Measurement, source: Source) -> set[str]:
    """Return the keys whose values neither reader nor source gives."""
    given = source.geometry or MeasuredGeometry()
    wanted = set()
    if measurement.positions is None and source.positions is None:
        wanted |= {"y", "x"}
    if not (measurement.wavelength_m or measurement.energy_ev or given.wavelength_m or given.energy_ev):
        wanted |= {"energy", "wavelength"}
    if not (measurement.pixel_size_m or given.pixel_size_m):
        wanted |= (
            set() if measurement.detector_distance_m or given.detector_distance_m else {"distance", "object_pixel"}
        )
        wanted |= set() if measurement.detector_pixel_m or given.detector_pixel_m else {"pixel", "object_pixel"}
    return wanted


def _read_guessed(path: Path, source: Source, guess: Guess, keys: tuple[str, ...]) -> tuple[Measurement, Source]:
    """Read a file by guessed keys; a guess that turns out not to suit is dropped."""
    entries = {key: getattr(guess.keys, key) for key in keys}
    given = {} if source.keys is None else {key: value for key, value in source.keys if value is not None}
    for _ in range(len(entries) + 1):
        attempt = source.model_copy(update={"keys": Keys(**(entries | given))})
        try:
            return read_measurement(path, attempt), attempt
        except ValueError as error:
            match = re.search(r"source\.keys\.(\w+)", str(error))
            if match is None or match[1] not in entries or match[1] == "patterns":
                raise
            del entries[match[1]], guess.reasons[match[1]]
    raise ValueError(f"no guess of the arrays of {path.name} suits: set source.keys")


def _doubts_about_guess(guess: Guess) -> list[str]:
    if not guess.reasons:
        return []
    listed = ", ".join(f"{key} is {getattr(guess.keys, key).name}" for key in guess.reasons)
    unknown = "no reader knows this layout" if "patterns" in guess.reasons else "no reader finds all of it"
    return [f"{unknown}, so names and shapes decide: {listed}; check source.keys"]


def _with_likely_positions(measurement: Measurement, source: Source) -> tuple[Measurement, Source, list[str]]:
    """Return the source with the unit in which the steps suit the patterns, and without positions far outside."""
    positions, doubts = measurement.positions, []
    if positions is None or len(positions) < 4:
        return measurement, source, []
    out = outlying_positions(np.asarray(positions.values, np.float64))
    if out.any() and out.sum() <= MOST_OUTLYING * len(out) and len(out) == len(measurement.patterns):
        numbers = [int(number) for number in np.flatnonzero(out)]
        doubts.append(f"positions {numbers} lie far outside the scan and are left out: check source.exclude")
        alone = Source(file=source.file, exclude=tuple(numbers))
        if not source.exclude:
            measurement, source = leave_out(measurement, alone), source.model_copy(update={"exclude": alone.exclude})
            positions = measurement.positions
    assert positions is not None
    if source.position_unit != "auto" or (positions.unit == "px" and not positions.problem):
        return measurement, source, doubts
    likely = likely_unit(
        np.asarray(positions.values, np.float64), _object_pixel(measurement, source), _size(measurement)
    )
    known = not positions.problem and len(set(positions.scale)) == 1
    in_file = next((unit for unit in UNITS if known and factor(unit, "length", "") == positions.scale[0]), None)
    if likely is None or likely == in_file or (known and not _is_implausible(measurement, source)):
        return measurement, source, [*doubts, *([positions.problem] if positions.problem and likely is None else [])]
    doubts.append(
        f"positions are taken in {likely}, in which their steps suit the patterns"
        f"{f'; in {in_file}, as they are read, they do not' if in_file else f' ({positions.problem})'}: "
        "check source.position_unit"
    )
    return measurement, source.model_copy(update={"position_unit": likely}), doubts


def _size(measurement: Measurement) -> int:
    return min(measurement.patterns.shape[1:])


def _object_pixel(measurement: Measurement, source: Source) -> float | None:
    """Return the side of an object pixel, m, if the lengths are known."""
    try:
        return geometry_of(measurement, source, measurement.patterns.shape[-1])[0].pixel_size_m
    except ValueError:
        return None


def _is_implausible(measurement: Measurement, source: Source) -> bool:
    """Return True if the steps in the unit of the file do not suit the patterns."""
    assert measurement.positions is not None
    values = measurement.positions.scaled().values
    pixel = _object_pixel(measurement, source)
    if pixel is None:
        return float(np.ptp(values, axis=0).max()) > WIDEST_SCAN_M
    step = typical_step(np.unique(values, axis=0)) / pixel
    return not STEPS_PX[0] <= step <= STEPS_PX[1] * _size(measurement)


def _with_scan(inspection: Inspection) -> Inspection:
    """Return the inspection with the statistics of positions and probe."""
    source, measurement = inspection.source, inspection.measurement
    scan = scan_from(measurement, source.model_copy(update={"orientation": Orientation()}))
    extent = np.ptp(scan.positions, axis=0).tolist()
    count, repeated = len(scan), int(len(scan) - len(np.unique(scan.positions, axis=0)))
    scan, packing, doubts = _with_valid_counts(scan)
    finding = None
    if len(scan) > 3 and 1 <= max(extent) <= WIDEST_PX and min(extent) > 0:
        scan, finding, source = _with_orientation(scan, measurement, source)
    step, diameter = typical_step(scan.positions), beam_diameter(scan.probe)
    wrong = doubts_about_steps(step, extent, diameter, scan.size)
    if max(extent) > WIDEST_PX and not wrong:
        wrong = [f"the scan is {max(extent):.3g} px wide: check the unit of the positions (source.position_unit)"]
    if not inspection.placeholders:
        doubts += doubts_about_lengths(scan.geometry, scan.size, _detector_known(inspection))
    metadata = {
        "step_px": step,
        "beam_diameter_px": diameter,
        "overlap": disc_overlap(step, diameter),
        "extent_px": extent,
        "repeated_positions": repeated,
    }
    if (wrong or metadata["overlap"] < LITTLE_OVERLAP) and not scan.geometry.near_field:
        doubts += _doubts_of_near_field(scan)
    doubts += [*wrong, *_doubts_about_scan(metadata, scan, finding, bool(wrong))]
    if repeated > count // 10:
        doubts.append(f"{repeated} positions are repeated")
    doubts += map(str, doubt_scan(scan))
    if finding is not None:
        best = dataclasses.replace(scan, positions=oriented(scan.positions, finding.best))
        doubts += map(str, doubt_order(best, orientations=False))
    return dataclasses.replace(
        inspection,
        source=source,
        scan=scan,
        finding=finding,
        metadata=metadata,
        packing=packing,
        warnings=(*inspection.warnings, *_doubts(inspection.detector), *doubts),
    )


def _with_orientation(scan: Scan, measurement: Measurement, source: Source) -> tuple[Scan, Finding, Source]:
    """Find the orientation, and the defocus where nothing says what the probe is; return the scan with that probe."""
    electrons = scan.geometry.wavelength_m < ELECTRONS_BELOW_M
    known = measurement.probe is not None or source.defocus_m is not None or measurement.defocus_m
    if known or scan.geometry.near_field:
        finding = find_orientation(scan, electrons)
    else:
        mean = mean_of_valid(np.asarray(scan.counts[:: max(1, len(scan) // 256)]))
        finding, defocus = find_orientation_and_defocus(scan, mean, measurement.aperture_rad, electrons)
        if defocus is not None:
            source = source.model_copy(update={"defocus_m": float(f"{defocus:.3g}")})
            probe = guess_probe(mean, scan.geometry, source.defocus_m, measurement.aperture_rad)
            scan = dataclasses.replace(scan, probe=probe)
    if finding.is_clearly_better:
        source = source.model_copy(update={"orientation": finding.best})
    return scan, finding, source


def _doubts_of_near_field(scan: Scan) -> list[str]:
    """Doubt that patterns are of the far field where shadows of the sample move across the detector with the scan."""
    found = find_moving_shadows(scan.counts, scan.positions)
    if found is None:
        return []
    geometry = scan.geometry
    magnification = found.scale * geometry.detector_pixel_m(scan.size) / geometry.pixel_size_m
    focus = ""
    if magnification > 1.05:
        focus_m = geometry.detector_distance_m / (magnification - 1)
        focus = f" and focus_distance_m, the distance from focus to sample, about {focus_m:.2g} m"
    return [
        f"patterns look like the near field: shadows move across the detector with the scan, {magnification:.3g} times "
        f"as far ({found.explained:.0%} of their displacements explained): set source.geometry.propagation: near_field"
        + focus
    ]


def _detector_known(inspection: Inspection) -> bool:
    given, measurement = inspection.source.geometry or MeasuredGeometry(), inspection.measurement
    return bool(
        (given.detector_distance_m or measurement.detector_distance_m)
        and (given.detector_pixel_m or measurement.detector_pixel_m)
    )


def _with_valid_counts(scan: Scan) -> tuple[Scan, dict, list[str]]:
    """Return a scan whose counts are all valid, the settings of ``packing`` that make it so, and what was done.

    Counts on disk are looked at in a sample of patterns.
    """
    in_memory = isinstance(scan.counts, np.ndarray)
    counts = scan.counts if in_memory else scan.counts[:: max(1, len(scan) // 256)]
    bad = is_invalid_count(counts)
    if not bad.any():
        return scan, {}, []
    kind, pixels, patterns = describe_invalid(counts[bad]), bad.any(0), bad.any((1, 2))
    treatment = "mask" if pixels.mean() < FEW_BAD else "drop" if patterns.mean() < FEW_BAD else "clip"
    found = f"{int(bad.sum())} {kind} in {int(patterns.sum())} patterns: packing.invalid_counts is set to {treatment}"
    if in_memory and treatment == "drop":
        kept = ~patterns
        scan = dataclasses.replace(scan, counts=counts[kept], positions=scan.positions[kept])
    elif in_memory:
        mask = scan.mask
        if treatment == "mask":
            mask = np.asarray(~pixels if mask is None else mask & ~pixels)
        scan = dataclasses.replace(scan, counts=np.where(bad, np.zeros((), counts.dtype), counts), mask=mask)
    return scan, {"invalid_counts": treatment}, [found]


def _with_domain(measurement: Measurement, source: Source) -> tuple[Source, list[str]]:
    """Decide between counts and amplitudes where the format leaves it open: squares of amplitudes are integers."""
    sample = sample_patterns(measurement.patterns)
    if source.domain != "auto" or measurement.amplitude is not None or sample.dtype.kind in "ui":
        return source, []
    sample = np.where(is_invalid_count(sample), 0, sample)
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


def _with_lengths(measurement: Measurement, source: Source) -> tuple[Source, list[str]]:
    """Return the source with nominal lengths where positions in pixels need none; else say what is missing."""
    try:
        geometry_of(measurement, source, measurement.patterns.shape[-1])
    except ValueError as error:
        given = (source.geometry or MeasuredGeometry()).model_dump(exclude_none=True)
        if measurement.positions is None or measurement.positions.unit == "m":
            return source, [f"lengths: {error}"]
        nominal = {key: value for key, value in NOMINAL.items() if key != "energy_ev" or "wavelength_m" not in given}
        geometry = MeasuredGeometry(**(nominal | given))
        return source.model_copy(update={"geometry": geometry}), [f"lengths: {error}; nominal ones stand in for them"]
    return source, []


def _detector(measurement: Measurement, source: Source) -> DetectorStatistics:
    view = make_view(measurement, source)
    counts = view.counts(measurement.patterns)
    step = max(1, len(counts) // 256)
    sample = counts[::step] if step > 1 else counts[:]
    sample = np.where(is_invalid_count(sample), np.zeros((), sample.dtype), sample)
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
    return doubts


def _doubts_about_scan(metadata: dict, scan: Scan, finding: Finding | None, wrong_steps: bool) -> list[str]:
    doubts = []
    if metadata["overlap"] < 0.4 and not wrong_steps:
        doubts.append(
            f"overlap of neighbours is {metadata['overlap']:.0%} only: expect artefacts, or a wrong length or unit"
        )
    if metadata["beam_diameter_px"] > 0.75 * scan.size:
        doubts.append("the probe nearly fills the field of view: keep more of the detector, or give a better probe")
    if finding is not None and not finding.sure:
        doubts.append(
            f"the orientation of the scan is uncertain ({finding.sigma:.1f} standard errors): compare the R-factors, "
            "or give a probe"
        )
    if finding is not None and finding.turned is not None:
        doubts.append("without a probe the scan may be turned by 180 degrees as a whole: one of the two is chosen")
    return doubts


def format_name(inspection: Inspection) -> str:
    """Return the format's name for people."""
    name = inspection.measurement.metadata["format"]
    if name == "keys":
        return "named arrays (source.keys)"
    return f"{READERS[name].summary} ({name})" if name in READERS else name
