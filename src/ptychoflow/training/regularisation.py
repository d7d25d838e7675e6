"""Penalties on canvases: differences between pixels and deviation from the mean, of amplitude or phase."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..config import Regularisation
from ..physics.forward_model import intensity

Difference = Callable[[Tensor, Tensor], Tensor]
"""A function of two complex images that gives their difference in amplitude or in phase."""


def regularisation(canvas: Tensor, illumination: Tensor, settings: Regularisation) -> Tensor:
    """Return the weighted sum of the penalties that the settings name, a scalar.

    Args:
        canvas: object under each group, ``(B, N, N)``.
        illumination: of each group, photons, ``(B, N, N)``.
        settings: penalties and weights of amplitude and phase.
    """
    total = canvas.new_zeros((), dtype=illumination.dtype)
    if settings.amplitude is not None:
        penalty = PENALTIES[settings.amplitude]
        total = total + settings.amplitude_weight * penalty(canvas, illumination, _amplitude_difference)
    if settings.phase is not None:
        penalty = PENALTIES[settings.phase]
        total = total + settings.phase_weight * penalty(canvas, illumination, _phase_difference)
    return total


def total_variation(canvas: Tensor, illumination: Tensor, difference: Difference) -> Tensor:
    """Return the mean of ``|difference to the pixel below| + |difference to the pixel right|``.

    Pairs of pixels are weighed by the lower illumination of the two.

    Args:
        canvas: object under each group, ``(B, N, N)``.
        illumination: of each group, photons, ``(B, N, N)``.
        difference: of amplitude or of phase.
    """
    total = canvas.new_zeros((), dtype=illumination.dtype)
    for dim in (-2, -1):
        size = canvas.shape[dim] - 1
        pixel, neighbour = canvas.narrow(dim, 0, size), canvas.narrow(dim, 1, size)
        weight = torch.minimum(illumination.narrow(dim, 0, size), illumination.narrow(dim, 1, size))
        total = total + _weighted_mean(difference(pixel, neighbour).abs(), weight)
    return total


def mean_deviation(canvas: Tensor, illumination: Tensor, difference: Difference) -> Tensor:
    """Return the mean difference from a number with the mean modulus and the mean phase of the group's canvas.

    Args:
        canvas: object under each group, ``(B, N, N)``.
        illumination: of each group, photons, ``(B, N, N)``.
        difference: of amplitude or of phase.
    """
    share = illumination / illumination.sum((-2, -1), keepdim=True)
    modulus = (share * _modulus(canvas)).sum((-2, -1), keepdim=True)
    phase = (share * canvas).sum((-2, -1), keepdim=True).angle()
    return _weighted_mean(difference(torch.polar(modulus, phase), canvas).abs(), illumination)


PENALTIES = {"total_variation": total_variation, "mean_deviation": mean_deviation}
"""Penalties by their names in the config."""


def _amplitude_difference(first: Tensor, second: Tensor) -> Tensor:
    return _modulus(second) - _modulus(first)


def _phase_difference(first: Tensor, second: Tensor) -> Tensor:
    """Return the difference of phases, wrapped to (-pi, pi]: no unwrapping."""
    return (second * first.conj()).angle()


def _modulus(field: Tensor) -> Tensor:
    return (intensity(field) + 1e-12).sqrt()


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over pixels by weight, then over groups."""
    return ((weight * values).sum((-2, -1)) / weight.sum((-2, -1))).mean()
