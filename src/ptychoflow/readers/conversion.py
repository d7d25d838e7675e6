"""From what another program's file holds to a scan of ours: every unit, axis and centre is converted here."""

import dataclasses
import logging

import numpy as np

from ..config import MeasuredGeometry, Source
from ..core.scan import ELEMENTARY_CHARGE_C, PLANCK_J_S, SPEED_OF_LIGHT_M_S, Geometry, GroundTruth, Scan, smallest_dtype
from ..preprocessing.cropping import resize_far_field
from ..preprocessing.position_transform import oriented
from ..preprocessing.probe_guess import guess_probe, in_photons
from .detector_view import View, beam_in_corner, dead_pixels, kept_square, look
from .lazy_stack import Stack
from .raw_scan import Measurement

logger = logging.getLogger(__name__)

AT_ONCE = 1 << 28
"""Scans of up to this many bytes are read at once, which finds their smallest dtype; larger ones stay on disk."""
UNITS_M = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}


def scan_from(found: Measurement, source: Source) -> Scan:
    """A measurement as a scan in our units and conventions, with what ``source`` says laid over what the file says.

    The counts of a large scan stay on disk: slices of ``scan.counts`` read them.

    Raises:
        ValueError: saying what is missing or impossible, and where to give it.
    """
    found = with_positions(found, source)
    view = object_features(found, source)
    counts = _counts(found, view)
    geometry, nominal = geometry_of(found, source.geometry or MeasuredGeometry(), view.size)
    mean = np.asarray(look(counts) if isinstance(counts, Stack) else counts).mean(0, dtype=np.float64)
    mask = view.seen_mask()
    return Scan(
        counts=counts,
        positions=oriented(_in_pixels(found, geometry, view.size), source.orientation),
        probe=_probe(found, source, view, geometry, mean),
        geometry=geometry,
        mask=None if mask.all() else mask,
        truth=_truth(found, view) if source.object_is_ground_truth or found.object_is_ground_truth else None,
        name=found.name,
        metadata=found.metadata | {"nominal_geometry": nominal, "photons_measured": float(mean.sum())},
    )


def with_positions(found: Measurement, source: Source) -> Measurement:
    """The measurement with positions in the unit that ``source`` says, and only patterns that have one.

    Raises:
        ValueError: if there are none, or not as many as patterns.
    """
    if found.positions is None:
        raise ValueError(f"{found.file} holds no positions: give their file in source.positions")
    positions = np.asarray(found.positions, np.float64)
    if positions.shape != (len(found.patterns), 2):
        raise ValueError(f"{len(found.patterns)} diffraction patterns but positions of shape {positions.shape}")
    if source.position_unit == "px":
        found = dataclasses.replace(found, unit="px")
    elif source.position_unit != "auto":
        found, positions = dataclasses.replace(found, unit="m"), positions * UNITS_M[source.position_unit]
    known = np.isfinite(positions).all(1)
    if known.all():
        return dataclasses.replace(found, positions=positions)
    if not known.any():
        raise ValueError("positions hold NaN or infinity only")
    logger.warning("%d of %d patterns have no position: they are left out", np.sum(~known), len(known))
    kept = np.flatnonzero(known)
    metadata = found.metadata | {"patterns_without_position": int(np.sum(~known))}
    return dataclasses.replace(found, positions=positions[kept], patterns=found.patterns.take(kept), metadata=metadata)


def object_features(found: Measurement, source: Source) -> View:
    """How the patterns are to be seen: the light decides what the format leaves open, and ``source`` beats both.

    Raises:
        ValueError: if it is open whether patterns are counts, or the beam lies outside.
    """
    sample = look(found.patterns)
    mask = ~dead_pixels(sample) if found.mask is None else found.mask & ~dead_pixels(sample)
    if not mask.any():
        raise ValueError(f"{found.file}: no detector pixel counts: the mask is upside down or the patterns are empty")
    mean = np.where(mask, np.maximum(sample, 0).astype(np.float64).mean(0), 0)
    corner = _corner(found, source, mean)
    beam = source.centre
    if beam is None and not corner and (source.size or mask.shape[0] != mask.shape[1]):
        beam = found.beam
    first, size = kept_square(mask.shape, beam, source.size)
    return View(found.file, mask, corner, first, size, _amplitude(found, source, sample.dtype))


