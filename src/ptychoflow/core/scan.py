"""A scan: diffraction patterns, where they were taken, with what probe; and its file, a CXI that other tools open."""

import logging
from dataclasses import dataclass, field

import numpy as np

logger = logging.getLogger(__name__)

DARKEST, BRIGHTEST = 0.01, 2.0
"""Least and most light that an object lets through, more than 1 for a probe that is known roughly."""
PLANCK_J_S = 6.62607015e-34
LIGHT_M_S = 299792458.0
ELEMENTARY_CHARGE_C = 1.602176634e-19


@dataclass(frozen=True)
class Geometry:
    """Lengths of an experiment. Three numbers and the side of a pattern give all the others.

    Attributes:
        pixel_size_m: side of an object pixel, m.
        wavelength_m: m. For electrons the de Broglie wavelength.
        detector_distance_m: sample to detector, m.
    """

    pixel_size_m: float
    wavelength_m: float
    detector_distance_m: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}, expected a positive length in metres")

    @classmethod
    def from_detector(
        cls, size: int, energy_ev: float, detector_distance_m: float, detector_pixel_m: float
    ) -> "Geometry":
        """The geometry of patterns of ``size`` px: object pixel = wavelength x distance / (size x detector pixel)."""
        wavelength_m = PLANCK_J_S * LIGHT_M_S / (energy_ev * ELEMENTARY_CHARGE_C)
        return cls(wavelength_m * detector_distance_m / (size * detector_pixel_m), wavelength_m, detector_distance_m)

    @property
    def energy_ev(self) -> float:
        """Energy of a photon of this wavelength, eV."""
        return PLANCK_J_S * LIGHT_M_S / (self.wavelength_m * ELEMENTARY_CHARGE_C)

    def detector_pixel_m(self, size: int) -> float:
        """Side of a detector pixel for patterns of ``size`` pixels, m."""
        return self.wavelength_m * self.detector_distance_m / (size * self.pixel_size_m)


@dataclass(frozen=True)
class GroundTruth:
    """The object a scan was simulated from.

    Attributes:
        object: complex transmission, ``(H, W)``.
        origin: position ``(y, x)`` of its pixel ``[0, 0]``, px: index = position - origin.
        positions: where the beam really was, px, ``(J, 2)``, if that differs from the scan's positions.
    """

    object: np.ndarray
    origin: tuple[float, float] = (0.0, 0.0)
    positions: np.ndarray | None = None


@dataclass(frozen=True)
class Scan:
    """Patterns and what they were measured with. Arrays may be memory maps.

    Attributes:
        counts: photons, ``(J, N, N)``, zero frequency at ``[N // 2, N // 2]``.
        positions: centres ``(y, x)`` in object pixels, float64, ``(J, 2)``; index ``n`` of a patch lies at
            ``n - N // 2``.
        probe: modes in sqrt(photons), complex64, ``(M, N, N)``; ``sum(abs(probe)**2)`` is the photons per pattern.
        geometry: lengths.
        mask: True where a detector pixel counts, ``(N, N)``; None where all do.
        truth: the object, where it is known.
        name: what the scan is called.
        metadata: anything else worth keeping, plain data: photons asked and measured, recipe, what is nominal.
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
            raise ValueError("the scan holds no patterns")
        if self.positions.shape != (len(self.counts), 2):
            raise ValueError(f"{len(self.counts)} diffraction patterns but positions of shape {self.positions.shape}")
        if not np.isfinite(self.positions).all():
            raise ValueError("positions hold NaN or infinity: drop those patterns")
        if self.probe.ndim != 3 or self.probe.shape[1:] != self.counts.shape[1:]:
            raise ValueError(f"probe has shape {self.probe.shape}, expected (modes, {self.size}, {self.size})")
        if not np.isfinite(self.probe).all() or not np.any(self.probe):
            raise ValueError("the probe is empty or holds NaN: give one with photons in it")
        if self.mask is not None and self.mask.shape != self.counts.shape[1:]:
            raise ValueError(f"mask has shape {self.mask.shape}, patterns are {self.counts.shape[1:]}")
        if self.mask is not None and self.mask.dtype != bool:
            raise ValueError(f"mask holds {self.mask.dtype}, expected bool: True where a pixel counts")
        if self.mask is not None and not self.mask.any():
            raise ValueError("the mask leaves no pixel: it is True where a pixel counts")
        true_positions = None if self.truth is None else self.truth.positions
        if true_positions is not None and true_positions.shape != self.positions.shape:
            raise ValueError(f"true positions have shape {true_positions.shape}, the positions {self.positions.shape}")

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def size(self) -> int:
        """Side of a pattern, px."""
        return self.counts.shape[-1]

    @property
    def photons(self) -> float:
        """Photons per pattern that the probe carries."""
        return float(np.sum(np.abs(self.probe) ** 2))


def check_spread(scan: Scan) -> None:
    """Refuse positions that all lie within a pixel: no patterns of those can be told apart by where they were taken.

    Raises:
        ValueError: saying where they lie.
    """
    reach = np.ptp(scan.positions, axis=0)
    if len(scan) > 1 and reach.max() < 1:
        y, x = scan.positions[0]
        raise ValueError(
            f"all {len(scan)} positions of {scan.name} lie within {reach.max():.2g} px of ({y:.6g}, {x:.6g}) px, "
            "expected a scan over several places: check the positions and their unit"
        )


def check_light(scan: Scan, measured: float) -> None:
    """Warn where the patterns hold far more or less light than the probe brings, which no object makes of it.

    Args:
        scan: its counts are not looked at.
        measured: photons per pattern, on the pixels that count.
    """
    power = np.sum(np.abs(np.fft.fft2(scan.probe, norm="ortho")) ** 2, axis=0)
    on_mask = float(power.sum() if scan.mask is None else power[np.fft.ifftshift(scan.mask)].sum())
    if not on_mask * DARKEST <= measured <= scan.photons * BRIGHTEST:
        logger.warning(
            "the patterns of %s hold %.3g photons on average, the probe brings %.3g: what follows will be wrong unless "
            "it is scaled to sqrt(photons)",
            *(scan.name, measured, scan.photons),
        )


def check_counts(counts: np.ndarray, what: str = "counts") -> None:
    """Refuse counts that no detector gives.

    Raises:
        ValueError: for NaN, infinite or negative values, saying where the first one is.
    """
    if counts.dtype.kind == "u":
        return
    bad = impossible(counts)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        kinds = "negative values" if np.isfinite(counts[bad]).all() else "NaN or infinite values"
        raise ValueError(
            f"{what} hold {int(bad.sum())} {kinds}, the first at {where}: mask those pixels or drop the patterns"
        )


def impossible(counts: np.ndarray) -> np.ndarray:
    """True where a value is no count: NaN, infinite or negative."""
    return ~np.isfinite(counts) | (counts < 0) if counts.dtype.kind == "f" else counts < 0


def smallest_dtype(counts: np.ndarray) -> np.dtype:
    """The smallest dtype that holds these counts without loss: uint8, 16, 32, else float32, else float64."""
    whole = counts.dtype.kind in "ui" or bool(np.array_equal(counts, np.rint(counts)))
    greatest = counts.max(initial=0)
    for dtype in (np.uint8, np.uint16, np.uint32) if whole else ():
        if greatest <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    single = counts.astype(np.float32)
    return np.dtype(np.float32 if np.array_equal(single, counts) else np.float64)
