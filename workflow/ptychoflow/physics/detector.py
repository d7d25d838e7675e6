"""How far counts are from what was expected: the data errors, all of them masked and differentiable."""

import torch
from torch import Tensor


def poisson_nll(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """Poisson negative log-likelihood less that of a perfect fit, over the mean counts: 0 where expected equals counts.

    ``mean(expected - counts + counts log(counts / expected)) / mean(counts)``.

    Args:
        counts: measured, ``(..., N, N)``.
        expected: the forward model's, the same shape.
        mask: True where a pixel counts, broadcastable; all pixels without it.
    """
    floor = torch.finfo(expected.dtype).tiny * 1e10
    nll = expected - counts + torch.xlogy(counts, counts.clamp_min(floor) / expected.clamp_min(floor))
    return _masked_sum(nll, mask) / _masked_sum(counts, mask).clamp_min(1)


def amplitude_error(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """The R-factor ``sum((sqrt(expected) - sqrt(counts))^2) / sum(counts)``; gradient finite at zero expected counts."""
    amplitude = expected.clamp_min(1e-12).sqrt()
    return _masked_sum((amplitude - counts.sqrt()).square(), mask) / _masked_sum(counts, mask).clamp_min(1)


def amplitude_mae(counts: Tensor, expected: Tensor, mask: Tensor | None = None) -> Tensor:
    """``sum |sqrt(expected) - sqrt(counts)| / sum sqrt(counts)``."""
    amplitude = expected.clamp_min(1e-12).sqrt()
    return _masked_sum((amplitude - counts.sqrt()).abs(), mask) / _masked_sum(counts.sqrt(), mask).clamp_min(1)


LOSSES = {"poisson": poisson_nll, "amplitude": amplitude_error, "mae": amplitude_mae}
"""Data errors by their names in the config."""


def _masked_sum(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.sum() if mask is None else (values * mask).sum()
