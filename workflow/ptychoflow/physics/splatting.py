"""Patches added to an image in place: what ``place_patches`` does, at the speed of memory and without a gradient.

On a CPU an image grows window by window: no index of a pixel is ever made, and a batch stays in the processor's cache
from the weights to the sum. That is some twenty times as fast as scattering four weighted corners.
"""

import torch
from torch import Tensor

from .patches import check_inside, corners_and_rests, window_pixels

CACHE = 1 << 17
"""Numbers of a batch that stay in a core's cache."""


def splat_(image: Tensor, patches: Tensor, positions: Tensor, weights: Tensor | None = None) -> None:
    """Add each patch to ``image`` at its position, sharing every pixel among its four neighbours.

    On a CPU sums always come in the order of the patches; on CUDA their order, and so the last bit, is fixed only under
    ``torch.use_deterministic_algorithms``.

    Args:
        image: ``(H, W)``, real or complex; changed in place.
        patches: ``(J, size, size)``, of the dtype of ``image``.
        positions: patch centres ``(y, x)``, px, float64, ``(J, 2)``.
        weights: what each pixel of each patch is multiplied with first, real, ``(size, size)`` or ``(J, size, size)``.

    Raises:
        ValueError: if a patch would reach outside the image.
    """
    size = patches.shape[-1]
    corners, rests = corners_and_rests(positions, size, image)
    check_inside(corners, corners + size + (rests > 0), image.shape)
    step = max(1, CACHE // (2 * (size + 2) ** 2)) if image.device.type == "cpu" else max(1, len(patches))
    for first in range(0, len(patches), step):
        here = slice(first, first + step)
        gain = weights[here] if weights is not None and weights.ndim == 3 else weights
        _add_(image, _spread(patches[here], rests[here], gain), corners[here])


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


def _spread(patches: Tensor, rests: Tensor, weights: Tensor | None) -> Tensor:
    """Patches times weights, moved by their rests: ``(b, size, size)`` if no rest is there, else a pixel larger."""
    if not bool(rests.any()):
        return patches if weights is None else patches * weights
    numbers = torch.view_as_real(patches) if patches.is_complex() else patches[..., None]
    count, size, _, parts = numbers.shape
    framed = numbers.new_zeros(count, size + 2, size + 2, parts)
    inside = framed[:, 1:-1, 1:-1]
    inside.copy_(numbers) if weights is None else torch.mul(numbers, weights[..., None], out=inside)
    rows = framed.flatten(2)
    moved = torch.lerp(rows[:, :, parts:], rows[:, :, :-parts], rests[:, 1, None, None])
    moved = torch.lerp(moved[:, 1:], moved[:, :-1], rests[:, 0, None, None])
    windows = moved.view(count, size + 1, size + 1, parts)
    return torch.view_as_complex(windows) if patches.is_complex() else windows[..., 0]


def _add_(image: Tensor, windows: Tensor, corners: Tensor) -> None:
    """Add whole-pixel windows; the last row and column of one at the edge may lie outside, where they hold nothing."""
    side = windows.shape[-1]
    if image.device.type != "cpu":
        first = corners[:, :1] * image.shape[1] + corners[:, 1:]
        pixels = first + window_pixels(side, image.shape[1]).to(image.device)
        image.view(-1).index_add_(0, pixels.clamp_max_(image.numel() - 1).flatten(), windows.flatten())
        return
    pixels = image.numpy()
    for (y, x), window in zip(corners.tolist(), windows.numpy(), strict=True):
        under = pixels[y : y + side, x : x + side]
        under += window if under.shape == window.shape else window[: under.shape[0], : under.shape[1]]
