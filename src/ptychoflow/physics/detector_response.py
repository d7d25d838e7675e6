"""Detector response: the Gaussian point spread of counts on the detector, and its adjoint."""

import torch
from torch import Tensor


def point_spread_matrix(size: int, sigma_px: float, corner: bool = False) -> Tensor:
    """Compute the matrix ``K`` of a Gaussian point spread along one axis of a pattern.

    Counts that spread beyond the edge are lost: there a column sums to less than 1.

    Args:
        size: side N of a pattern, px.
        sigma_px: standard deviation, px, above 0.
        corner: True for patterns with the zero frequency at ``[0, 0]``.

    Returns:
        Symmetric matrix, float64, ``(N, N)``.
    """
    axis = torch.arange(size, dtype=torch.float64)
    matrix = torch.exp(-((axis[:, None] - axis) ** 2) / (2 * sigma_px**2))
    reach = torch.arange(-int(8 * sigma_px) - 1, int(8 * sigma_px) + 2, dtype=torch.float64)
    matrix = matrix / torch.exp(-(reach**2) / (2 * sigma_px**2)).sum()
    return matrix.roll((-(size // 2), -(size // 2)), (0, 1)) if corner else matrix


def spread_counts(counts: Tensor, matrix: Tensor) -> Tensor:
    """Spread counts over neighbouring pixels, ``K counts K``: its own adjoint, as ``K`` is symmetric.

    Args:
        counts: photons, ``(..., N, N)``.
        matrix: as :func:`point_spread_matrix` returns it, in the dtype of the counts, ``(N, N)``.

    Returns:
        Counts on the detector, ``(..., N, N)``.
    """
    return matrix @ counts @ matrix
