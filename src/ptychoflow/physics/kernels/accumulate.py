"""Sums of overlapping patches and their weighted mean: ``place_patches`` in place, without gradients, at memory speed.

On a CPU by the C kernels in ``accumulate.c``, where a compiler is found; else, and on other devices, by torch.
"""

import ctypes

import torch
from scipy.signal import fftconvolve
from torch import Tensor

from ..patches import check_inside, corners_and_subpixel_shifts, move_patches, window_pixels
from .build import call, compiled

CACHE = 1 << 17
"""Numbers of a batch that stay in a core's cache."""


def splat_(image: Tensor, patches: Tensor, positions: Tensor, weights: Tensor, hits: Tensor) -> None:
    """Add each patch to ``image`` at its position in place, sharing every pixel among its four neighbours.

    On a CPU sums always come in the order of the patches; on CUDA their order, and so the last bit, is fixed only under
    ``torch.use_deterministic_algorithms``.

    Args:
        image: ``(H, W)``, real or complex; changed in place.
        patches: ``(J, size, size)``, of the dtype of ``image``.
        positions: patch centres ``(y, x)``, px, float64, ``(J, 2)``.
        weights: factor of each pixel of a patch, the same for all patches, real, ``(size, size)``.
        hits: number of patches at each pixel, ``(H, W)``, of the real dtype of ``image``; 1 is added at each position,
            shared likewise.

    Raises:
        ValueError: if a patch would reach outside the image.
    """
    size = patches.shape[-1]
    if _splat_compiled(image, patches, positions, weights, hits):
        return
    corners, subpixel_shifts = corners_and_subpixel_shifts(positions, size, image)
    check_inside(corners, corners + size + (subpixel_shifts > 0), image.shape)
    flat, window = image.view(-1), window_pixels(size + 1, image.shape[1]).to(image.device)
    step = max(1, CACHE // (2 * (size + 2) ** 2) if image.device.type == "cpu" else len(patches))
    for first in range(0, len(patches), step):
        batch = slice(first, first + step)
        pixels = corners[batch, :1] * image.shape[1] + corners[batch, 1:] + window
        # the last row and column of one at the edge may lie outside, where they hold nothing
        pixels = pixels.clamp_max_(len(flat) - 1)
        moved = move_patches(patches[batch] * weights, subpixel_shifts[batch])
        flat.index_add_(0, pixels.flatten(), moved.flatten())
    centres = (corners[:, 0] + size // 2) * image.shape[1] + corners[:, 1] + size // 2
    for down in (0, 1):
        for right in (0, 1):
            share = (subpixel_shifts[:, 0] if down else 1 - subpixel_shifts[:, 0]) * (
                subpixel_shifts[:, 1] if right else 1 - subpixel_shifts[:, 1]
            )
            pixels = (centres + down * image.shape[1] + right).clamp_max(image.numel() - 1)  # beyond, the share is 0
            hits.view(-1).index_add_(0, pixels, share)


def convolve_points(points: Tensor, weights: Tensor, rows: slice) -> Tensor:
    """Convolve a map of points with a small patch of weights, cut to some rows of the image.

    Args:
        points: number of points at each pixel, real, ``(H, W)``; zeros cost next to nothing.
        weights: real, ``(size, size)``; its pixel ``size // 2`` comes to lie on the point.
        rows: rows to compute, with a start and a stop.

    Returns:
        The convolution, ``(stop - start, W)``, of the dtype of ``points``; it does not depend on how rows are divided.
    """
    size = len(weights)
    before, after = size - 1 - size // 2, size // 2
    low, high = max(0, rows.start - before), min(len(points), rows.stop + after)
    near, weights = points[low:high].contiguous(), weights.to(points).contiguous()
    kernels = _kernels_for(points)
    if kernels is None:
        whole = fftconvolve(*(part.double().cpu().numpy() for part in (near, weights)))
        whole = whole[after:, after : after + near.shape[1]]
        return torch.from_numpy(whole[rows.start - low : rows.stop - low].clip(0)).to(points)
    sums = points.new_zeros(rows.stop - rows.start, points.shape[1])
    sizes = (points.shape[1], len(sums), low - rows.start, len(near), size)
    call(kernels.convolve_points, *sizes, sums, near, weights)
    return sums


def divide_(total: Tensor, weight: Tensor, floor: float) -> Tensor:
    """Divide ``total`` by ``weight`` in place where the weight is above ``floor``; set it to 1 elsewhere.

    Args:
        total: complex, ``(H, W)``; changed in place.
        weight: float32, ``(H, W)``.
        floor: in units of ``weight``.

    Returns:
        True where the weight is above ``floor``, ``(H, W)``.
    """
    kernels = _kernels_for(total)
    if kernels is None:
        known = weight > floor
        total.copy_(torch.where(known, total / torch.where(known, weight, 1), 1))
        return known
    known = torch.empty_like(weight, dtype=torch.bool)
    call(kernels.divide, weight.numel(), total, weight, floor, known)
    return known


def _kernels_for(image: Tensor) -> ctypes.CDLL | None:
    """Return the C kernels for the device and precision of an image; None where torch computes instead."""
    return compiled("accumulate.c", image.real.dtype) if image.device.type == "cpu" else None


def _splat_compiled(image: Tensor, patches: Tensor, positions: Tensor, weights: Tensor, hits: Tensor) -> bool:
    """Splat by the C kernel; return False, with nothing changed, without a kernel or with a patch outside."""
    kernels = _kernels_for(image)
    if kernels is None:
        return False
    parts = 2 if image.is_complex() else 1
    gains = weights.to(image.real.dtype).repeat_interleave(parts, -1)  # one for each real and each imaginary part
    values, centres = patches.to(image).resolve_conj().contiguous(), positions.double().contiguous()
    sizes = (*image.shape, len(patches), patches.shape[-1], parts)
    return bool(call(kernels.splat, *sizes, image, hits, values, gains, centres))
