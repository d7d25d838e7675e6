"""Conversion of a measurement as its file holds it to a ``Scan``: every unit, axis and centre is converted here."""

import dataclasses
import logging
from typing import cast

import numpy as np

from ..config import MeasuredGeometry, Source
from ..core.frame_selection import selected_patterns
from ..core.scan import Geometry, GroundTruth, Scan, near_field_geometry, smallest_dtype
from ..core.wavelengths import Radiation, electron_wavelength_m, photon_wavelength_m, wavelength_of
from ..io.lazy_stack import Stack
from ..preprocessing.cropping import centroid, resize_far_field, resize_near_field
from ..preprocessing.position_transform import oriented
from ..preprocessing.probe_guess import GUESS, guess_probe, in_photons
from .detector_view import (
    DetectorView,
    beam_in_corner,
    flagged_pixels,
    is_whole,
    kept_square,
    mean_of_valid,
    sample_patterns,
)
from .raw_scan import Measurement
from .scan_positions import Positions

logger = logging.getLogger(__name__)

IN_MEMORY_BYTES = 1 << 28
"""Scans of up to this many bytes are read at once, which finds their smallest dtype; larger ones stay on disk."""
MANY_PIXELS, MANY_COUNTS = 0.5, 0.02
"""Shares of masked pixels and of counts on them beyond which a mask is warned of."""
LENGTHS_REMEDY = (
    "give energy, distance and pixel size in source.geometry: energy_ev or wavelength_m, detector_distance_m, "
    "detector_pixel_m, or pixel_size_m"
)


def scan_from(measurement: Measurement, source: Source) -> Scan:
    """Convert a measurement to a scan in our units and conventions; ``source`` overrides what the file says.

    The counts of a large scan stay on disk: slices of ``scan.counts`` read them.

    Args:
        measurement: what the file holds, ``J`` patterns of ``(H, W)`` px.
        source: what the config says about the file.

    Returns:
        The scan, ``J`` patterns of ``(N, N)`` px, positions in object pixels, probe in sqrt(photons).

    Raises:
        ValueError: if something is missing or impossible; the message names the setting that gives it.
    """
    measurement = with_positions(measurement, source)
    view = make_view(measurement, source)
    counts = _counts(measurement, view)
    geometry, nominal = geometry_of(measurement, source, view.size)
    mean = mean_of_valid(np.asarray(sample_patterns(counts) if isinstance(counts, Stack) else counts))
    mask = view.kept_mask()
    return Scan(
        counts=cast(np.ndarray, counts),  # a stack slices like an array
        positions=oriented(_in_pixels(measurement, geometry, view.size), source.orientation),
        probe=_probe(measurement, source, view, geometry, mean),
        geometry=geometry,
        mask=None if mask.all() else mask,
        truth=_truth(measurement, view)
        if source.object_is_ground_truth or measurement.object_is_ground_truth
        else None,
        name=measurement.name,
        metadata=measurement.metadata
        | {"nominal_geometry": nominal, "photons_measured": float(mean.sum())}
        | ({} if source.fano_factor is None else {"fano_factor": source.fano_factor})
        | _origin_of_probe(measurement, source),
    )


def with_positions(measurement: Measurement, source: Source) -> Measurement:
    """Return the measurement with positions in the unit of ``source``, without the patterns that have no position.

    Args:
        measurement: what the file holds.
        source: ``position_unit`` overrides the unit of the format.

    Raises:
        ValueError: if the file has no positions, or not as many as patterns.
    """
    if measurement.positions is None:
        raise ValueError(f"positions not found in {measurement.file}: give their file in source.positions")
    scaled = measurement.positions.scaled(source.position_unit)
    positions = scaled.values
    if positions.shape != (len(measurement.patterns), 2):
        raise ValueError(
            f"got positions of shape {positions.shape} for {len(measurement.patterns)} diffraction patterns, expected "
            f"({len(measurement.patterns)}, 2): complete the position file, or name the patterns without a position in "
            "source.exclude"
        )
    known = np.asarray(np.isfinite(positions).all(1))
    if known.all():
        return dataclasses.replace(measurement, positions=scaled)
    if not known.any():
        raise ValueError(f"all positions of {measurement.file} are NaN or infinite: correct the position file")
    logger.warning("%d of %d patterns have no finite position and are left out", np.sum(~known), len(known))
    kept = np.flatnonzero(known)
    metadata = measurement.metadata | {"patterns_without_position": int(np.sum(~known))}
    return dataclasses.replace(
        measurement,
        positions=Positions(positions[kept], scaled.unit),
        patterns=measurement.patterns.take(kept),
        metadata=metadata,
    )


