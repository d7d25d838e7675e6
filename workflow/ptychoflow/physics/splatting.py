"""Patches added to an image in place: what ``place_patches`` does, without a gradient and at the speed of memory.

On a CPU by a loop in C, where a compiler is found; else, and on other devices, by torch.
"""

import ctypes

from torch import Tensor

from .compiling import compiled
from .patches import check_inside, corners_and_rests, move_patches, window_pixels

CACHE = 1 << 17
"""Numbers of a batch that stay in a core's cache."""


def splat_(image: Tensor, patches: Tensor, positions: Tensor, weights: Tensor) -> None:
    """Add each patch to ``image`` at its position, sharing every pixel among its four neighbours.

    On a CPU sums always come in the order of the patches; on CUDA their order, and so the last bit, is fixed only under
    ``torch.use_deterministic_algorithms``.

    Args:
        image: ``(H, W)``, real or complex; changed in place.
        patches: ``(J, size, size)``, of the dtype of ``image``.
        positions: patch centres ``(y, x)``, px, float64, ``(J, 2)``.
        weights: what the pixels of every patch are multiplied with first, real, ``(size, size)``.

    Raises:
        ValueError: if a patch would reach outside the image.
    """
    size = patches.shape[-1]
    corners, rests = corners_and_rests(positions, size, image)
    check_inside(corners, corners + size + (rests > 0), image.shape)
    loop = compiled("splatting.c", rests.dtype) if image.device.type == "cpu" else None
    if loop is not None:
        _add_compiled(loop, image, patches.to(image).resolve_conj().contiguous(), weights.to(rests), corners, rests)
        return
    flat, window = image.view(-1), window_pixels(size + 1, image.shape[1]).to(image.device)
    step = max(1, CACHE // (2 * (size + 2) ** 2) if image.device.type == "cpu" else len(patches))
    for first in range(0, len(patches), step):
        here = slice(first, first + step)
        pixels = corners[here, :1] * image.shape[1] + corners[here, 1:] + window
        # the last row and column of one at the edge may lie outside, where they hold nothing
        pixels = pixels.clamp_max_(len(flat) - 1)
        flat.index_add_(0, pixels.flatten(), move_patches(patches[here] * weights, rests[here]).flatten())


def splat_points_(image: Tensor, positions: Tensor) -> None:
    """Add 1 to ``image`` at each position, shared among four pixels: :func:`splat_` for patches of one pixel."""
    corners, rests = corners_and_rests(positions, 1, image)
    check_inside(corners, corners + 1 + (rests > 0), image.shape)
    flat, width, last = image.view(-1), image.shape[1], image.numel() - 1
    for down in (0, 1):
        for right in (0, 1):
            share = (rests[:, 0] if down else 1 - rests[:, 0]) * (rests[:, 1] if right else 1 - rests[:, 1])
            pixels = (corners[:, 0] + down) * width + corners[:, 1] + right
            flat.index_add_(0, pixels.clamp_max(last), share)  # beyond the edge the share is 0


def _add_compiled(
    loop: ctypes.CDLL, image: Tensor, patches: Tensor, weights: Tensor, corners: Tensor, rests: Tensor
) -> None:
    parts = 2 if image.is_complex() else 1
    gains = weights.repeat_interleave(parts, -1)  # one for each real and each imaginary part
    count, size, width = len(patches), patches.shape[-1], image.shape[1]
    lengths = [ctypes.c_int64(length) for length in (width, count, size, parts)]
    arrays = (image.view(-1), patches, gains, corners, rests)  # a view refuses an image that has gaps
    loop.splat(*lengths, *(ctypes.c_void_p(array.data_ptr()) for array in arrays))
