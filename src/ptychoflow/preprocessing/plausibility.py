"""Plausibility of lengths: what no experiment has is questioned, with the likely mistake."""

from collections.abc import Sequence

import numpy as np

from ..core.scan import Geometry
from ..core.units import factor
from ..core.wavelengths import ELECTRONS_FROM_EV, electron_wavelength_m
from .detector_statistics import typical_step

ELECTRONS_BELOW_M = electron_wavelength_m(20e3)
"""Wavelengths below this one, 8.6 pm, are those of electrons: photons would have 144 keV."""
PHOTON_ENERGIES_EV = (30.0, ELECTRONS_FROM_EV)
DISTANCES_M = (1e-3, 100.0)
DETECTOR_PIXELS_M = (1e-6, 2e-3)
OBJECT_PIXELS_M = (1e-12, 5e-6)
STEPS_PX = (0.5, 0.75)
"""Least step, px, and greatest step as a share of the side of a pattern, that positions may have."""
UNITS = ("m", "mm", "um", "nm")
OUTLYING_EXTENTS = 10.0
"""Extents of the other positions beyond which a position is an outlier."""


def doubts_about_lengths(geometry: Geometry, size: int, detector_known: bool = True) -> list[str]:
    """Question lengths that no far-field experiment has.

    Args:
        geometry: of the scan.
        size: side of a pattern, px.
        detector_known: False where distance and detector pixel follow from the object pixel alone.
    """
    doubts = []
    photons = geometry.wavelength_m >= ELECTRONS_BELOW_M
    low, high = PHOTON_ENERGIES_EV
    if photons and not low <= geometry.energy_ev <= high:
        likely = " (keV?)" if low <= geometry.energy_ev * 1e3 <= high else ""
        doubts.append(
            f"the energy is {geometry.energy_ev:.4g} eV{likely}: check source.geometry.energy_ev and its unit"
        )
    if not OBJECT_PIXELS_M[0] <= geometry.pixel_size_m <= OBJECT_PIXELS_M[1]:
        doubts.append(
            f"an object pixel is {geometry.pixel_size_m:.3g} m wide: check energy, distance and detector pixel"
        )
    if photons and detector_known:
        distance, pitch = geometry.detector_distance_m, geometry.detector_pixel_m(size)
        if not DISTANCES_M[0] <= distance <= DISTANCES_M[1]:
            likely = " (mm?)" if DISTANCES_M[0] <= distance * 1e-3 <= DISTANCES_M[1] else ""
            doubts.append(f"the detector is {distance:.4g} m away{likely}: check source.geometry.detector_distance_m")
        if not DETECTOR_PIXELS_M[0] <= pitch <= DETECTOR_PIXELS_M[1]:
            doubts.append(
                f"a detector pixel is {pitch:.3g} m wide: check source.geometry.detector_pixel_m and its unit"
            )
    return doubts


def doubts_about_steps(step: float, extent: Sequence[float], diameter: float, size: int) -> list[str]:
    """Question steps of a scan that its beam and its detector do not suit.

    Args:
        step: typical distance of neighbours, px.
        extent: of the positions, ``(y, x)`` px.
        diameter: of the beam, px.
        size: side of a pattern, px.
    """
    where = "check the unit of the positions (source.position_unit), energy, distance and detector pixel"
    if not np.isfinite(step):
        return []
    if max(extent) < 1:
        return [f"all positions lie within {max(extent):.2g} px: {where}"]
    if step < STEPS_PX[0]:
        return [f"the step of {step:.2g} px is smaller than a pixel: {where}"]
    if step > size:
        return [f"the step of {step:.3g} px is larger than a pattern of {size} px: {where}"]
    if step > diameter:
        return [f"the step of {step:.3g} px is larger than the beam of {diameter:.3g} px: {where}"]
    return []


def likely_unit(values: np.ndarray, pixel_m: float | None, size: int) -> str | None:
    """Return the unit in which positions have steps that suit the patterns, if there is just one.

    Args:
        values: positions, numbers as in the file, ``(J, 2)``.
        pixel_m: side of an object pixel, m; None where it is not known, and the extent of the scan decides.
        size: side of a pattern, px.
    """
    values = values[np.isfinite(values).all(1)]
    unique = np.unique(values, axis=0)
    if len(unique) < 2:
        return None
    step, extent = typical_step(unique), float(np.ptp(unique, axis=0).max())
    if pixel_m is None:
        return "m" if extent < 1e-2 else "um"
    suits = [
        unit
        for unit in UNITS
        if STEPS_PX[0] <= step * factor(unit, "length", "positions") / pixel_m <= STEPS_PX[1] * size
    ]
    return suits[0] if len(suits) == 1 else None


def outlying_positions(positions: np.ndarray) -> np.ndarray:
    """Return True for positions far outside the scan, as of an encoder that slipped, ``(J,)``.

    Args:
        positions: ``(J, 2)``, in any unit.
    """
    low, high = np.nanpercentile(positions, (5, 95), axis=0)
    reach = OUTLYING_EXTENTS * max(float((high - low).max()), 1e-300)
    return np.asarray((abs(positions - (low + high) / 2) > reach).any(1))