def leave_out(measurement: Measurement, source: Source) -> Measurement:
    """Return the measurement without the patterns of ``source.exclude`` and those that were never written.

    Their positions are left out too, if there is one for each pattern of the file; else the positions are those of the
    patterns that remain.

    Args:
        measurement: what the file holds.
        source: patterns to exclude.

    Raises:
        ValueError: if no pattern is left.
    """
    count = len(measurement.patterns)
    out = selected_patterns(source.exclude, count, "source.exclude")
    absent = measurement.patterns.absent
    if absent is not None:
        out |= absent
    if not out.any():
        return measurement
    if out.all():
        raise ValueError(f"all {count} patterns of {measurement.file} are left out: correct source.exclude")
    kept, positions = np.flatnonzero(~out), measurement.positions
    if positions is not None and len(positions) == count:
        positions = dataclasses.replace(positions, values=positions.values[kept])
    metadata = measurement.metadata | {"patterns_excluded": int(out.sum())}
    return dataclasses.replace(
        measurement, patterns=measurement.patterns.take(kept), positions=positions, metadata=metadata
    )


def make_view(measurement: Measurement, source: Source) -> DetectorView:
    """Choose what is kept of each pattern: the intensities decide what the format leaves open, ``source`` overrides.

    Args:
        measurement: what the file holds.
        source: centre, size, zero frequency and domain of the patterns, where given.

    Raises:
        ValueError: if it is open whether patterns are counts, every pixel is masked, or the beam lies outside.
    """
    sample = sample_patterns(measurement.patterns)
    flagged = flagged_pixels(sample)
    mask = ~flagged if measurement.mask is None else measurement.mask & ~flagged
    if not mask.any():
        raise ValueError(
            f"{measurement.file}: every detector pixel is masked: the mask may be inverted, or the patterns are empty"
        )
    mean = np.where(mask, mean_of_valid(sample), 0)
    if not mask.all():
        _report_mask(measurement, mask, flagged, mean_of_valid(np.where(flagged, np.zeros((), sample.dtype), sample)))
    corner = _corner(measurement, source, mean)
    beam = source.centre
    if beam is None and not corner and not is_near_field(measurement, source):
        beam = _beam_of_file(measurement, mean)
    first, size = kept_square(mask.shape, beam, source.size)
    return DetectorView(measurement.file, mask, corner, first, size, _amplitude(measurement, source, sample))


def _report_mask(measurement: Measurement, mask: np.ndarray, flagged: np.ndarray, mean: np.ndarray) -> None:
    """Log the masked pixels and the counts on them; warn where they are many."""
    pixels, counts = float(np.mean(~mask)), float(mean[~mask].sum() / max(mean.sum(), 1e-300))
    logger.log(
        logging.WARNING if pixels > MANY_PIXELS or counts > MANY_COUNTS else logging.INFO,
        "%s: %d of %d detector pixels are masked (%d flagged by their values), with %.1f %% of the counts%s",
        *(measurement.file, np.sum(~mask), mask.size, flagged.sum(), 100 * counts),
        ": the mask may be inverted" if counts > MANY_COUNTS else "",
    )


def _beam_of_file(measurement: Measurement, mean: np.ndarray) -> tuple[float, float] | None:
    """Return the direct beam as the file has it, unless the intensity lies elsewhere."""
    beam = measurement.beam
    if beam is None:
        return None
    far = [abs(at - found) > side / 4 for at, found, side in zip(beam, centroid(mean), mean.shape)]
    if any(far) or not all(0 <= at < side for at, side in zip(beam, mean.shape)):
        logger.warning(
            "%s puts the direct beam at (%.1f, %.1f) px of %s, the intensity lies around (%.1f, %.1f): taking the "
            "middle; set source.centre",
            *(measurement.file, *beam, mean.shape, *centroid(mean)),
        )
        return None
    return beam