def geometry_of(found: Measurement, given: MeasuredGeometry, size: int) -> tuple[Geometry, bool]:
    """The lengths for patterns of ``size`` px, and whether any of them is nominal: given by hand or assumed.

    Raises:
        ValueError: if they cannot be known, naming what to give.
    """
    side = found.patterns.shape[-1]
    wavelength = given.wavelength_m or (given.energy_ev and wavelength_m(given.energy_ev)) or found.wavelength_m
    distance = given.detector_distance_m or found.detector_distance_m
    pitch = given.detector_pixel_m or found.detector_pixel_m
    pixel = given.pixel_size_m or (None if wavelength and distance and pitch else found.pixel_size_m)
    nominal = any(value is not None for value in given.model_dump().values())
    if pixel and not wavelength and distance and pitch:
        wavelength = pixel * side * pitch / distance
    if not wavelength:
        raise ValueError(f"{found.file} carries no wavelength: {_how_to_give()}")
    if not pixel:
        if not (distance and pitch):
            raise ValueError(f"{found.file} carries too few lengths: {_how_to_give()}")
        return Geometry(wavelength * distance / (size * pitch), wavelength, distance), nominal
    if not distance:
        nominal = nominal or not pitch
        distance = pixel * side * pitch / wavelength if pitch else 1.0
    return Geometry(pixel * side / size, wavelength, distance), nominal


def wavelength_m(energy_ev: float) -> float:
    """Wavelength of a photon, m."""
    return PLANCK_J_S * SPEED_OF_LIGHT_M_S / (energy_ev * ELEMENTARY_CHARGE_C)


def _corner(found: Measurement, source: Source, mean: np.ndarray) -> bool:
    if source.zero_frequency != "auto":
        return source.zero_frequency == "corner"
    seen = beam_in_corner(mean)
    if found.corner is not None and found.corner != seen:
        said, is_ = ("corner", "middle") if found.corner else ("middle", "corner")
        logger.warning(
            "the direct beam should lie in the %s, the light lies in the %s: set source.zero_frequency", said, is_
        )
    return seen if found.corner is None else found.corner


def _amplitude(found: Measurement, source: Source, dtype: np.dtype) -> bool:
    if source.domain != "auto":
        return source.domain == "amplitude"
    if found.amplitude is not None:
        return found.amplitude
    if dtype.kind in "ui":
        return False  # square roots of counts are no whole numbers
    raise ValueError(
        f"{found.file} may hold counts or amplitudes, programs differ: set source.domain to counts or amplitude"
    )


def _counts(found: Measurement, view: View) -> Stack | np.ndarray:
    counts = view.counts(found.patterns)
    if np.prod(counts.shape, dtype=np.float64) * counts.dtype.itemsize > AT_ONCE:
        return counts
    read = counts[:]
    return read.astype(smallest_dtype(read), copy=False)


def _in_pixels(found: Measurement, geometry: Geometry, size: int) -> np.ndarray:
    if found.unit == "m":
        return found.positions / geometry.pixel_size_m
    return found.positions * (size / found.patterns.shape[-1])


def _probe(found: Measurement, source: Source, view: View, geometry: Geometry, mean: np.ndarray) -> np.ndarray:
    """The file's probe on the kept detector area, else one made up from the mean pattern."""
    if found.probe is None or source.defocus_m is not None:
        defocus = source.defocus_m if source.defocus_m is not None else found.defocus_m
        return guess_probe(mean, geometry, defocus, found.aperture_rad)
    probe = found.probe
    if probe.shape[-2:] != (view.size, view.size):
        if probe.shape[-2:] != found.patterns.shape[-2:] or probe.shape[-1] != probe.shape[-2]:
            raise ValueError(
                f"{found.file}: the probe has shape {probe.shape}, patterns are {found.patterns.shape[-2:]}"
            )
        probe = resize_far_field(probe, view.size)
    return probe.astype(np.complex64) if found.probe_in_photons else in_photons(probe, float(mean.sum()))


def _truth(found: Measurement, view: View) -> GroundTruth:
    if found.object is None:
        raise ValueError(f"{found.file} holds no object: remove source.object_is_ground_truth")
    if not view.whole:
        raise ValueError(
            "source.size and object_is_ground_truth do not go together: cut with packing.crop, which also resamples"
        )
    return GroundTruth(found.object.astype(np.complex64), found.object_origin)


def _how_to_give() -> str:
    return (
        "give energy, distance and pixel size in source.geometry: energy_ev or wavelength_m, detector_distance_m, "
        "detector_pixel_m, or pixel_size_m"
    )
