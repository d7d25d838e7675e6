"""Cutting patches out of an image and placing them back: an exact adjoint pair, bilinear."""

import torch
from torch import Tensor


def split_positions(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Split positions into the nearest whole pixel and the rest in ``[-0.5, 0.5]``.

    Args:
        positions: ``(..., 2)`` px, float64.

    Returns:
        Whole pixels, int64, and rests, the dtype of ``positions``; their sum is ``positions``.
    """
    whole = torch.round(positions)
    return whole.long(), positions - whole


def cut_windows(image: Tensor, corners: Tensor, size: int) -> Tensor:
    """Cut the whole-pixel windows that start at ``corners``.

    Args:
        image: ``(H, W)``.
        corners: first row and column of each window, int64, ``(J, 2)``.
        size: side of a window, px.

    Returns:
        Windows, ``(J, size, size)``.

    Raises:
        ValueError: if a window would reach outside the image.
    """
    _check_inside(corners, size, image.shape[-2:])
    windows = image.unfold(0, size, 1).unfold(1, size, 1)
    return windows[corners[:, 0], corners[:, 1]]


def extract_patches(image: Tensor, positions: Tensor, size: int) -> Tensor:
    """Cut a patch out of ``image`` around each position, with bilinear interpolation.

    Index ``n`` of a patch lies at ``n - size // 2`` from its position. At whole-pixel positions nothing is
    interpolated. The adjoint of :func:`place_patches`.

    Args:
        image: ``(H, W)``, real or complex.
        positions: patch centres ``(y, x)``, px, ``(J, 2)``.
        size: side of a patch, px.

    Returns:
        Patches, ``(J, size, size)``.

    Raises:
        ValueError: if a patch would reach outside the image.
    """
    corners, weights = _corners_and_weights(positions, size, image.real.dtype if image.is_complex() else image.dtype)
    padded = torch.nn.functional.pad(image, (0, 1, 0, 1))
    _check_inside(corners, size, image.shape[-2:])
    patches = 0
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (weights[dy][:, 0] * weights[dx][:, 1])[:, None, None]
            patches = patches + weight * cut_windows(padded, corners + torch.tensor([dy, dx]).to(corners), size)
    return patches


def place_patches(patches: Tensor, positions: Tensor, shape: tuple[int, int]) -> Tensor:
    """Add each patch to an empty image at its position, sharing every pixel among its four neighbours.

    Barycentric splatting; the adjoint of :func:`extract_patches`.

    Args:
        patches: ``(J, size, size)``, real or complex.
        positions: patch centres ``(y, x)``, px, ``(J, 2)``.
        shape: height and width of the image, px.

    Returns:
        The sum, ``(H, W)``.

    Raises:
        ValueError: if a patch would reach outside the image.
    """
    size = patches.shape[-1]
    corners, weights = _corners_and_weights(
        positions, size, patches.real.dtype if patches.is_complex() else patches.dtype
    )
    _check_inside(corners, size, shape)
    image = patches.new_zeros(shape[0] + 1, shape[1] + 1)
    for patch, (y, x), (top, left), (bottom, right) in zip(patches, corners.tolist(), *weights, strict=True):
        rows = torch.nn.functional.pad(top * patch, (0, 0, 0, 1)) + torch.nn.functional.pad(
            bottom * patch, (0, 0, 1, 0)
        )
        image[y : y + size + 1, x : x + size] += left * rows
        image[y : y + size + 1, x + 1 : x + size + 1] += right * rows
    return image[: shape[0], : shape[1]]


def _corners_and_weights(positions: Tensor, size: int, dtype: torch.dtype) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """First pixel of each patch and the ``(J, 2)`` weights of that pixel and of the next one along each axis."""
    whole = torch.floor(positions)
    rest = (positions - whole).to(dtype)
    return whole.long() - size // 2, (1 - rest, rest)


def _check_inside(corners: Tensor, size: int, shape: tuple[int, int]) -> None:
    if corners.numel() == 0:
        return
    low, high = corners.amin(0).tolist(), (corners.amax(0) + size).tolist()
    if min(low) < 0 or high[0] > shape[0] + 1 or high[1] > shape[1] + 1:
        raise ValueError(
            f"patches reach from pixel {tuple(low)} to {tuple(high)}, the image is {tuple(shape)}: "
            "enlarge the image or drop the positions outside it"
        )
