"""Doubts about the order and orientation of the scan positions, from trial reconstructions with other ones."""

import math

import numpy as np
import torch

from ..config import Orientation
from ..core.doubt import Doubt
from ..core.scan import Scan
from .position_transform import oriented
from .scan_orientation import RIGHT_ANGLE_ORIENTATIONS
from .trial_reconstruction import most_structured_patterns, reconstruct_trials, region_of

TRIAL_PATTERNS, TRIAL_EPOCHS = 160, 6
"""Patterns and epochs of trial reconstructions."""
LARGE_PATTERN = 128**2
"""Values of all probe modes from which trials take half as many patterns, for their time."""
CONFIDENT_SIGMA = 8.0
"""Standard errors from which another order is believed to be better."""
BETTER_TRIAL = 0.9
"""R-factor of another order over that of the recorded one, below which it is believed."""
LEAST_SIDE, STEP_IN_R_FACTOR = 8, 2.0
"""Least number of frames before and after a change of R-factors, and the ratio that makes one."""


def doubt_order(scan: Scan, r_factors: np.ndarray | None = None, orientations: bool = True) -> tuple[Doubt, ...]:
    """Compare the recorded order and orientation of the positions with others by trial reconstructions.

    Tried are one frame earlier and later, the reversed order, the eight orientations, and a random order, which the
    recorded one must beat.

    Args:
        scan: counts, positions and initial probe.
        r_factors: of the patterns of a refinement, ``(J,)``. Where those before or after some pattern are much larger,
            trials take only these: a frame may be missing there.
        orientations: also try the eight orientations.

    Returns:
        One doubt or none.
    """
    if len(scan) < 2 * LEAST_SIDE:
        return ()
    side = slice(None) if r_factors is None else _worse_side(r_factors)
    numbers = np.arange(len(scan))[side]
    count = TRIAL_PATTERNS if len(scan.probe) * scan.size**2 < LARGE_PATTERN else TRIAL_PATTERNS // 2
    kept = most_structured_patterns(scan, count, numbers)
    candidates = _candidates(scan.positions) | (_orientations(scan.positions) if orientations else {})
    part = region_of(scan, kept)
    tried = {name: candidate[kept] for name, candidate in candidates.items()}
    tried["in a random order"] = np.random.default_rng(0).permutation(scan.positions[kept])
    sets = np.stack(list(tried.values())) * (part.size / scan.size)
    errors = reconstruct_trials(part, torch.from_numpy(sets), TRIAL_EPOCHS)[0].numpy()
    where = "" if len(numbers) == len(scan) else f" among patterns {numbers[0]} to {numbers[-1]}"
    return _judge_trials(dict(zip(tried, errors, strict=True)), where)


def _candidates(positions: np.ndarray) -> dict[str, np.ndarray]:
    """Return the positions as recorded and in other orders, ``(J, 2)`` each, by name."""
    return {
        "as recorded": positions,
        "one frame later": np.roll(positions, 1, axis=0),
        "one frame earlier": np.roll(positions, -1, axis=0),
        "in reversed order": positions[::-1],
    }


def _orientations(positions: np.ndarray) -> dict[str, np.ndarray]:
    return {_name(o): oriented(positions, o) for o in RIGHT_ANGLE_ORIENTATIONS if o != Orientation()}


def _name(orientation: Orientation) -> str:
    words = [word for word in ("transpose", "flip_y", "flip_x") if getattr(orientation, word)]
    return f"with {' and '.join(words)}"


def _judge_trials(errors: dict[str, np.ndarray], where: str) -> tuple[Doubt, ...]:
    """Return the doubt that R-factors of trials ``(K,)`` of the candidates raise, if any."""
    recorded, random = errors.pop("as recorded"), errors.pop("in a random order")
    best = min(errors, key=lambda name: errors[name].mean())
    gain, ratio = _sigmas(recorded - errors[best]), float(errors[best].mean() / recorded.mean())
    better_than_random = errors[best].mean() < BETTER_TRIAL * random.mean()
    if gain > CONFIDENT_SIGMA and ratio < BETTER_TRIAL and better_than_random:
        finding = (
            f"positions {best} have {ratio:.2f} times the R-factor of those recorded{where} ({gain:.0f} standard "
            "errors)"
        )
        if best.startswith("with"):
            return (Doubt("orientation", finding, "set source.orientation, which inspect finds"),)
        return (Doubt("order", finding, "check that frames and positions are in one order and none is missing"),)
    lead = _sigmas(random - recorded)
    if lead < CONFIDENT_SIGMA and float(recorded.mean() / random.mean()) > BETTER_TRIAL:
        finding = f"the recorded order of the positions fits as badly as a random one ({lead:.1f} standard errors)"
        return (Doubt("order", finding, "check that frames and positions have the same order, and their unit"),)
    return ()


def _sigmas(differences: np.ndarray) -> float:
    """Return the mean of paired differences in standard errors."""
    error = differences.std() / math.sqrt(max(len(differences) - 1, 1))
    return float(differences.mean() / error) if error > 0 else 0.0


def _worse_side(r_factors: np.ndarray) -> slice:
    """Return the frames before or after the greatest change of R-factors, those that fit worse; all without one."""
    if len(r_factors) < 4 * LEAST_SIDE:
        return slice(None)
    ends = range(LEAST_SIDE, len(r_factors) - LEAST_SIDE)
    ends = ends[:: max(1, len(ends) // 256)]
    ratios = np.array([np.median(r_factors[:k]) / max(np.median(r_factors[k:]), 1e-30) for k in ends])
    change = int(np.argmax(np.abs(np.log(np.maximum(ratios, 1e-30)))))
    k, ratio = ends[change], ratios[change]
    if max(ratio, 1 / max(ratio, 1e-30)) < STEP_IN_R_FACTOR:
        return slice(None)
    return slice(0, k) if ratio > 1 else slice(k, None)
