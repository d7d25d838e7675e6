"""How the scan axes lie against the detector: every possibility is tried, and the patterns say which one fits.

Reversing both axes is the same as conjugating object and probe, so those two differ only where the probe to start from
is known; where it is not, both fit alike, and the finding says so.
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
from .position_transform import oriented
from .trial_reconstruction import centroid, fit, most_structured_region

EIGHT = tuple(
    Orientation(transpose=swap, flip_y=flip_y, flip_x=flip_x)
    for swap, flip_y, flip_x in itertools.product((False, True), repeat=3)
)
"""The ways to lay a rectangle on another."""
SEARCH_SCHEDULE = ((80, 4), (160, 6), (320, 8))
"""Patterns and passes to try, more while the patterns do not yet agree."""
CONFIDENT_SIGMA = 6.0
"""Standard errors by which the best must beat the next."""
SEPARATION_SIGMA = 3.0
"""Standard errors by which another rotation must fit better to be taken."""
ROTATION_OFFSETS = (-10.0, -5.0, 0.0, 5.0, 10.0)
"""Rotations around the best one through which the parabola goes, degrees."""
SAME_DEGREES = 20.0
"""Orientations that differ by less are one answer."""
NEIGHBOURS = 9


@dataclass(frozen=True)
class Finding:
    """What the patterns say about the orientation.

    Attributes:
        orientations: what was tried.
        errors: mean R-factor of each.
        best: the one that fits best.
        sigmas: by how many standard errors each is worse than the best, pattern by pattern; 0 for the best.
        sigma: the least of these among those that differ from the best by more than a small turn.
        patterns: how many were used.
    """

    orientations: tuple[Orientation, ...]
    errors: tuple[float, ...]
    best: Orientation
    sigmas: tuple[float, ...]
    sigma: float
    patterns: int

    @property
    def sure(self) -> bool:
        """Whether that is enough to rely on."""
        return self.sigma >= CONFIDENT_SIGMA


def find_orientation(scan: Scan, rotations: bool = False) -> Finding:
    """Try the eight ways to lay the positions on the detector.

    Args:
        scan: with positions as they stand in its file.
        rotations: also try the rotation that makes the deflection of the beam free of curl, and sharpen the best one.

    Raises:
        ValueError: for a scan of fewer than four patterns.
    """
    if len(scan) < 4:
        raise ValueError(f"{scan.name} has {len(scan)} patterns: four at least are needed to see how they lie")
    tried = (*EIGHT, *(suggested_rotations(scan) if rotations else ()))
    for count, epochs in SEARCH_SCHEDULE:
        finding = _try(scan, tried, count, epochs)
        if finding.sure or count >= len(scan):
            break
    return _sharpened(scan, finding) if rotations else finding


def suggested_rotations(scan: Scan) -> tuple[Orientation, ...]:
    """The rotations under which the deflection of the beam is free of curl, as a gradient must be: four, or none.

    The centre of mass of a pattern is the gradient of the phase, smoothed by the probe. For either handedness one axis
    of rotation leaves least curl; which way round, the centre of mass cannot tell.
    """
    if len(scan) < NEIGHBOURS + 1:
        return ()
    deflection = np.array([centroid(pattern) for pattern in np.asarray(scan.counts[_every(scan)], np.float64)])
    tensor = gradients(scan.positions[_every(scan)], deflection - deflection.mean(0))
    found = []
    for swap in (False, True):
        angle = curl_free_angle(tensor[..., ::-1] if swap else tensor)[0]
        found += [Orientation(transpose=swap, rotation_deg=_wrapped(angle + turn)) for turn in (0, 180)]
    return tuple(o for o in found if abs(_wrapped(o.rotation_deg * 4)) > 4)  # near a right angle: one of the eight


def curl_free_angle(tensor: np.ndarray) -> tuple[float, float]:
    """The rotation of the positions that leaves least curl, degrees, and the share of curl left.

    Args:
        tensor: ``d deflection_i / d position_j``, ``(J, 2, 2)``, as measured.
    """
    curl, divergence = tensor[:, 1, 0] - tensor[:, 0, 1], tensor[:, 0, 0] + tensor[:, 1, 1]
    # turning positions by a changes the curl to cos(a) curl - sin(a) divergence: least where its square is stationary
    angle = 0.5 * math.atan2(2 * float(curl @ divergence), float(divergence @ divergence - curl @ curl))
    left = np.cos(angle) * curl - np.sin(angle) * divergence
    total = float(curl @ curl + divergence @ divergence)
    return math.degrees(angle), float(left @ left) / total if total > 0 else 1.0


def gradients(positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Gradient of a vector field at scattered positions by least squares over neighbours, ``(J, 2, 2)``."""
    near = cKDTree(positions).query(positions, k=NEIGHBOURS)[1]
    around = positions[near] - positions[near].mean(1, keepdims=True)
    differences = values[near] - values[near].mean(1, keepdims=True)
    return np.einsum("jni,jmn->jim", differences, np.linalg.pinv(around))


def _try(scan: Scan, tried: tuple[Orientation, ...], count: int, epochs: int) -> Finding:
    part = most_structured_region(scan, count)
    positions = torch.from_numpy(np.stack([oriented(part.positions, orientation) for orientation in tried]))
    errors = fit(part, positions, epochs)[0].numpy()
    best = int(errors.mean(1).argmin())
    worse = errors - errors[best]
    spread = worse.std(1) / math.sqrt(len(part) - 1)
    sigmas = np.divide(worse.mean(1), spread, out=np.zeros(len(tried)), where=spread > 0)
    rivals = [float(sigma) for other, sigma in zip(tried, sigmas) if _apart(other, tried[best]) > SAME_DEGREES]
    means = tuple(errors.mean(1).tolist())
    return Finding(tried, means, tried[best], tuple(sigmas.tolist()), min(rivals, default=0.0), len(part))


def _apart(one: Orientation, other: Orientation) -> float:
    """By how much two orientations differ, degrees; 180 for those of different handedness."""
    turn = oriented(np.eye(2), one).T @ oriented(np.eye(2), other)
    return 180.0 if np.linalg.det(turn) < 0 else math.degrees(math.acos(np.clip(turn[0, 0], -1, 1)))


def _sharpened(scan: Scan, finding: Finding) -> Finding:
    """The best rotation, moved to where a parabola through its neighbours' errors is least if that is better."""
    turns = np.array(ROTATION_OFFSETS)
    turned = [_wrapped(finding.best.rotation_deg + turn) for turn in ROTATION_OFFSETS]
    near = tuple(finding.best.model_copy(update={"rotation_deg": angle}) for angle in turned)
    found = _try(scan, near, *SEARCH_SCHEDULE[-1])
    bend, slope, _ = np.polyfit(turns, found.errors, 2)
    here = found.sigmas[ROTATION_OFFSETS.index(0.0)]
    if bend <= 0 or here < SEPARATION_SIGMA:
        return finding
    turn = float(np.clip(-slope / (2 * bend), turns[0], turns[-1]))
    angle = round(_wrapped(finding.best.rotation_deg + turn), 1)
    return dataclasses.replace(finding, best=finding.best.model_copy(update={"rotation_deg": angle}))


def _every(scan: Scan) -> np.ndarray:
    """All patterns, or evenly some of a large scan's first rows: neighbours must stay neighbours."""
    return np.arange(min(len(scan), 4096))


def _wrapped(degrees: float) -> float:
    return (degrees + 180) % 360 - 180
