"""Conversion of a measurement as its file holds it to a ``Scan``: every unit, axis and centre is converted here."""

import dataclasses
import logging
from typing import cast

import numpy as np

from ..config import MeasuredGeometry, Source
from ..core.scan import ELEMENTARY_CHARGE_C, PLANCK_J_S, SPEED_OF_LIGHT_M_S, Geometry, GroundTruth, Scan, smallest_dtype
from ..io.lazy_stack import Stack
from ..preprocessing.cropping import resize_far_field
from ..preprocessing.position_transform import oriented
from ..preprocessing.probe_guess import guess_probe, in_photons
from .detector_view import DetectorView, beam_in_corner, dead_pixels, kept_square, sample_patterns
from .raw_scan import Measurement
from .scan_positions import Positions

logger = logging.getLogger(__name__)

IN_MEMORY_BYTES = 1 << 28
"""Scans of up to this many bytes are read at once, which finds their smallest dtype; larger ones stay on disk."""
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
    geometry, nominal = geometry_of(measurement, source.geometry or MeasuredGeometry(), view.size)
    mean = np.asarray(sample_patterns(counts) if isinstance(counts, Stack) else counts).mean(0, dtype=np.float64)
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
        | ({} if source.fano_factor is None else {"fano_factor": source.fano_factor}),
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
    measurement = _without_absent(measurement)
    assert measurement.positions is not None
    scaled = measurement.positions.scaled(source.position_unit)
    positions = scaled.values
    if positions.shape != (len(measurement.patterns), 2):
        raise ValueError(
            f"got positions of shape {positions.shape} for {len(measurement.patterns)} diffraction patterns, expected "
            f"({len(measurement.patterns)}, 2): remove the extra patterns or complete the position file"
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


def _without_absent(measurement: Measurement) -> Measurement:
    """Return the measurement without patterns that were never written, and without their positions if it has them."""
    absent = measurement.patterns.absent
    if absent is None or measurement.positions is None:
        return measurement
    stored = np.flatnonzero(~absent)
    positions = measurement.positions
    if len(positions) == len(absent):
        positions = dataclasses.replace(positions, values=positions.values[stored])
    metadata = measurement.metadata | {"patterns_never_written": int(absent.sum())}
    return dataclasses.replace(
        measurement, patterns=measurement.patterns.take(stored), positions=positions, metadata=metadata
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
    mask = ~dead_pixels(sample) if measurement.mask is None else measurement.mask & ~dead_pixels(sample)
    if not mask.any():
        raise ValueError(
            f"{measurement.file}: every detector pixel is masked: the mask may be inverted, or the patterns are empty"
        )
    mean = np.where(mask, np.maximum(sample, 0).astype(np.float64).mean(0), 0)
    corner = _corner(measurement, source, mean)
    beam = source.centre
    if beam is None and not corner and (source.size or mask.shape[0] != mask.shape[1]):
        beam = measurement.beam
    first, size = kept_square(mask.shape, beam, source.size)
    return DetectorView(measurement.file, mask, corner, first, size, _amplitude(measurement, source, sample.dtype))


def geometry_of(measurement: Measurement, given: MeasuredGeometry, size: int) -> tuple[Geometry, bool]:
    """Return the lengths for patterns of ``size`` px, and True if any of them is nominal: given by hand or assumed.

    Args:
        measurement: what the file holds.
        given: lengths from the config, which override those of the file.
        size: side N of the kept patterns, px.

    Raises:
        ValueError: if they cannot be known; the message names what to give.
    """
    side = measurement.patterns.shape[-1]
    wavelength = given.wavelength_m or (given.energy_ev and wavelength_m(given.energy_ev)) or measurement.wavelength_m
    distance = given.detector_distance_m or measurement.detector_distance_m
    pitch = given.detector_pixel_m or measurement.detector_pixel_m
    pixel = given.pixel_size_m or (None if wavelength and distance and pitch else measurement.pixel_size_m)
    nominal = any(value is not None for value in given.model_dump().values())
    if pixel and not wavelength and distance and pitch:
        wavelength = pixel * side * pitch / distance
    reasons = f" ({'; '.join(measurement.unread)})" if measurement.unread else ""
    if not wavelength:
        raise ValueError(f"wavelength not found in {measurement.file}{reasons}: {LENGTHS_REMEDY}")
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


def wavelength_m(energy_ev: float) -> float:
    """Wavelength of a photon of ``energy_ev``, lambda = h c / E, m."""
    return PLANCK_J_S * SPEED_OF_LIGHT_M_S / (energy_ev * ELEMENTARY_CHARGE_C)


def _corner(measurement: Measurement, source: Source, mean: np.ndarray) -> bool:
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


def _amplitude(measurement: Measurement, source: Source, dtype: np.dtype) -> bool:
    if source.domain != "auto":
        return source.domain == "amplitude"
    if measurement.amplitude is not None:
        return measurement.amplitude
    if dtype.kind in "ui":
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
    return np.asarray(measurement.positions.values * (size / measurement.patterns.shape[-1]))


def _probe(
    measurement: Measurement, source: Source, view: DetectorView, geometry: Geometry, mean: np.ndarray
) -> np.ndarray:
    """Return the file's probe on the kept detector area, else a guess from the mean pattern."""
    if measurement.probe is None or source.defocus_m is not None:
        defocus = source.defocus_m if source.defocus_m is not None else measurement.defocus_m
        return guess_probe(mean, geometry, defocus, measurement.aperture_rad)
    probe = measurement.probe
    if probe.shape[-2:] != (view.size, view.size):
        if probe.shape[-2:] != measurement.patterns.shape[-2:] or probe.shape[-1] != probe.shape[-2]:
            raise ValueError(
                f"{measurement.file}: got a probe of shape {probe.shape} for patterns of "
                f"{measurement.patterns.shape[-2:]} px: give a probe of that size in source.probe"
            )
        probe = resize_far_field(probe, view.size)
    return probe.astype(np.complex64) if measurement.probe_in_photons else in_photons(probe, float(mean.sum()))


def _truth(measurement: Measurement, view: DetectorView) -> GroundTruth:
    if measurement.object is None:
        raise ValueError(f"object not found in {measurement.file}: remove source.object_is_ground_truth")
    if not view.whole:
        raise ValueError(
            "source.size and source.object_is_ground_truth exclude each other: cut with packing.crop, which also "
            "resamples the ground truth"
        )
    return GroundTruth(measurement.object.astype(np.complex64), measurement.object_origin)
