"""Global model of position errors: rotation, scales and shear of the scan as a whole, found before a refinement."""

import dataclasses
import logging
from typing import Literal

import numpy as np

from ..config import Refinement
from ..core.scan import Scan
from ..runtime.distributed import DistributedContext
from ..runtime.progress import track
from .engine import RefinedVariables, RefinementEngine

logger = logging.getLogger(__name__)

EPOCHS = 12
"""Epochs of a round."""
FIRST_POSITION_EPOCH = 3
"""Epoch of a round from which positions are refined."""
PROGRESS = 0.3
"""Progress of the annealing at which all epochs of the rounds are: steps neither the largest nor the smallest."""
MOMENTUM = 0.7
"""Fraction of a round's motion by the model that the next one goes on with."""
FIT_ROUNDS = 20
"""Reweighted fits of a model."""
HUBER = 1.345
"""Steps beyond this many standard deviations from the model count by their size, not by its square (Huber 1981)."""
LEAST_STD_PX = 1e-3
"""Least standard deviation of the steps about the model, px."""
CONVERGED_PX = 0.05
"""Motion by the model in a round, rms px, above which the fit has not converged."""

Model = Literal["rigid", "affine"]


def fit_position_model(scan: Scan, settings: Refinement, ctx: DistributedContext = DistributedContext()) -> Scan:
    """Find how the positions of a scan are wrong as a whole, before a refinement.

    The object follows wrong positions: after some epochs it explains the counts nearly as well with them, and positions
    stand still. Each round therefore begins with a uniform object. Its epochs move each pattern alone, by a small part
    of its error; the model is fitted to these steps of all patterns, and goes on in the same direction from round to
    round, while single patterns keep what the model leaves.

    Args:
        scan: the measurement, with recorded positions.
        settings: model, number of rounds, whether the probe is refined, batch size, seed.
        ctx: device, and the processes that share each batch.

    Returns:
        The scan with the positions found, and with the probe found where the settings refine it.

    Raises:
        ValueError: if the scan has fewer than four patterns, or a round diverges.
        OSError: if memory does not hold the object.
    """
    if settings.position_model == "none":
        return scan
    if len(scan) < 4:
        raise ValueError(
            f"{scan.name} has {len(scan)} patterns, a position model needs 4: set refinement.position_model to none"
        )
    found, velocity, moved = scan, np.zeros((2, 2)), 0.0
    for _ in track(range(settings.position_model_rounds), "fitting position model"):
        refined, probe = _refine_briefly(found, settings, ctx)
        steps, centred = refined - found.positions, found.positions - found.positions.mean(0)
        matrix = fit_steps(centred, steps, settings.position_model)
        velocity = MOMENTUM * velocity + matrix
        moved = float(np.sqrt(np.square(centred @ velocity.T).sum(1).mean()))
        positions = refined + centred @ (velocity - matrix).T
        found = dataclasses.replace(found, positions=positions - (positions - scan.positions).mean(0), probe=probe)
    _log_model(scan, found, settings, moved)
    return found


def fit_steps(centred: np.ndarray, steps: np.ndarray, model: Model) -> np.ndarray:
    """Fit the linear part of a model to steps of all patterns, robust against outliers.

    Least squares with Huber weights: a step far from the model counts little.

    Args:
        centred: positions about their mean, px, ``(J, 2)``.
        steps: px, ``(J, 2)``.
        model: ``rigid`` moves ``(y, x)`` by a small rotation, ``a (-x, y)``; ``affine`` by any matrix.

    Returns:
        Matrix by which centred positions are multiplied to give the model's steps, ``(2, 2)``.
    """
    design = _design(centred, model)
    weights = np.ones(len(steps))
    for _ in range(FIT_ROUNDS):
        root = np.sqrt(weights)[:, None, None]
        equations, sides = (root * design).reshape(-1, design.shape[2]), (root[..., 0] * steps).ravel()
        parameters = np.linalg.lstsq(equations, sides, rcond=1e-9)[0]
        distances = np.linalg.norm(steps - design @ parameters, axis=1)
        # the median length of a vector with two normal components is 1.1774 standard deviations
        std = max(float(np.median(distances)) / 1.1774, LEAST_STD_PX)
        weights = HUBER / np.maximum(distances / std, HUBER)
    if model == "rigid":
        angle = parameters[2]
        return np.array([[np.cos(angle) - 1, -np.sin(angle)], [np.sin(angle), np.cos(angle) - 1]])
    return parameters[2:].reshape(2, 2)


def _design(centred: np.ndarray, model: Model) -> np.ndarray:
    """Return the motion of each position by each parameter, translation first, ``(J, 2, K)``."""
    y, x = centred.T
    one, zero = np.ones_like(y), np.zeros_like(y)
    shifts, linear = [(one, zero), (zero, one)], [(y, zero), (x, zero), (zero, y), (zero, x)]
    columns = shifts + ([(-x, y)] if model == "rigid" else linear)
    return np.stack([np.stack(column, 1) for column in columns], 2)


def describe_matrix(matrix: np.ndarray) -> str:
    """Describe a map of positions ``(y, x)`` in words: rotation, scales and shear."""
    first, second = matrix.T
    rotation_deg = np.degrees(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    scales = np.linalg.norm(first), np.linalg.norm(second)
    shear = first @ second / (scales[0] * scales[1])
    rotation_deg, shear = round(rotation_deg, 2) + 0.0, round(shear, 4) + 0.0  # no -0
    return f"rotation {rotation_deg:.2f} degrees, scales {scales[0]:.4f} (y) and {scales[1]:.4f} (x), shear {shear:.4f}"


def _refine_briefly(scan: Scan, settings: Refinement, ctx: DistributedContext) -> tuple[np.ndarray, np.ndarray]:
    """Refine a scan from a uniform object; return its positions and probe."""
    brief = Refinement(
        epochs=EPOCHS,
        batch_size=settings.batch_size,
        probe_start_epoch=None if settings.probe_start_epoch is None else 1,
        probe_modes=settings.probe_modes,
        position_start_epoch=FIRST_POSITION_EPOCH,
        stop="epochs",
        seed=settings.seed,
    )
    engine = RefinementEngine(scan, brief, None, ctx)
    for epoch in range(1, EPOCHS + 1):
        refined = RefinedVariables.in_epoch(epoch, brief)
        stats = engine.epoch(refined, PROGRESS, with_low_order_phase=epoch < FIRST_POSITION_EPOCH)
    if not np.isfinite(stats.error):
        raise ValueError(f"the position model of {scan.name} diverged: set refinement.position_model to none")
    return engine.positions.cpu().numpy(), engine.probe.cpu().numpy()


def _log_model(scan: Scan, found: Scan, settings: Refinement, moved: float) -> None:
    """Log the map from recorded positions to those found, and whether the fit has converged."""
    centred = scan.positions - scan.positions.mean(0)
    matrix = np.eye(2) + fit_steps(centred, found.positions - scan.positions, "affine")
    logger.info("positions of %s, refined against recorded: %s", scan.name, describe_matrix(matrix))
    if moved > CONVERGED_PX:
        logger.warning(
            "the position model of %s has not converged after %d rounds (the last one moved positions by %.2f px rms): "
            "raise refinement.position_model_rounds, or correct the orientation of the scan",
            *(scan.name, settings.position_model_rounds, moved),
        )
