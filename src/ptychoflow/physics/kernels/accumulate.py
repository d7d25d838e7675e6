"""The mean of overlapping patches: what ``place_patches`` sums, in place, without gradients, at the speed of memory.

On a CPU by loops in C, where a compiler is found; else, and on other devices, by torch.
"""

import ctypes

import torch
from scipy.signal import fftconvolve
from torch import Tensor

from ..patches import check_inside, corners_and_rests, move_patches, window_pixels
from .build import call, compiled

CACHE = 1 << 17
"""Numbers of a batch that stay in a core's cache."""


def splat_(image: Tensor, patches: Tensor, positions: Tensor, weights: Tensor, hits: Tensor) -> None:
    """Add each patch to ``image`` at its position, sharing every pixel among its four neighbours.

    On a CPU sums always come in the order of the patches; on CUDA their order, and so the last bit, is fixed only under
    ``torch.use_deterministic_algorithms``.

    Args:
        image: ``(H, W)``, real or complex; changed in place.
        patches: ``(J, size, size)``, of the dtype of ``image``.
        positions: patch centres ``(y, x)``, px, float64, ``(J, 2)``.
        weights: what the pixels of every patch are multiplied with first, real, ``(size, size)``.
        hits: 1 is added at each position, shared likewise; ``(H, W)``, of the real dtype of ``image``.

    Raises:
        ValueError: if a patch would reach outside the image.
    """
    size = patches.shape[-1]
    if _splat_compiled(image, patches, positions, weights, hits):
        return
    corners, subpixel_shifts = corners_and_rests(positions, size, image)
    check_inside(corners, corners + size + (subpixel_shifts > 0), image.shape)
    flat, window = image.view(-1), window_pixels(size + 1, image.shape[1]).to(image.device)
    step = max(1, CACHE // (2 * (size + 2) ** 2) if image.device.type == "cpu" else len(patches))
    for first in range(0, len(patches), step):
        here = slice(first, first + step)
        pixels = corners[here, :1] * image.shape[1] + corners[here, 1:] + window
        # the last row and column of one at the edge may lie outside, where they hold nothing
        pixels = pixels.clamp_max_(len(flat) - 1)
        flat.index_add_(0, pixels.flatten(), move_patches(patches[here] * weights, subpixel_shifts[here]).flatten())
    at = (corners[:, 0] + size // 2) * image.shape[1] + corners[:, 1] + size // 2
    for down in (0, 1):
        for right in (0, 1):
            share = (subpixel_shifts[:, 0] if down else 1 - subpixel_shifts[:, 0]) * (
                subpixel_shifts[:, 1] if right else 1 - subpixel_shifts[:, 1]
            )
            pixels = (at + down * image.shape[1] + right).clamp_max(image.numel() - 1)  # beyond, the share is 0
            hits.view(-1).index_add_(0, pixels, share)


def spread(points: Tensor, weights: Tensor, rows: slice) -> Tensor:
    """The sum of a patch of ``weights`` at every point, as often as there is one: their convolution, cut to the image.

    Args:
        points: how many at each pixel, real, ``(H, W)``; zeros cost next to nothing.
        weights: real, ``(size, size)``; its pixel ``size // 2`` comes to lie on the point.
        rows: those that are asked for, with a start and a stop.

    Returns:
        The sum, ``(stop - start, W)``, of the dtype of ``points``; it does not depend on how rows are asked for.
    """
    size = len(weights)
    before, after = size - 1 - size // 2, size // 2
    low, high = max(0, rows.start - before), min(len(points), rows.stop + after)
    near, weights = points[low:high].contiguous(), weights.to(points).contiguous()
    loop = _loops(points)
    if loop is None:
        whole = fftconvolve(*(part.double().cpu().numpy() for part in (near, weights)))
        whole = whole[after:, after : after + near.shape[1]]
        return torch.from_numpy(whole[rows.start - low : rows.stop - low].clip(0)).to(points)
    sums = points.new_zeros(rows.stop - rows.start, points.shape[1])
    call(loop.spread, points.shape[1], len(sums), low - rows.start, len(near), size, sums, near, weights)
    return sums


def divide_(total: Tensor, weight: Tensor, floor: float) -> Tensor:
    """Divide ``total`` by ``weight`` where that is above ``floor`` and make it 1 elsewhere; returns where it is above.

    Args:
        total: complex, ``(H, W)``; changed in place.
        weight: float32, ``(H, W)``.
        floor: in units of ``weight``.
    """
    loop = _loops(total)
    if loop is None:
        known = weight > floor
        total.copy_(torch.where(known, total / torch.where(known, weight, 1), 1))
        return known
    known = torch.empty_like(weight, dtype=torch.bool)
    call(loop.divide, weight.numel(), total, weight, floor, known)
    return known


def _loops(image: Tensor) -> ctypes.CDLL | None:
    """The loops in C for numbers of this type; None where they cannot be had, or cannot reach them."""
    return compiled("accumulate.c", image.real.dtype) if image.device.type == "cpu" else None


def _splat_compiled(image: Tensor, patches: Tensor, positions: Tensor, weights: Tensor, hits: Tensor) -> bool:
    """Whether it could be done: not without a compiler, nor on another device, nor with a patch outside."""
    loop = _loops(image)
    if loop is None:
        return False
    parts = 2 if image.is_complex() else 1
    gains = weights.to(image.real.dtype).repeat_interleave(parts, -1)  # one for each real and each imaginary part
    values, places = patches.to(image).resolve_conj().contiguous(), positions.double().contiguous()
    sizes = (*image.shape, len(patches), patches.shape[-1], parts)
    return bool(call(loop.splat, *sizes, image, hits, values, gains, places))
