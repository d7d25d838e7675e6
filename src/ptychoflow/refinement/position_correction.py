"""Position correction: Gauss-Newton updates of the scan positions."""

import numpy as np
import torch
from torch import Tensor

from ..config import Refinement
from ..physics.kernels.pie import position_normal_equations

MAX_STEP_PX = 0.5
"""Greatest step along an axis."""
RIDGE = 0.01
"""Added to the equations, relative to their diagonal: where the object is uniform a position stays."""
LIMIT_TOLERANCE_PX = 0.1
"""Distance from the limit of its shift within which a position is at it: an epoch takes off the mean shift as well."""


def position_updates(probe_intensity: Tensor, windows: Tensor, numerator: Tensor) -> Tensor:
    """Compute a Gauss-Newton step of each pattern's position.

    At a position that moves by d the object is ``O(r + d)``: the exit wave changes by ``d P grad O``. Not by
    ``-d O grad P``, which differs by a shift of the exit wave as a whole: no pattern shows that one, and it makes
    steps far too short (of a jitter of 2 px it left 1.9 px after 12 epochs, this 0.5 px). About half of the change of
    an exit wave shows in its modulus, so the step is twice as long.

    Args:
        probe_intensity: ``sum_m |P_m|^2`` at each pattern, ``(b, N, N)``.
        windows: object under it, ``(b, N, N)``.
        numerator: ``sum_m P_m* (psi_m' - psi_m)`` of the object update, ``(b, N, N)``.

    Returns:
        Steps ``(y, x)``, px, ``(b, 2)``.
    """
    return solve_position_equations(position_normal_equations(probe_intensity, windows, numerator))


def solve_position_equations(equations: Tensor) -> Tensor:
    """Solve the normal equations ``(b, 2, 3)`` of positions: steps ``(y, x)``, px, ``(b, 2)``."""
    matrices, sides = equations[..., :2] / 2, equations[..., 2:]
    diagonal = matrices.diagonal(dim1=1, dim2=2)
    diagonal += RIDGE * diagonal.mean(-1, keepdim=True) + 1e-20
    # plain `solve` waits for the device, to see whether a matrix was singular
    return torch.linalg.solve_ex(matrices, sides)[0][..., 0].clamp_(-MAX_STEP_PX, MAX_STEP_PX)


def count_at_limit(recorded: np.ndarray, refined: np.ndarray, settings: Refinement) -> int:
    """Count the positions at ``max_position_shift_px``, which would perhaps have moved further.

    Args:
        recorded: px, ``(J, 2)``.
        refined: px, ``(J, 2)``.
        settings: the limit, and whether positions are refined.
    """
    if settings.position_start_epoch is None:
        return 0
    reached = np.abs(refined - recorded).max(1) > settings.max_position_shift_px - LIMIT_TOLERANCE_PX
    return int(reached.sum())
