"""Extraction of patches from an image and their placement: exact adjoint pairs, at whole pixels and bilinear.

Positions stay in float64 until their whole pixels are taken off, so that a fraction is as exact far from the origin as
near it. Everything else follows the dtype and device of the image or the patches, and can be differentiated.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def split_positions(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Split positions into the nearest whole pixel and the sub-pixel shift in ``[-0.5, 0.5]``.

    Args:
        positions: ``(..., 2)`` px, float64.

    Returns:
        Whole pixels, int64, and sub-pixel shifts, in the dtype of ``positions``; their sum is ``positions``.
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
    check_inside(corners, corners + size, image.shape[-2:])
    windows = image.unfold(0, size, 1).unfold(1, size, 1)
    return windows[corners[:, 0], corners[:, 1]]


def add_windows(windows: Tensor, corners: Tensor, shape: tuple[int, int]) -> Tensor:
    """Add whole-pixel windows to an image of zeros: the adjoint of :func:`cut_windows`.

    On CUDA the order of the sums, and so the last bit, is fixed only under ``torch.use_deterministic_algorithms``.

    Args:
        windows: ``(J, size, size)``.
        corners: first row and column of each window, int64, ``(J, 2)``.
        shape: height and width of the image, px.

    Returns:
        The sum, ``(H, W)``.

    Raises:
        ValueError: if a window would reach outside the image.
    """
    size = windows.shape[-1]
    check_inside(corners, corners + size, shape)
    first = corners[:, :1] * shape[1] + corners[:, 1:]
    pixels = first + window_pixels(size, shape[1]).to(corners.device)
    return windows.new_zeros(shape[0] * shape[1]).index_add(0, pixels.flatten(), windows.flatten()).view(*shape)


def window_pixels(size: int, width: int) -> Tensor:
    """Return the flat indices of a window's pixels relative to its first.

    Args:
        size: side of the window, px.
        width: of the image, px.

    Returns:
        Indices, int64, ``(size^2,)``.
    """
    line = torch.arange(size)
    return (line[:, None] * width + line).flatten()


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
    corners, subpixel_shift = corners_and_subpixel_shifts(positions, size, image)
    check_inside(corners, corners + size + (subpixel_shift > 0), image.shape[-2:])
    windows = cut_windows(pad(image, (0, 1, 0, 1)), corners, size + 1)  # the row beyond the last has weight 0 there
    down, right = subpixel_shift[:, 0, None, None], subpixel_shift[:, 1, None, None]
    rows = (1 - down) * windows[:, :-1] + down * windows[:, 1:]
    return (1 - right) * rows[:, :, :-1] + right * rows[:, :, 1:]


def place_patches(patches: Tensor, positions: Tensor, shape: tuple[int, int]) -> Tensor:
    """Add each patch to an image of zeros at its position, sharing every pixel among its four neighbours.

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
    corners, subpixel_shift = corners_and_subpixel_shifts(positions, size, patches)
    check_inside(corners, corners + size + (subpixel_shift > 0), shape)
    windows = move_patches(patches, subpixel_shift)
    return add_windows(windows, corners, (shape[0] + 1, shape[1] + 1))[: shape[0], : shape[1]]


def move_patches(patches: Tensor, subpixel_shift: Tensor) -> Tensor:
    """Shift patches by bilinear interpolation, towards larger indices.

    Args:
        patches: real or complex, ``(J, size, size)``.
        subpixel_shift: ``(y, x)`` px, 0 to 1, ``(J, 2)``.

    Returns:
        Shifted patches, ``(J, size + 1, size + 1)``.
    """
    # lerp is slow on complex numbers
    numbers = torch.view_as_real(patches) if patches.is_complex() else patches[..., None]
    framed = pad(numbers, (0, 0, 1, 1, 1, 1))
    down, right = (subpixel_shift[:, axis, None, None, None] for axis in (0, 1))
    rows = torch.lerp(framed[:, :, 1:], framed[:, :, :-1], right)
    moved = torch.lerp(rows[:, 1:], rows[:, :-1], down)
    return torch.view_as_complex(moved) if patches.is_complex() else moved[..., 0]


def corners_and_subpixel_shifts(positions: Tensor, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first pixel of each patch, int64, and the shift beyond it, 0 to 1, in the real dtype of ``like``."""
    whole = torch.floor(positions)
    subpixel_shift = (positions - whole).to(like.real.dtype if like.is_complex() else like.dtype)
    return whole.long() - size // 2, subpixel_shift


def check_inside(first: Tensor, end: Tensor, shape: Sequence[int]) -> None:
    """Raise an error if a window leaves the image.

    Args:
        first: first pixel of each window, ``(J, 2)``.
        end: pixel after its last, ``(J, 2)``.
        shape: height and width of the image, px.

    Raises:
        ValueError: if one does.
    """
    if first.numel() == 0:
        return
    low, high = torch.stack([first.amin(0), end.amax(0)]).tolist()  # at once, because a GPU is waited for
    if min(low) < 0 or high[0] > shape[0] or high[1] > shape[1]:
        raise ValueError(
            f"patches reach from pixel {tuple(low)} to {tuple(index - 1 for index in high)}, "
            f"the image is {tuple(shape)}: enlarge the image or drop the positions outside it"
        )
