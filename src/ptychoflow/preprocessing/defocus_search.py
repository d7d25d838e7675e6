"""Defocus of a beam whose probe is not known, found together with the orientation of the scan by trial reconstructions.

A probe that is made in focus for a sample far from it explains no pattern, under any orientation. Turning the scan by
180 degrees is the same as reversing the defocus, so one sign is tried.
"""

import dataclasses
import math

import numpy as np

from ..core.scan import Scan
from .detector_statistics import typical_step
from .probe_guess import guess_probe
from .scan_orientation import Finding, compare_orientations, find_orientation, flips, turned_by_180
from .trial_reconstruction import most_structured_region

BEAMS_PER_STEP = (1.0, 1.6, 2.5, 4.0, 6.0)
"""Diameters of the blurred beam that are tried, in steps of the scan."""
LARGEST_BEAM = 0.7
"""Share of the side of a pattern that the beam may fill."""
FINER = (0.7, 0.85, 1.0, 1.2, 1.4)
"""Factors to the best defocus that are tried next."""
CLEARLY_LOWER = 0.97
"""Ratio of the R-factors below which a defocused probe is taken instead of a focused one."""
PATTERNS, EPOCHS = 80, 4


def find_defocus(scan: Scan, aperture_rad: float | None = None) -> float | None:
    """Find the defocus, m, whose probe explains the patterns best under any right-angle orientation.

    Args:
        scan: with positions as in its file; its probe is not used.
        aperture_rad: half angle of the beam, rad; None takes it from the mean pattern.

    Returns:
        The defocus, positive; None where a focused probe is as good.
    """
    unit_m = typical_step(np.unique(scan.positions, axis=0)) * scan.geometry.pixel_size_m
    part = most_structured_region(scan, PATTERNS)
    mean = part.counts.mean(0, dtype=np.float64)
    half_angle = aperture_rad or half_angle_of(mean, part)
    if not (math.isfinite(unit_m) and unit_m > 0 and half_angle > 0):
        return None
    widest = LARGEST_BEAM * part.size * part.geometry.pixel_size_m
    diameters = [min(beams * unit_m, widest) for beams in BEAMS_PER_STEP]

    def error(defocus_m: float) -> float:
        probe = guess_probe(mean, part.geometry, defocus_m, aperture_rad)
        return min(compare_orientations(dataclasses.replace(part, probe=probe), PATTERNS, EPOCHS).errors)

    errors = {
        defocus: error(defocus) for defocus in (0.0, *(side / (2 * half_angle) for side in sorted(set(diameters))))
    }
    best = min(errors, key=lambda defocus: errors[defocus])
    if best > 0:
        errors |= {best * factor: error(best * factor) for factor in FINER if factor != 1.0}
        best = min(errors, key=lambda defocus: errors[defocus])
    return best if best > 0 and errors[best] < CLEARLY_LOWER * errors[0.0] else None


def find_orientation_and_defocus(
    scan: Scan, mean: np.ndarray, aperture_rad: float | None = None, rotations: bool = False
) -> tuple[Finding, float | None]:
    """Find the orientation of a scan without a probe, and the defocus of its beam, m, None in focus.

    Of the two orientations that differ by 180 degrees, that with fewer flips is chosen, with the sign of the defocus
    that belongs to it.

    Args:
        scan: with positions as in its file.
        mean: mean pattern, ``(N, N)``.
        aperture_rad: half angle of the beam, rad; None takes it from the mean pattern.
        rotations: also try rotations, as for electrons.
    """
    defocus = find_defocus(scan, aperture_rad)
    if defocus is None:
        return find_orientation(scan, rotations, probe_known=False), None
    for signed in (defocus, -defocus):
        probe = guess_probe(mean, scan.geometry, signed, aperture_rad)
        finding = find_orientation(dataclasses.replace(scan, probe=probe), rotations)
        turned = turned_by_180(finding.best)
        if flips(finding.best) <= flips(turned):
            break
    return dataclasses.replace(finding, turned=turned), signed


def half_angle_of(mean: np.ndarray, scan: Scan) -> float:
    """Half angle of the beam, rad, by the second moment of the mean pattern as of a uniform disc."""
    offsets = np.arange(len(mean)) - len(mean) // 2
    total = float(mean.sum())
    squared = float((mean * (offsets[:, None] ** 2 + offsets**2)).sum()) / total if total > 0 else 0.0
    return math.sqrt(2 * squared) * scan.geometry.wavelength_m / (len(mean) * scan.geometry.pixel_size_m)
