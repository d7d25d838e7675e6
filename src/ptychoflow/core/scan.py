"""A scan: diffraction patterns, positions, probe and geometry, with the checks that every scan must pass."""

import logging
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

logger = logging.getLogger(__name__)

MIN_TRANSMISSION, MAX_TRANSMISSION = 0.01, 2.0
"""Plausible limits of counts over photons of the probe; above 1 because the probe may be known roughly only."""
PLANCK_J_S = 6.62607015e-34
SPEED_OF_LIGHT_M_S = 299792458.0
ELEMENTARY_CHARGE_C = 1.602176634e-19
LARGEST_COUNT = 2.0**53
"""No detector counts further; float patterns beyond it hold a flag, or were never initialised."""


@dataclass(frozen=True)
class Geometry:
    """Wavelength, distances and pixel size; with the side of a pattern they determine all other lengths.

    Attributes:
        pixel_size_m: side of an object pixel, m; in the near field that of a detector pixel over the magnification.
        wavelength_m: wavelength, m; for electrons the de Broglie wavelength.
        detector_distance_m: distance from sample to detector, m.
        propagation: ``far_field``, or ``near_field`` where the detector is so near that a pattern is a blurred shadow.
        focus_distance_m: distance from the focus of a cone beam to the sample in the near field, m; None for a parallel
            beam.
    """

    pixel_size_m: float
    wavelength_m: float
    detector_distance_m: float
    propagation: Literal["far_field", "near_field"] = "far_field"
    focus_distance_m: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "propagation" and value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}, expected a positive length in metres")
        if self.propagation not in ("far_field", "near_field"):
            raise ValueError(f"propagation is {self.propagation!r}, expected far_field or near_field")
        if self.focus_distance_m is not None and not self.near_field:
            raise ValueError("focus_distance_m is that of a near-field scan: set propagation to near_field")

    @classmethod
    def from_detector(
        cls, size: int, energy_ev: float, detector_distance_m: float, detector_pixel_m: float
    ) -> "Geometry":
        """Return the geometry of patterns of ``size`` px: pixel = wavelength x distance / (size x detector pixel)."""
        wavelength_m = PLANCK_J_S * SPEED_OF_LIGHT_M_S / (energy_ev * ELEMENTARY_CHARGE_C)
        return cls(wavelength_m * detector_distance_m / (size * detector_pixel_m), wavelength_m, detector_distance_m)

    @property
    def energy_ev(self) -> float:
        """Photon energy E of this wavelength, eV."""
        return PLANCK_J_S * SPEED_OF_LIGHT_M_S / (self.wavelength_m * ELEMENTARY_CHARGE_C)

    @property
    def near_field(self) -> bool:
        """True for patterns of the near field."""
        return self.propagation == "near_field"

    @property
    def magnification(self) -> float:
        """Magnification M = (z1 + z2) / z1 of a near-field pattern by its cone beam, 1 for a parallel beam."""
        z1 = self.focus_distance_m
        return 1.0 if z1 is None else (z1 + self.detector_distance_m) / z1

    @property
    def effective_distance_m(self) -> float:
        """Distance z1 z2 / (z1 + z2) over which a parallel beam makes the same near-field pattern, m."""
        return self.detector_distance_m / self.magnification

    def lengths(self) -> dict[str, float | str]:
        """Return the attributes for files; those of the near field only where they hold something."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        return values if self.near_field else {name: v for name, v in values.items() if name != "propagation"}

    def detector_pixel_m(self, size: int) -> float:
        """Return the side of a detector pixel for patterns of ``size`` px, m."""
        if self.near_field:
            return self.pixel_size_m * self.magnification
        return self.wavelength_m * self.detector_distance_m / (size * self.pixel_size_m)


def near_field_geometry(
    detector_pixel_m: float, wavelength_m: float, detector_distance_m: float, focus_distance_m: float | None = None
) -> Geometry:
    """Make the geometry of near-field patterns, whose object pixel is a detector pixel over the magnification.

    Args:
        detector_pixel_m: side of a detector pixel, m.
        wavelength_m: wavelength, m.
        detector_distance_m: distance from sample to detector, m.
        focus_distance_m: distance from focus to sample, m; None for a parallel beam.
    """
    narrow = Geometry(detector_pixel_m, wavelength_m, detector_distance_m, "near_field", focus_distance_m)
    return replace(narrow, pixel_size_m=detector_pixel_m / narrow.magnification)


@dataclass(frozen=True)
class GroundTruth:
    """The object that a scan was simulated from.

    Attributes:
        object: complex transmission, ``(H, W)``; of a thick sample the product of its slices.
        origin: position ``(y, x)`` of the object's pixel ``[0, 0]``, px: index = position - origin.
        positions: true positions, px, ``(J, 2)``, where they differ from the recorded ones; None where not.
        slices: slices of a thick sample along the beam, ``(S, H, W)``, the first one upstream; None for a thin one.
        slice_spacing_m: distance between neighbouring slices, m; 0 for a thin sample.
    """

    object: np.ndarray
    origin: tuple[float, float] = (0.0, 0.0)
    positions: np.ndarray | None = None
    slices: np.ndarray | None = None
    slice_spacing_m: float = 0.0


@dataclass(frozen=True)
class Scan:
    """Diffraction patterns with their positions, probe and geometry. Arrays may be memory maps.

    Attributes:
        counts: counts of each pattern, photons, ``(J, N, N)``, zero frequency at ``[N // 2, N // 2]``.
        positions: centres ``(y, x)`` of the probe, object px, float64, ``(J, 2)``; index ``n`` of a patch is at
            ``n - N // 2``.
        probe: probe modes, sqrt(photons), complex64, ``(M, N, N)``; ``sum(abs(probe)**2)`` is the photons per pattern.
        geometry: wavelength, distance and pixel size.
        mask: True where a detector pixel is valid, ``(N, N)``; None where all are.
        truth: ground truth, where it is known.
        name: name of the scan.
        metadata: plain data about the scan: photons requested and measured, recipe, nominal values.
    """

    counts: np.ndarray
    positions: np.ndarray
    probe: np.ndarray
    geometry: Geometry
    mask: np.ndarray | None = None
    truth: GroundTruth | None = None
    name: str = "scan"
    metadata: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.counts.ndim != 3 or self.counts.shape[1] != self.counts.shape[2]:
            raise ValueError(f"counts have shape {self.counts.shape}, expected (patterns, N, N)")
        if len(self.counts) == 0:
            raise ValueError("the scan holds 0 patterns, expected at least 1")
        if self.positions.shape != (len(self.counts), 2):
            raise ValueError(
                f"got positions of shape {self.positions.shape} for {len(self.counts)} diffraction patterns, expected "
                f"({len(self.counts)}, 2): remove extra patterns or complete the positions"
            )
        if not np.isfinite(self.positions).all():
            raise ValueError("positions hold NaN or infinity: remove those patterns")
        if self.probe.ndim != 3 or self.probe.shape[1:] != self.counts.shape[1:]:
            raise ValueError(f"probe has shape {self.probe.shape}, expected (modes, {self.size}, {self.size})")
        if not np.isfinite(self.probe).all() or not np.any(self.probe):
            raise ValueError("the probe is all zeros or holds NaN: give one in sqrt(photons)")
        if self.mask is not None and self.mask.shape != self.counts.shape[1:]:
            raise ValueError(f"mask has shape {self.mask.shape}, expected that of a pattern, {self.counts.shape[1:]}")
        if self.mask is not None and self.mask.dtype != bool:
            raise ValueError(f"mask holds {self.mask.dtype}, expected bool: True where a pixel is valid")
        if self.mask is not None and not self.mask.any():
            raise ValueError(
                "every detector pixel is masked: the mask may be inverted, it is True where a pixel is valid"
            )
        if self.truth is not None and self.truth.object.ndim != 2:
            raise ValueError(f"the ground truth has shape {self.truth.object.shape}, expected (H, W)")
        if self.truth is not None and self.truth.slices is not None:
            _check_slices(self.truth)
        true_positions = None if self.truth is None else self.truth.positions
        if true_positions is not None and true_positions.shape != self.positions.shape:
            raise ValueError(
                f"true positions have shape {true_positions.shape}, expected that of positions, {self.positions.shape}"
            )

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def size(self) -> int:
        """Side N of a pattern, px."""
        return self.counts.shape[-1]

    @property
    def photons(self) -> float:
        """Photons per pattern that the probe carries, ``sum(abs(probe)**2)``."""
        return float(np.sum(np.abs(self.probe) ** 2))

    @property
    def fano_factor(self) -> float:
        """Variance over mean of a count, dimensionless; 1 for Poisson noise."""
        return float(self.metadata.get("fano_factor", 1.0))


def _check_slices(truth: GroundTruth) -> None:
    """Refuse slices of a ground truth that do not belong to its object, or are not apart."""
    assert truth.slices is not None
    shape = truth.slices.shape
    if len(shape) != 3 or shape[1:] != truth.object.shape or 0 in shape:
        raise ValueError(f"slices of the ground truth have shape {shape}, expected (S, {truth.object.shape})")
    if not truth.slice_spacing_m > 0:
        raise ValueError(f"slices of the ground truth are {truth.slice_spacing_m} m apart, expected more than 0")


def check_scan_extent(scan: Scan) -> None:
    """Refuse positions that all lie within a pixel: patterns at one place cannot be reconstructed together.

    Raises:
        ValueError: naming the place.
    """
    extent = np.ptp(scan.positions, axis=0)
    if len(scan) > 1 and extent.max() < 1:
        y, x = scan.positions[0]
        raise ValueError(
            f"all {len(scan)} positions of {scan.name} lie within {extent.max():.2g} px of ({y:.6g}, {x:.6g}) px, "
            "expected a scan over several places: check the positions and their unit"
        )


def check_photons(scan: Scan, measured: float) -> None:
    """Warn if the mean counts per pattern cannot come from the photons that the probe carries.

    Args:
        scan: scan whose probe and mask are used; its counts are not read.
        measured: mean counts per pattern on valid pixels, photons.
    """
    power = np.sum(np.abs(np.fft.fft2(scan.probe, norm="ortho")) ** 2, axis=0)
    # ASSUME in the near field that the mask leaves out as much of the pattern as of all photons
    mask = None if scan.geometry.near_field else scan.mask
    on_mask = float(power.sum() if mask is None else power[np.fft.ifftshift(mask)].sum())
    if not on_mask * MIN_TRANSMISSION <= measured <= scan.photons * MAX_TRANSMISSION:
        logger.warning(
            "%s: mean counts per pattern %.3g, but the probe carries %.3g photons; scale the probe to sqrt(photons)",
            *(scan.name, measured, scan.photons),
        )


def check_counts(counts: np.ndarray, what: str = "counts") -> None:
    """Refuse counts that are NaN, infinite, negative or beyond ``LARGEST_COUNT``.

    Args:
        counts: photons, of any shape.
        what: name of the array for the message.

    Raises:
        ValueError: with the number of such values and the index of the first.
    """
    if not may_be_invalid(counts.dtype):
        return
    bad = is_invalid_count(counts)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{what} hold {int(bad.sum())} {describe_invalid(counts[bad])}, the first at {first}: mask those pixels or "
            "drop the patterns, as packing.invalid_counts: mask or drop does"
        )


def may_be_invalid(dtype: np.dtype) -> bool:
    """Return True if a dtype has values that are not counts."""
    return dtype.kind != "u" or dtype.itemsize == 8


def is_invalid_count(counts: np.ndarray) -> np.ndarray:
    """Return True where a value is not a count: NaN, infinite, negative, or beyond ``LARGEST_COUNT``."""
    if not may_be_invalid(counts.dtype):
        return np.zeros(counts.shape, bool)
    with np.errstate(invalid="ignore"):
        return np.asarray(~((counts >= 0) & (counts <= LARGEST_COUNT)))


def describe_invalid(values: np.ndarray) -> str:
    """Return what kind of invalid counts these are, for messages."""
    if not np.isfinite(values).all():
        return "NaN or infinite values"
    return "negative values" if (values < 0).any() else f"values beyond {LARGEST_COUNT:.0e}"


def smallest_dtype(counts: np.ndarray) -> np.dtype:
    """Return the smallest dtype that holds these values without loss.

    Counts take uint8, 16 or 32, negative whole numbers int16 or 32, everything else float32 or float64.
    """
    whole = counts.dtype.kind in "ui" or bool(np.array_equal(counts, np.rint(counts)))
    least, greatest = counts.min(initial=0), counts.max(initial=0)
    if whole and np.isfinite(greatest) and np.isfinite(least):
        for dtype in (np.uint8, np.uint16, np.uint32, np.int16, np.int32):
            # as Python's integers: a float32 of 2**32 would pass for the largest uint32
            if np.iinfo(dtype).min <= int(least) and int(greatest) <= np.iinfo(dtype).max:
                return np.dtype(dtype)
    with np.errstate(over="ignore"):
        single = counts.astype(np.float32)
    return np.dtype(np.float32 if np.array_equal(single, counts, equal_nan=counts.dtype.kind == "f") else np.float64)