def geometry_of(measurement: Measurement, source: Source, size: int) -> tuple[Geometry, bool]:
    """Return the lengths for patterns of ``size`` px, and True if any of them is nominal: given by hand or assumed.

    Args:
        measurement: what the file holds.
        source: lengths from the config, which override those of the file, and the kind of radiation.
        size: side N of the kept patterns, px.

    Raises:
        ValueError: if they cannot be known; the message names what to give.
    """
    given = source.geometry or MeasuredGeometry()
    side = measurement.patterns.shape[-1]
    wavelength = _wavelength(measurement, given, source.radiation)
    distance = given.detector_distance_m or measurement.detector_distance_m
    pitch = given.detector_pixel_m or measurement.detector_pixel_m
    pixel = given.pixel_size_m or (None if wavelength and distance and pitch else measurement.pixel_size_m)
    nominal = any(value is not None for value in given.model_dump(exclude={"propagation", "focus_distance_m"}).values())
    if pixel and not wavelength and distance and pitch:
        wavelength = pixel * side * pitch / distance
    reasons = f" ({'; '.join(measurement.unread)})" if measurement.unread else ""
    if not wavelength:
        raise ValueError(f"wavelength not found in {measurement.file}{reasons}: {LENGTHS_REMEDY}")
    if is_near_field(measurement, source):
        if not distance or not (pixel or pitch):
            raise ValueError(
                f"detector distance and pixel size not found in {measurement.file}{reasons}: {LENGTHS_REMEDY}"
            )
        focus = given.focus_distance_m or measurement.focus_distance_m
        # a file that knows both pixels knows the magnification, unless the config gives another
        own = None if given.focus_distance_m or given.detector_pixel_m else measurement.pixel_size_m
        return _near_field_geometry(wavelength, distance, pitch, pixel or own, focus), nominal
    if not pixel:
        if not (distance and pitch):
            raise ValueError(
                f"detector distance and pixel size not found in {measurement.file}{reasons}: {LENGTHS_REMEDY}"
            )
        return Geometry(wavelength * distance / (size * pitch), wavelength, distance), nominal
    if not distance:
        nominal = nominal or not pitch
        distance = pixel * side * pitch / wavelength if pitch else 1.0
    return Geometry(pixel * side / size, wavelength, distance), nominal


def is_near_field(measurement: Measurement, source: Source) -> bool:
    """Return True where the config, or else the file, says that patterns are of the near field."""
    given = source.geometry.propagation if source.geometry is not None else None
    return (given or measurement.propagation) == "near_field"


def _near_field_geometry(
    wavelength: float, distance: float, pitch: float | None, pixel: float | None, focus: float | None
) -> Geometry:
    """Return the geometry of the near field; detector and object pixel, where both are known, tell the focus."""
    if focus is None and pitch and pixel and pitch > 1.001 * pixel:
        focus = distance / (pitch / pixel - 1)
    if pixel:
        return Geometry(pixel, wavelength, distance, "near_field", focus)
    assert pitch is not None
    return near_field_geometry(pitch, wavelength, distance, focus)


def _wavelength(measurement: Measurement, given: MeasuredGeometry, radiation: str) -> float | None:
    """Return the wavelength, m, if it can be known: as given, else as in the file, else from the energy.

    A camera made for photons writes the photon wavelength of an electron's energy; that is corrected.
    """
    if given.wavelength_m:
        return given.wavelength_m
    kind = measurement.radiation if radiation == "auto" else cast(Radiation, radiation)
    energy = given.energy_ev or measurement.energy_ev
    in_file = None if given.energy_ev else measurement.wavelength_m
    if in_file and energy and abs(in_file / photon_wavelength_m(energy) - 1) < 0.01:
        in_file = None
    if in_file or not energy:
        return in_file
    wavelength = wavelength_of(energy, kind, measurement.file)
    if kind is None and wavelength == electron_wavelength_m(energy):
        logger.warning(
            "%s: %.4g eV is taken as the energy of electrons (wavelength %.4g m): set source.radiation if not",
            *(measurement.file, energy, wavelength),
        )
    return wavelength


