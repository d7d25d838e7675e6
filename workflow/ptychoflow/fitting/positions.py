"""Where the beam really was: how far each pattern asks for its position to move."""

import torch
from torch import Tensor

LONGEST_PX = 0.5
"""Longest step along an axis."""
RIDGE = 0.01
"""Added to the equations, relative to their diagonal: where the object is flat a position stays."""


def position_steps(probes: Tensor, windows: Tensor, change: Tensor) -> Tensor:
    """A Gauss-Newton step of each pattern's position, px, ``(b, 2)``.

    A position that moves by d sees ``O(r + d)``: the exit wave changes by ``d P grad O``. Not by ``-d O grad P``, which
    differs by a motion of the exit wave as a whole: no pattern shows that one, and it makes steps far too short (of a
    jitter of 2 px it left 1.9 px after 12 epochs, this 0.5 px). About half of a wave's change shows in its modulus.

    Args:
        probes: modes at each pattern, ``(b, M, N, N)``.
        windows: the object under it, ``(b, 1, N, N)``.
        change: of the exit wave that its counts ask for, ``(b, M, N, N)``.
    """
    slopes = [probes * (windows.roll(-1, axis) - windows.roll(1, axis)) / 2 for axis in (-2, -1)]
    slopes = torch.view_as_real(torch.stack(slopes, 1).flatten(2)).flatten(2)
    matrices = slopes @ slopes.mT / 2
    sides = slopes @ torch.view_as_real(change.flatten(1)).flatten(1)[..., None]
    diagonal = matrices.diagonal(dim1=1, dim2=2)
    diagonal += RIDGE * diagonal.mean(-1, keepdim=True) + 1e-20
    return torch.linalg.solve(matrices, sides)[..., 0].clamp_(-LONGEST_PX, LONGEST_PX)
