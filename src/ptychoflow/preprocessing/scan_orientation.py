"""Orientation of the scan axes relative to the detector, determined by trial reconstructions of every candidate.

Reversing both axes is the same as conjugating object and probe, so those two differ only where the initial probe is
known; where it is not, both have the same error, and one of them is chosen.
"""

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from ..config import Orientation
from ..core.scan import Scan
from .cropping import centroid
from .position_transform import oriented
from .trial_reconstruction import most_structured_region, reconstruct_trials

RIGHT_ANGLE_ORIENTATIONS = tuple(
    Orientation(transpose=transpose, flip_y=flip_y, flip_x=flip_x)
    for transpose, flip_y, flip_x in itertools.product((False, True), repeat=3)
)
"""The eight combinations of transpose and flips."""
SEARCH_SCHEDULE = ((80, 4), (160, 6), (320, 8))
"""Patterns and epochs of the trials; the next ones follow while the result is uncertain."""
CONFIDENT_SIGMA = 6.0
"""Standard errors by which the best orientation must beat the next."""
SEPARATION_SIGMA = 3.0
"""Standard errors by which another rotation must be better to be taken."""
ROTATION_OFFSETS = (-10.0, -5.0, 0.0, 5.0, 10.0)
"""Rotations relative to the best one to which the parabola is fitted, degrees."""
SAME_DEGREES = 20.0
"""Orientations that differ by less are one answer."""
NEIGHBOURS = 9


@dataclass(frozen=True)
class Finding:
    """The result of a comparison of orientations.

    Attributes:
        orientations: the candidates.
        errors: mean R-factor of each.
        best: the one of the smallest R-factor.
        sigmas: standard errors by which each is worse than the best, over the patterns; 0 for the best.
        sigma: the smallest of these among candidates more than ``SAME_DEGREES`` from the best.
        patterns: number of patterns used.
        turned: the same turned by 180 degrees, which fits as well where the probe is not known: object and probe are
            then turned and conjugated; None where the probe decides.
    """

    orientations: tuple[Orientation, ...]
    errors: tuple[float, ...]
    best: Orientation
    sigmas: tuple[float, ...]
    sigma: float
    patterns: int
    turned: Orientation | None = None

    @property
    def sure(self) -> bool:
        """True if the best is ``CONFIDENT_SIGMA`` standard errors ahead."""
        return self.sigma >= CONFIDENT_SIGMA

    @property
    def is_clearly_better(self) -> bool:
        """True if the best is sure, or the orientation of the file is as far behind, though others may not be."""
        as_in_file = self.sigmas[self.orientations.index(Orientation())]
        return self.sure or self.best == Orientation() or as_in_file >= CONFIDENT_SIGMA


def find_orientation(scan: Scan, rotations: bool = False, probe_known: bool = True) -> Finding:
    """Determine the orientation of the positions relative to the detector.

    Args:
        scan: with positions as in its file.
        rotations: also try the rotation that makes the deflection of the beam free of curl, and refine the best one.
        probe_known: False where the probe of the scan is a guess. The scan may then be turned by 180 degrees as a
            whole; of two such candidates that with fewer flips is chosen.

    Raises:
        ValueError: for a scan of fewer than four patterns.
    """
    if len(scan) < 4:
        raise ValueError(f"{scan.name} has {len(scan)} patterns, expected at least 4 to determine the orientation")
    tried = (*RIGHT_ANGLE_ORIENTATIONS, *(suggested_rotations(scan) if rotations else ()))
    for count, epochs in SEARCH_SCHEDULE:
        finding = _compare_orientations(scan, tried, count, epochs, probe_known)
        if finding.sure or count >= len(scan):
            break
    return _refine_rotation(scan, finding) if rotations else finding


def suggested_rotations(scan: Scan) -> tuple[Orientation, ...]:
    """Return the rotations under which the deflection of the beam is free of curl, as a gradient must be: four or none.

    The centre of mass of a pattern is the gradient of the phase, smoothed by the probe. For either handedness one axis
    of rotation minimises the curl; the centre of mass does not determine its sign.
    """
    if len(scan) < NEIGHBOURS + 1:
        return ()
    deflection = np.array([centroid(pattern) for pattern in np.asarray(scan.counts[_first_patterns(scan)], np.float64)])
    tensor = gradients(scan.positions[_first_patterns(scan)], deflection - deflection.mean(0))
    candidates: list[Orientation] = []
    for transpose in (False, True):
        angle = curl_free_angle(tensor[..., ::-1] if transpose else tensor)[0]
        candidates += [Orientation(transpose=transpose, rotation_deg=_wrapped(angle + half)) for half in (0, 180)]
    return tuple(o for o in candidates if abs(_wrapped(o.rotation_deg * 4)) > 4)  # near a right angle: one of the eight


