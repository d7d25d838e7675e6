"""What the counts say before any learning: a group's object, back-projected through its known probes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .forward_model import intensity
from .propagation import far_field_corner, far_field_corner_inverse

RIDGE = 0.02
"""Share of the greatest illumination added to it where it divides."""
DAMPING = 0.9
"""Step of the iterations after the first."""
MOMENTUM = 0.9
"""Share of the last step that the next one repeats, before it looks where to go (Nesterov): 20 steps of it come as far
as 60 with a momentum of one half."""


@dataclass(frozen=True)
class Estimate:
    """A group's object as the counts and the probes alone give it.

    Attributes:
        canvas: complex, ``(B, N, N)``, 1 where no light falls.
        updates: what each pattern would still change, complex, ``(B, C, N, N)``.
        illumination: light of each pattern over the greatest of the group's sum, ``(B, C, N, N)``.
    """

    canvas: Tensor
    updates: Tensor
    illumination: Tensor

    def channels(self) -> Tensor:
        """As real channels ``(B, 3 + 3 C, N, N)``: canvas - 1, light of all, then update and light of each pattern."""
        canvas = torch.view_as_real(self.canvas - 1).movedim(-1, 1)
        updates = torch.view_as_real(self.updates).movedim(-1, 2).flatten(1, 2)
        return torch.cat([canvas, self.illumination.sum(1, keepdim=True), updates, self.illumination], dim=1)


def backproject(
    amplitude: Tensor, probes: Tensor, mask: Tensor | None = None, iterations: int = 1, start: Tensor | None = None
) -> Estimate:
    """Improve a group's object by the counts and the known probes alone.

    ``e <- e + sum_c conj(P_c) F^-1[(A_c / |F P_c e| - 1) F P_c e] / (sum_c |P_c|^2 + 0.02 max)``: PIE over the whole
    group at once, with incoherent modes under the sum.

    Args:
        amplitude: square root of the counts, ``(B, C, N, N)``, zero frequency at the corner.
        probes: modes moved to each pattern, ``(B, C, M, N, N)``.
        mask: 1 where a pixel counts, broadcastable to ``amplitude``; others are left as the estimate has them.
        iterations: how many steps; the first from an empty object is whole, the others damped.
        start: the object to start from, ``(B, N, N)``; an empty one without it.

    Returns:
        The estimate; it carries no gradient.
    """
    with torch.no_grad():
        conjugate = probes.conj().resolve_conj()
        light = intensity(probes).sum(2)
        total = light.sum(1)
        greatest = total.amax((-2, -1), keepdim=True)
        gain = 1 / (total + RIDGE * greatest)
        canvas = torch.ones_like(probes[:, 0, 0]) if start is None else start
        velocity = 0
        for step in range(iterations):
            damping = 1.0 if start is None and step == 0 else DAMPING
            ahead = canvas + MOMENTUM * velocity
            velocity = MOMENTUM * velocity + damping * gain * _updates(ahead, amplitude, probes, conjugate, mask).sum(1)
            canvas = canvas + velocity
        own_gain = 1 / (light + RIDGE * light.amax((-2, -1), keepdim=True))
        updates = own_gain * _updates(canvas, amplitude, probes, conjugate, mask)
        return Estimate(canvas, updates, light / greatest[:, None])


def _updates(canvas: Tensor, amplitude: Tensor, probes: Tensor, conjugate: Tensor, mask: Tensor | None) -> Tensor:
    """What each pattern asks of the canvas, weighted by its light: ``sum_m conj(P) F^-1[(A / |F P e| - 1) F P e]``."""
    wave = far_field_corner(canvas[:, None, None] * probes)
    # in place, because making room for six results of this size takes as long as computing them
    change = _over_modes(intensity(wave)).clamp_min_(1e-12).rsqrt_().mul_(amplitude).sub_(1)
    if mask is not None:
        change.mul_(mask)
    torch.view_as_real(wave).mul_(change[:, :, None, :, :, None])  # as complex numbers they would be copied first
    return _over_modes(far_field_corner_inverse(wave).mul_(conjugate))


def _over_modes(each: Tensor) -> Tensor:
    """The sum over modes, ``(B, C, M, N, N)`` to ``(B, C, N, N)``; of one it would be a copy."""
    return each.squeeze(2) if each.shape[2] == 1 else each.sum(2)
