"""Overlap within a batch: how often the patterns of one batch update the same pixels of the object."""

import torch
from torch import Tensor

PAIRS_AT_ONCE = 1 << 22
"""Pairs of patterns compared at once, which bounds the memory of large batches."""


def gain_autocorrelation(probe_intensity: Tensor, alpha: float) -> Tensor:
    """Compute the overlap of two object updates by the distance of their patterns.

    An rPIE update changes a pixel by the gain ``g = I / ((1 - alpha) I + alpha max I)`` of what it lacks. The gain
    stays near 1 where the probe intensity ``I`` is far below its maximum, so updates overlap more than intensities do.

    Args:
        probe_intensity: ``sum_m |P_m|^2``, ``(N, N)``.
        alpha: regularisation of the update.

    Returns:
        ``sum_r g(r) g(r + d) / sum_r g(r)^2`` at index ``d mod 2N`` for distances ``|d| <= N``, ``(2N, 2N)``.
    """
    gain = probe_intensity / torch.lerp(probe_intensity, probe_intensity.max(), alpha)
    shape = [2 * side for side in gain.shape]
    spectrum = torch.fft.rfft2(gain.double(), s=shape)
    correlation = torch.fft.irfft2(spectrum.abs().square(), s=shape)
    return (correlation / correlation[0, 0]).to(probe_intensity.dtype)


def overlap_in_batches(autocorrelation: Tensor, whole_pixels: Tensor, order: Tensor, batch_size: int) -> Tensor:
    """Compute the number of patterns of its batch that update the same pixels as each pattern, itself counted.

    Args:
        autocorrelation: as :func:`gain_autocorrelation` returns it, ``(2N, 2N)``.
        whole_pixels: whole-pixel positions, int64, ``(J, 2)``.
        order: patterns in the order of an epoch, int64, ``(J,)``.
        batch_size: patterns of each batch but the last.

    Returns:
        Overlap of each pattern, ``(J,)`` in the order of ``whole_pixels``: 1 where no other is near, ``batch_size``
        where all are in one place.
    """
    overlap = autocorrelation.new_empty(len(order))
    per_chunk = batch_size * max(1, PAIRS_AT_ONCE // batch_size**2)
    full = len(order) - len(order) % batch_size
    chunks = [*order[:full].split(per_chunk), order[full:]]
    for chunk in chunks:
        if len(chunk):
            batches = chunk.view(-1, min(batch_size, len(chunk)))
            overlap[batches] = _overlap(autocorrelation, whole_pixels[batches])
    return overlap


def _overlap(autocorrelation: Tensor, whole_pixels: Tensor) -> Tensor:
    """Return the overlap within each batch of positions ``(n, B, 2)``, ``(n, B)``."""
    side = len(autocorrelation)
    distances = (whole_pixels[:, :, None] - whole_pixels[:, None]).clamp_(-side // 2, side // 2) % side
    return autocorrelation[distances[..., 0], distances[..., 1]].sum(-1)
