"""Merge one patch for each pattern to one canvas: the overlap constraint of networks with ``output: patches``."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

FLOOR = 1e-6
"""Least summed illumination of a pixel that patches are merged at, relative to the greatest."""


def merge(patches: Tensor, weights: Tensor, shift: Tensor | None = None) -> Tensor:
    """Average patches by weights: ``sum_c D_c T[O_c] / sum_c D_c T[1]``, 1 where all weights are 0.

    The same weight stands in numerator and denominator; were only one of them masked, a uniform object would explain
    the counts best.

    Args:
        patches: complex, ``(B, C, N, N)``.
        weights: D, such as the probe intensity, of each pattern where it lies on the canvas, ``(B, C, N, N)``.
        shift: centre of each patch on the canvas, px, ``(B, C, 2)``; without it patches are not moved.

    Returns:
        The canvas, ``(B, N, N)``.
    """
    if shift is not None:
        patches, inside = translate(patches, shift)
        total, weight = (weights * patches).sum(1), (weights * inside).sum(1)
    else:
        total, weight = (weights * patches).sum(1), weights.sum(1)
    floor = FLOOR * weight.amax((-2, -1), keepdim=True)
    return torch.where(weight > floor, total / weight.maximum(floor), torch.ones_like(total))


def translate(patches: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Move patches by ``+shift`` with bilinear interpolation.

    Args:
        patches: complex, ``(B, C, N, N)``.
        shift: ``(y, x)`` px, ``(B, C, 2)``.

    Returns:
        The moved patches, 0 beyond their edges, and a patch of ones moved likewise; both ``(B, C, N, N)``.
    """
    size = patches.shape[-1]
    pixels = torch.arange(size, device=patches.device, dtype=torch.float64)
    y, x = (pixels - shift.double()[..., axis, None] for axis in (0, 1))
    rows, columns = (2 * source.flatten(0, 1) / (size - 1) - 1 for source in (y, x))
    grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), dim=-1)
    planes = torch.stack([patches.real, patches.imag, torch.ones_like(patches.real)], dim=2).flatten(0, 1)
    moved = grid_sample(planes, grid.to(planes.dtype), align_corners=True).unflatten(0, patches.shape[:2])
    return torch.complex(moved[:, :, 0], moved[:, :, 1]), moved[:, :, 2]