def _corner(measurement: Measurement, source: Source, mean: np.ndarray) -> bool:
    if is_near_field(measurement, source):
        return False
    if source.zero_frequency != "auto":
        return source.zero_frequency == "corner"
    observed = beam_in_corner(mean)
    if measurement.corner is not None and measurement.corner != observed:
        by_format, by_intensity = ("corner", "middle") if measurement.corner else ("middle", "corner")
        logger.warning(
            "the format keeps the direct beam in the %s, the intensity lies in the %s: set source.zero_frequency",
            by_format,
            by_intensity,
        )
    return observed if measurement.corner is None else measurement.corner


def _amplitude(measurement: Measurement, source: Source, sample: np.ndarray) -> bool:
    if source.domain != "auto":
        return source.domain == "amplitude"
    if measurement.amplitude is not None:
        return measurement.amplitude
    if sample.dtype.kind in "ui" or is_whole(sample):
        return False  # square roots of counts are rarely integers
    raise ValueError(
        f"{measurement.file} may hold counts or amplitudes (programs differ): set source.domain to counts or amplitude"
    )


def _counts(measurement: Measurement, view: DetectorView) -> Stack | np.ndarray:
    counts = view.counts(measurement.patterns)
    if np.prod(counts.shape, dtype=np.float64) * counts.dtype.itemsize > IN_MEMORY_BYTES:
        return counts
    array = counts[:]
    return array.astype(smallest_dtype(array), copy=False)


def _in_pixels(measurement: Measurement, geometry: Geometry, size: int) -> np.ndarray:
    """Return positions in object pixels of patterns of ``size`` px."""
    assert measurement.positions is not None
    if measurement.positions.unit == "m":
        return np.asarray(measurement.positions.values / geometry.pixel_size_m)
    if geometry.near_field:
        return np.asarray(measurement.positions.values)
    return np.asarray(measurement.positions.values * (size / measurement.patterns.shape[-1]))


def _probe(
    measurement: Measurement, source: Source, view: DetectorView, geometry: Geometry, mean: np.ndarray
) -> np.ndarray:
    """Return the file's probe on the kept detector area, else a guess from the mean pattern."""
    if measurement.probe is None or source.defocus_m is not None:
        defocus = source.defocus_m if source.defocus_m is not None else measurement.defocus_m
        return guess_probe(mean, geometry, defocus, *_aperture(measurement, source, geometry))
    probe = measurement.probe
    if probe.shape[-2:] != (view.size, view.size):
        if probe.shape[-2:] != measurement.patterns.shape[-2:] or probe.shape[-1] != probe.shape[-2]:
            raise ValueError(
                f"{measurement.file}: got a probe of shape {probe.shape} for patterns of "
                f"{measurement.patterns.shape[-2:]} px: give a probe of that size in source.probe"
            )
        probe = resize_near_field(probe, view.size) if geometry.near_field else resize_far_field(probe, view.size)
    return probe.astype(np.complex64) if measurement.probe_in_photons else in_photons(probe, float(mean.sum()))


def _aperture(measurement: Measurement, source: Source, geometry: Geometry) -> tuple[float | None, float]:
    """Return half angle and central stop of the aperture; None where the mean pattern shows it."""
    if source.zone_plate is None:
        return measurement.aperture_rad, 0.0
    return geometry.wavelength_m / (2 * source.zone_plate.outermost_zone_m), source.zone_plate.central_stop


def _origin_of_probe(measurement: Measurement, source: Source) -> dict[str, str]:
    """Return ``probe_source`` where the probe is guessed from the patterns."""
    if measurement.probe is not None and source.defocus_m is None:
        return {}
    logger.info("%s: no probe; made one from the mean pattern: refine it", measurement.name)
    return {"probe_source": GUESS}


def _truth(measurement: Measurement, view: DetectorView) -> GroundTruth:
    if measurement.object is None:
        raise ValueError(f"object not found in {measurement.file}: remove source.object_is_ground_truth")
    if not view.whole:
        raise ValueError(
            "source.size and source.object_is_ground_truth exclude each other: cut with packing.crop, which also "
            "resamples the ground truth"
        )
    return GroundTruth(measurement.object.astype(np.complex64), measurement.object_origin)