def curl_free_angle(tensor: np.ndarray) -> tuple[float, float]:
    """Return the rotation of the positions that minimises the curl, degrees, and the share of curl that remains.

    Args:
        tensor: ``d deflection_i / d position_j``, ``(J, 2, 2)``.
    """
    curl, divergence = tensor[:, 1, 0] - tensor[:, 0, 1], tensor[:, 0, 0] + tensor[:, 1, 1]
    # a rotation of the positions by a changes the curl to cos(a) curl - sin(a) divergence; its square is stationary
    # at the minimum
    angle = 0.5 * math.atan2(2 * float(curl @ divergence), float(divergence @ divergence - curl @ curl))
    left = np.cos(angle) * curl - np.sin(angle) * divergence
    total = float(curl @ curl + divergence @ divergence)
    return math.degrees(angle), float(left @ left) / total if total > 0 else 1.0


def gradients(positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Gradient of a vector field at scattered positions by least squares over neighbours.

    Args:
        positions: ``(J, 2)``.
        values: of the field, ``(J, 2)``.

    Returns:
        ``d values_i / d positions_j``, ``(J, 2, 2)``.
    """
    near = cKDTree(positions).query(positions, k=NEIGHBOURS)[1]
    around = positions[near] - positions[near].mean(1, keepdims=True)
    differences = values[near] - values[near].mean(1, keepdims=True)
    return np.einsum("jni,jmn->jim", differences, np.linalg.pinv(around))


def compare_orientations(scan: Scan, count: int, epochs: int) -> Finding:
    """Compare the right-angle orientations by one round of trials.

    Args:
        scan: with positions as in its file.
        count: number of patterns.
        epochs: of each trial, at least two.
    """
    return _compare_orientations(scan, RIGHT_ANGLE_ORIENTATIONS, count, epochs)


def _compare_orientations(
    scan: Scan, tried: tuple[Orientation, ...], count: int, epochs: int, probe_known: bool = True
) -> Finding:
    part = most_structured_region(scan, count)
    positions = torch.from_numpy(np.stack([oriented(part.positions, orientation) for orientation in tried]))
    errors = reconstruct_trials(part, positions, epochs)[0].numpy()
    best = int(errors.mean(1).argmin())
    if not probe_known:
        best = min((best, *_turned(tried, best)), key=lambda index: flips(tried[index]))
    worse = errors - errors[best]
    standard_error = worse.std(1) / math.sqrt(len(part) - 1)
    sigmas = np.divide(worse.mean(1), standard_error, out=np.zeros(len(tried)), where=standard_error > 0)
    same = () if probe_known else _turned(tried, best)
    rivals = [
        float(sigma)
        for index, (other, sigma) in enumerate(zip(tried, sigmas))
        if _angle_between(other, tried[best]) > SAME_DEGREES and index not in same
    ]
    means, turned = tuple(errors.mean(1).tolist()), tried[same[0]] if same else None
    return Finding(tried, means, tried[best], tuple(sigmas.tolist()), min(rivals, default=0.0), len(part), turned)


def _turned(tried: tuple[Orientation, ...], best: int) -> tuple[int, ...]:
    """Return the indices of the candidates that are the best one turned by 180 degrees."""
    half = -oriented(np.eye(2), tried[best])
    return tuple(index for index, other in enumerate(tried) if np.allclose(oriented(np.eye(2), other), half, atol=0.05))


def turned_by_180(orientation: Orientation) -> Orientation:
    """Return an orientation that reverses both axes after another one."""
    return orientation.model_copy(update={"flip_y": not orientation.flip_y, "flip_x": not orientation.flip_x})


def flips(orientation: Orientation) -> tuple[int, float]:
    """Return by how much an orientation departs from the file: number of flips, then the rotation, degrees."""
    return orientation.flip_y + orientation.flip_x, abs(orientation.rotation_deg)


def _angle_between(one: Orientation, other: Orientation) -> float:
    """Return the angle between two orientations, degrees; 180 for those of different handedness."""
    rotation = oriented(np.eye(2), one).T @ oriented(np.eye(2), other)
    return 180.0 if np.linalg.det(rotation) < 0 else math.degrees(math.acos(np.clip(rotation[0, 0], -1, 1)))


def _refine_rotation(scan: Scan, finding: Finding) -> Finding:
    """Move the best rotation to the minimum of a parabola through its neighbours' errors, if that is better."""
    offsets = np.array(ROTATION_OFFSETS)
    angles = [_wrapped(finding.best.rotation_deg + offset) for offset in ROTATION_OFFSETS]
    near = tuple(finding.best.model_copy(update={"rotation_deg": angle}) for angle in angles)
    comparison = _compare_orientations(scan, near, *SEARCH_SCHEDULE[-1])
    curvature, gradient, _ = np.polyfit(offsets, comparison.errors, 2)
    gain_sigma = comparison.sigmas[ROTATION_OFFSETS.index(0.0)]
    if curvature <= 0 or gain_sigma < SEPARATION_SIGMA:
        return finding
    offset = float(np.clip(-gradient / (2 * curvature), offsets[0], offsets[-1]))
    angle = round(_wrapped(finding.best.rotation_deg + offset), 1)
    return dataclasses.replace(finding, best=finding.best.model_copy(update={"rotation_deg": angle}))


def _first_patterns(scan: Scan) -> np.ndarray:
    """Return the indices of the first patterns of a scan: consecutive ones, so that neighbours stay neighbours."""
    return np.arange(min(len(scan), 4096))


def _wrapped(degrees: float) -> float:
    return (degrees + 180) % 360 - 180
