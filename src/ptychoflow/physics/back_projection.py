"""Back-projection: a group's object from its counts and known probes alone, before any learning."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .forward_model import intensity
from .propagation import FAR_FIELD, Propagator

RIDGE = 0.02
"""Regularisation: fraction of the greatest illumination added to it where it divides."""
DAMPING = 0.9
"""Step size of the iterations after the first."""
MOMENTUM = 0.9
"""Nesterov momentum: 20 iterations with it come as far as 60 with a momentum of one half."""


@dataclass(frozen=True)
class Estimate:
    """Estimate of a group's object from counts and probes.

    Attributes:
        canvas: object, complex, ``(B, N, N)``, 1 outside the illuminated area.
        updates: object update that each pattern would still make, complex, ``(B, C, N, N)``.
        illumination: probe intensity of each pattern over the greatest of the group's sum, ``(B, C, N, N)``.
    """

    canvas: Tensor
    updates: Tensor
    illumination: Tensor

    def channels(self) -> Tensor:
        """Return the estimate as real channels for a network.

        Returns:
            ``canvas - 1`` (2), illumination of the group (1), updates (2 C) and illumination (C) of each pattern,
            ``(B, 3 + 3 C, N, N)``.
        """
        canvas = torch.view_as_real(self.canvas - 1).movedim(-1, 1)
        updates = torch.view_as_real(self.updates).movedim(-1, 2).flatten(1, 2)
        return torch.cat([canvas, self.illumination.sum(1, keepdim=True), updates, self.illumination], dim=1)


def backproject(
    amplitude: Tensor,
    probes: Tensor,
    mask: Tensor | None = None,
    iterations: int = 1,
    start: Tensor | None = None,
    propagate: Propagator = FAR_FIELD,
) -> Estimate:
    """Back-project the counts of each group through its probes, by the modulus constraint on all patterns at once.

    ``e <- e + sum_c conj(P_c) F^-1[(A_c / |F P_c e| - 1) F P_c e] / (sum_c |P_c|^2 + 0.02 max)``: PIE over the whole
    group at once, with incoherent modes under the sum.

    Args:
        amplitude: square root of the counts, ``(B, C, N, N)``, zero frequency at the corner.
        probes: modes shifted to each pattern, ``(B, C, M, N, N)``, sqrt(photons).
        mask: 1 where a pixel is valid, broadcastable to ``amplitude``; others keep the expected amplitude.
        iterations: number of steps; the first from a uniform object is undamped, the others are damped.
        start: initial object, ``(B, N, N)``; uniform, 1, without it.
        propagate: from exit waves to the detector, and its adjoint ``F^-1``.

    Returns:
        The estimate; it carries no gradient.
    """
    with torch.no_grad():
        conjugate = probes.conj().resolve_conj()
        probe_intensity = intensity(probes).sum(2)
        total = probe_intensity.sum(1)
        greatest = total.amax((-2, -1), keepdim=True)
        gain = 1 / (total + RIDGE * greatest)
        canvas = torch.ones_like(probes[:, 0, 0]) if start is None else start
        velocity: Tensor | int = 0
        for step in range(iterations):
            damping = 1.0 if start is None and step == 0 else DAMPING
            ahead = canvas + MOMENTUM * velocity
            velocity = MOMENTUM * velocity + damping * gain * _updates(
                ahead, amplitude, probes, conjugate, mask, propagate
            ).sum(1)
            canvas = canvas + velocity
        own_gain = 1 / (probe_intensity + RIDGE * probe_intensity.amax((-2, -1), keepdim=True))
        updates = own_gain * _updates(canvas, amplitude, probes, conjugate, mask, propagate)
        return Estimate(canvas, updates, probe_intensity / greatest[:, None])


def _updates(
    canvas: Tensor, amplitude: Tensor, probes: Tensor, conjugate: Tensor, mask: Tensor | None, propagate: Propagator
) -> Tensor:
    """Compute the numerator of each pattern's object update, ``sum_m conj(P) F^-1[(A / |F P e| - 1) F P e]``.

    ``A / |F P e| - 1`` by one reciprocal square root, which rounds otherwise than ``residual / modulus`` of the rPIE
    engine's modulus constraint; all in place, without gradients.
    """
    wave = propagate(canvas[:, None, None] * probes)
    # in place, because allocating six results of this size takes as long as computing them
    factor = _sum_modes(intensity(wave)).clamp_min_(1e-12).rsqrt_().mul_(amplitude).sub_(1)
    if mask is not None:
        factor.mul_(mask)
    torch.view_as_real(wave).mul_(factor[:, :, None, :, :, None])  # as complex numbers they would be copied first
    return _sum_modes(propagate.adjoint(wave).mul_(conjugate))


def _sum_modes(waves: Tensor) -> Tensor:
    """Sum over modes, ``(B, C, M, N, N)`` to ``(B, C, N, N)``, without the copy that a sum of one would be."""
    return waves.squeeze(2) if waves.shape[2] == 1 else waves.sum(2)
