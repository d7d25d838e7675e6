"""How far counts are from what was expected: the data errors, all of them masked and differentiable.

Precision is kept here: counts of any dtype and waves of half precision are taken to at least float32 before anything is
subtracted or summed, whatever autocast says.
"""

import torch
from torch import Tensor

UNSEEN = 1e-6
"""Counts that no detector can tell from none. Added to both sides of a likelihood, they bound its gradient."""


def poisson_nll(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """Poisson negative log-likelihood less that of a perfect fit, over the mean counts: 0 where expected equals counts.

    ``mean(expected - counts + counts log(counts / expected)) / mean(counts)``.

    Args:
        counts: measured, ``(..., N, N)``.
        expected: the forward model's, the same shape.
        mask: True where a pixel counts, broadcastable; all pixels without it.
    """
    counts, expected = _precise(counts, expected)
    # log(counts / expected) by its small argument: in float32 the quotient itself loses the noise of a million counts
    excess = (counts - expected) / (expected + UNSEEN)
    log_ratio = torch.log1p(excess.clamp_min(-1 + torch.finfo(excess.dtype).eps))
    nll = expected - counts + (counts + UNSEEN) * log_ratio
    return _masked_sum(nll, mask) / _masked_sum(counts, mask).clamp_min(1)


def amplitude_error(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """The R-factor, ``sum((sqrt(expected) - sqrt(counts))^2) / sum(counts)``; its gradient is finite at zero light."""
    counts, expected = _precise(counts, expected)
    return _masked_sum((_root(expected) - counts.sqrt()).square(), mask) / _masked_sum(counts, mask).clamp_min(1)


def amplitude_mae(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """``sum |sqrt(expected) - sqrt(counts)| / sum sqrt(counts)``."""
    counts, expected = _precise(counts, expected)
    return _masked_sum((_root(expected) - counts.sqrt()).abs(), mask) / _masked_sum(counts.sqrt(), mask).clamp_min(1)


def legacy_amplitude(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """The loss of PtychoPINN's ``legacy_v1`` scaling, for comparison only: its value depends on dose and batch.

    Amplitudes are scaled so that a pattern of the batch has the mean power ``(N / 2)^2``; the scaled intensity is the
    rate, and the observation, of a Poisson likelihood, whose sum over pixels is divided by the mean scaled amplitude.
    Its minimum over the expected counts is where :func:`poisson_nll` has its own.
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
"""Data errors by their names in the config."""


def _precise(counts: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 if one of them is, else in float32."""
    single = torch.float64 if torch.float64 in (counts.dtype, expected.dtype) else torch.float32
    return counts.to(single), expected.to(single)


def _root(expected: Tensor) -> Tensor:
    return expected.clamp_min(1e-12).sqrt()


def _masked_sum(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.sum() if mask is None else (values * mask).sum()
