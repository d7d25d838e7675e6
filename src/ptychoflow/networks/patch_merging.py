"""The overlap constraint by merging: a patch for each pattern, averaged to one canvas where they overlap."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

FLOOR = 1e-6
"""Least light of a place that a patch has a say in, relative to the greatest."""


def merge(patches: Tensor, light: Tensor, shift: Tensor | None = None) -> Tensor:
    """The mean of all patches under the light of each: ``sum_c D_c T[O_c] / sum_c D_c T[1]``, 1 where no light falls.

    The same light weighs numerator and denominator; were only one of them masked, an empty object would explain the
    counts best.

    Args:
        patches: complex, ``(B, C, N, N)``.
        light: of each pattern, where it lies on the canvas, ``(B, C, N, N)``.
        shift: where the middle of each patch lies on the canvas, px, ``(B, C, 2)``; without it patches lie there as
            they are.

    Returns:
        The canvas, ``(B, N, N)``.
    """
    if shift is not None:
        patches, inside = translate(patches, shift)
        total, weight = (light * patches).sum(1), (light * inside).sum(1)
    else:
        total, weight = (light * patches).sum(1), light.sum(1)
    floor = FLOOR * weight.amax((-2, -1), keepdim=True)
    return torch.where(weight > floor, total / weight.maximum(floor), torch.ones_like(total))


def translate(patches: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Patches moved by ``+shift``, bilinearly, with 0 where nothing comes from; and a patch of ones so moved.

    Args:
        patches: complex, ``(B, C, N, N)``.
        shift: ``(y, x)`` px, ``(B, C, 2)``.
    """
    size = patches.shape[-1]
    line = torch.arange(size, device=patches.device, dtype=torch.float64)
    y, x = (line - shift.double()[..., axis, None] for axis in (0, 1))
    rows, columns = (2 * place.flatten(0, 1) / (size - 1) - 1 for place in (y, x))
    grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), dim=-1)
    planes = torch.stack([patches.real, patches.imag, torch.ones_like(patches.real)], dim=2).flatten(0, 1)
    moved = grid_sample(planes, grid.to(planes.dtype), align_corners=True).unflatten(0, patches.shape[:2])
    return torch.complex(moved[:, :, 0], moved[:, :, 1]), moved[:, :, 2]
