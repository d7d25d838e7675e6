"""Where the beam really was: how far each pattern asks for its position to move."""

import torch
from torch import Tensor

from ..physics.kernels.pie import position_normal_equations

LONGEST_PX = 0.5
"""Longest step along an axis."""
RIDGE = 0.01
"""Added to the equations, relative to their diagonal: where the object is flat a position stays."""


def position_updates(light: Tensor, windows: Tensor, pull: Tensor) -> Tensor:
    """A Gauss-Newton step of each pattern's position, px, ``(b, 2)``.

    A position that moves by d sees ``O(r + d)``: the exit wave changes by ``d P grad O``. Not by ``-d O grad P``, which
    differs by a motion of the exit wave as a whole: no pattern shows that one, and it makes steps far too short (of a
    jitter of 2 px it left 1.9 px after 12 epochs, this 0.5 px). About half of a wave's change shows in its modulus.

    Args:
        light: on each pixel, of all modes at each pattern together, ``(b, N, N)``.
        windows: the object under it, ``(b, N, N)``.
        pull: ``sum_m conj(P_m) change_m`` with the change of the exit wave that its counts ask for, ``(b, N, N)``.
    """
    equations = position_normal_equations(light, windows, pull)
    matrices, sides = equations[..., :2] / 2, equations[..., 2:]
    diagonal = matrices.diagonal(dim1=1, dim2=2)
    diagonal += RIDGE * diagonal.mean(-1, keepdim=True) + 1e-20
    # plain `solve` waits for the device, to see whether a matrix was singular
    return torch.linalg.solve_ex(matrices, sides)[0][..., 0].clamp_(-LONGEST_PX, LONGEST_PX)
