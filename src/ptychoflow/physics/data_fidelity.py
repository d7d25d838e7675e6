"""Data-fidelity terms: distances of measured from expected counts, masked and differentiable.

Counts of any dtype and waves of half precision are taken to at least float32 before anything is subtracted or summed,
under autocast too.
"""

import torch
from torch import Tensor

MIN_COUNTS = 1e-6
"""Counts that no detector can tell from none. Added to both sides of a likelihood, they bound its gradient."""


def poisson_nll(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the Poisson negative log-likelihood less that of a perfect fit, over the mean counts.

    ``mean(expected - counts + counts log(counts / expected)) / mean(counts)``: 0 where expected equals counts.

    Args:
        counts: measured, photons, ``(..., N, N)``.
        expected: those of the forward model, the same shape.
        mask: True where a pixel is valid, broadcastable; all pixels without it.

    Returns:
        A scalar.
    """
    counts, expected = _precise(counts, expected)
    # log(counts / expected) by its small argument: in float32 the quotient itself loses the noise of a million counts
    excess = (counts - expected) / (expected + MIN_COUNTS)
    log_ratio = torch.log1p(excess.clamp_min(-1 + torch.finfo(excess.dtype).eps))
    nll = expected - counts + (counts + MIN_COUNTS) * log_ratio
    return _masked_sum(nll, mask) / _masked_sum(counts, mask).clamp_min(1)


def amplitude_error(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the R-factor, ``sum((sqrt(expected) - sqrt(counts))^2) / sum(counts)``.

    Its gradient is finite at zero expected counts.

    Args:
        counts: measured, photons, ``(..., N, N)``.
        expected: those of the forward model, the same shape.
        mask: True where a pixel is valid, broadcastable; all pixels without it.

    Returns:
        A scalar.
    """
    counts, expected = _precise(counts, expected)
    return _masked_sum((_root(expected) - counts.sqrt()).square(), mask) / _masked_sum(counts, mask).clamp_min(1)


def amplitude_mae(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the mean absolute error of amplitudes, ``sum |sqrt(expected) - sqrt(counts)| / sum sqrt(counts)``.

    Args:
        counts: measured, photons, ``(..., N, N)``.
        expected: those of the forward model, the same shape.
        mask: True where a pixel is valid, broadcastable; all pixels without it.

    Returns:
        A scalar.
    """
    counts, expected = _precise(counts, expected)
    return _masked_sum((_root(expected) - counts.sqrt()).abs(), mask) / _masked_sum(counts.sqrt(), mask).clamp_min(1)


def legacy_amplitude(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the loss of PtychoPINN's ``legacy_v1`` scaling, for comparison only: its value depends on dose and batch.

    Amplitudes are scaled so that a pattern of the batch has the mean power ``(N / 2)^2``; the scaled intensity is the
    rate, and the observation, of a Poisson likelihood, whose sum over pixels is divided by the mean scaled amplitude.
    Its minimum over the expected counts is where :func:`poisson_nll` has its own.

    Args:
        counts: measured, photons, ``(..., N, N)``.
        expected: those of the forward model, the same shape.
        mask: True where a pixel is valid, broadcastable; all pixels without it.

    Returns:
        A scalar.
    """
    counts, expected = _precise(counts, expected)
    size = counts.shape[-1]
    patterns = counts.numel() / size**2
    power = (size / 2) ** 2 * patterns / _masked_sum(counts, mask).clamp_min(1)
    rate, observed = (expected * power).clamp_min(1e-8), counts * power
    nll = rate - torch.xlogy(observed, rate) + torch.lgamma(observed + 1)
    return _masked_sum(nll, mask) / patterns / (_masked_sum(observed.sqrt(), mask) / counts.numel() + 1e-8)


LOSSES = {
    "poisson": poisson_nll,
    "amplitude": amplitude_error,
    "mae": amplitude_mae,
    "legacy_amplitude": legacy_amplitude,
}
"""Data-fidelity terms by their names in the config."""


def _precise(counts: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float64 if one of them is, else in float32."""
    single = torch.float64 if torch.float64 in (counts.dtype, expected.dtype) else torch.float32
    return counts.to(single), expected.to(single)


def _root(expected: Tensor) -> Tensor:
    return expected.clamp_min(1e-12).sqrt()


def _masked_sum(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.sum() if mask is None else (values * mask).sum()
