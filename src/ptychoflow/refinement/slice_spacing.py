"""Distance between the slices of a thick sample as an unknown: one number, a Gauss-Newton step after each epoch."""

import math

import torch
from torch import Tensor

from ..core.scan import Geometry
from ..physics.forward_model import intensity
from ..runtime.distributed import DistributedContext

MAX_STEP = 0.1
"""Greatest change of the spacing in an epoch, relative to it."""


class SpacingFit:
    """Normal equation of the spacing, summed over the patterns of an epoch.

    A wave on a slice changes with the spacing by ``i kappa(q)`` times its spectrum,
    ``kappa = 2 pi (sqrt(1 / wavelength^2 - q^2) - 1 / wavelength)``.

    Args:
        size: side N of a pattern, px.
        geometry: pixel and wavelength.
        ctx: device, and the ranks that share each batch.
    """

    def __init__(self, size: int, geometry: Geometry, ctx: DistributedContext) -> None:
        frequency = torch.fft.fftfreq(size, d=geometry.pixel_size_m, dtype=torch.float64)
        across = frequency[:, None].square() + frequency.square()
        along = (geometry.wavelength_m**-2 - across).clamp_min(0).sqrt() - 1 / geometry.wavelength_m
        self._kappa = (2 * math.pi * along).float().to(ctx.device)
        self._ctx = ctx
        self._sums: Tensor | None = None

    def begin_epoch(self, refined: bool) -> None:
        """Prepare the sums of an epoch that refines the spacing."""
        self._sums = torch.zeros(2, dtype=torch.float64, device=self._ctx.device) if refined else None

    def accumulate(self, incident: Tensor, window: Tensor, exit_wave_updates: Tensor) -> None:
        """Add the equation of a batch for the gap before a slice.

        Args:
            incident: waves on the slice, ``(b, M, N, N)``.
            window: the slice under each pattern, ``(b, N, N)``.
            exit_wave_updates: behind the slice, ``(b, M, N, N)``.
        """
        if self._sums is None:
            return
        spectrum = torch.fft.fft2(incident, norm="ortho")
        updates = torch.fft.fft2(window.conj()[:, None] * exit_wave_updates, norm="ortho")
        power = intensity(spectrum)
        mean = (power * self._kappa).sum() / power.sum().clamp_min(1e-30)  # a common phase shows in no pattern
        kappa = self._kappa - mean
        slope = (kappa * (spectrum.conj() * updates).imag).sum()
        self._sums += torch.stack([slope, (kappa.square() * power).sum()])

    def end_epoch(self, spacing_m: float, gaps: int) -> float:
        """Return the spacing after a step, m: about half of the change of an exit wave shows in its modulus.

        Args:
            spacing_m: as it was in the epoch, m.
            gaps: number of gaps between slices; they all change, and their changes of the exit wave add up.
        """
        if self._sums is None:
            return spacing_m
        slope, curvature = self._ctx.sum(self._sums).tolist()
        step = 2 * slope / max(gaps * curvature, 1e-30)
        return spacing_m + max(-MAX_STEP * spacing_m, min(MAX_STEP * spacing_m, step))
