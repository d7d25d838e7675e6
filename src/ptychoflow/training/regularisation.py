"""What canvases are kept from: steps between pixels and distance from the mean, of amplitude or phase."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..config import Regularisation
from ..physics.forward_model import intensity


def regularisation(canvas: Tensor, light: Tensor, settings: Regularisation) -> Tensor:
    """The weighted sum of what the settings name.

    Args:
        canvas: the object under each group, ``(B, N, N)``.
        light: the group's illumination, ``(B, N, N)``.
        settings: what of amplitude and phase.
    """
    total = canvas.new_zeros((), dtype=light.dtype)
    if settings.amplitude is not None:
        total = total + settings.amplitude_weight * KINDS[settings.amplitude](canvas, light, _amplitude_step)
    if settings.phase is not None:
        total = total + settings.phase_weight * KINDS[settings.phase](canvas, light, _phase_step)
    return total


def total_variation(canvas: Tensor, light: Tensor, step: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Mean of ``|step to the pixel below| + |step to the pixel right|`` over what both are lit by."""
    total = 0.0
    for dim in (-2, -1):
        size = canvas.shape[dim] - 1
        here, next_ = canvas.narrow(dim, 0, size), canvas.narrow(dim, 1, size)
        both = torch.minimum(light.narrow(dim, 0, size), light.narrow(dim, 1, size))
        total = total + _mean(step(here, next_).abs(), both)
    return total


def mean_deviation(canvas: Tensor, light: Tensor, step: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Mean distance from a number with the mean modulus and the phase of the mean of the group's canvas."""
    share = light / light.sum((-2, -1), keepdim=True)
    modulus = (share * _modulus(canvas)).sum((-2, -1), keepdim=True)
    phase = (share * canvas).sum((-2, -1), keepdim=True).angle()
    return _mean(step(torch.polar(modulus, phase), canvas).abs(), light)


KINDS = {"total_variation": total_variation, "mean_deviation": mean_deviation}


def _amplitude_step(here: Tensor, there: Tensor) -> Tensor:
    return _modulus(there) - _modulus(here)


def _phase_step(here: Tensor, there: Tensor) -> Tensor:
    """The difference of phases, by the shorter way round: nothing is unwrapped."""
    return (there * here.conj()).angle()


def _modulus(field: Tensor) -> Tensor:
    return (intensity(field) + 1e-12).sqrt()


def _mean(values: Tensor, light: Tensor) -> Tensor:
    """Mean over pixels by their light, then over groups."""
    return ((light * values).sum((-2, -1)) / light.sum((-2, -1))).mean()
