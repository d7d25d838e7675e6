"""Beam that changes during a simulated scan: drift of pointing and focus, flicker."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from ..config import BeamStability
from .probes import beam_diameter


@dataclass(frozen=True)
class BeamVariation:
    """Deviation of the beam at each pattern.

    Attributes:
        shifts: shift ``(y, x)`` of the probe on the sample, px, ``(J, 2)``.
        defocus: additional defocus, waves at the edge of the disc that holds 95 % of the far field, ``(J,)``.
        intensity: intensity relative to the nominal one, ``(J,)``.
    """

    shifts: np.ndarray
    defocus: np.ndarray
    intensity: np.ndarray

    def vary_spectrum(self, spectrum: Tensor, squared_radius: Tensor, part: slice, repeats: int) -> Tensor:
        """Return the spectrum of the probe at each of some patterns, each repeated: ``(b repeats, M, N, N)``.

        Args:
            spectrum: of the nominal probe, zero frequency at the corner, ``(M, N, N)``.
            squared_radius: as :func:`squared_radius` returns it, ``(N, N)``.
            part: patterns.
            repeats: exposures of each pattern.
        """
        columns = (self.defocus[part], np.sqrt(self.intensity[part]), *self.shifts[part].T)
        defocus, amplitude, y, x = (
            torch.from_numpy(column).to(spectrum.device).repeat_interleave(repeats)[:, None, None] for column in columns
        )
        frequency = torch.fft.fftfreq(spectrum.shape[-1], dtype=torch.float64, device=spectrum.device)
        waves = defocus * squared_radius - frequency[:, None] * y - frequency * x
        factor = torch.polar(amplitude.expand_as(waves).contiguous(), 2 * torch.pi * waves)
        return spectrum * factor.to(spectrum)[:, None]


def draw_beam_variation(settings: BeamStability, patterns: int, rng: np.random.Generator) -> BeamVariation | None:
    """Draw the deviation of the beam at each pattern; None for a constant beam.

    Drifts are Gaussian noise that is smooth along the scan, of mean 0; flicker is independent between patterns.

    Args:
        settings: size of drifts and flicker.
        patterns: number J of patterns.
        rng: random generator.
    """
    if settings.is_constant:
        return None
    drifts = gaussian_filter1d(rng.standard_normal((patterns, 3)), settings.correlation_patterns, axis=0)
    drifts = drifts - drifts.mean(0)
    drifts = drifts / np.maximum(abs(drifts).max(0), 1e-12)
    flicker = 1 + settings.flicker * rng.standard_normal(patterns)
    return BeamVariation(
        settings.pointing_drift_px * drifts[:, :2],
        settings.defocus_drift_waves * drifts[:, 2],
        np.maximum(flicker, 0.0),
    )


def squared_radius(spectrum: Tensor) -> Tensor:
    """Return the squared distance from the centre of the far field, in radii of the disc of 95 % of the photons."""
    power = np.fft.fftshift(spectrum.abs().square().sum(0).cpu().numpy())
    axes = np.arange(len(power)), np.arange(len(power))
    y, x = (axis - (power.sum(1 - n) @ axis) / power.sum() for n, axis in enumerate(axes))
    squared = (y[:, None] ** 2 + x**2) / (beam_diameter(power, 0.95) / 2) ** 2
    return torch.from_numpy(np.fft.ifftshift(squared)).to(spectrum.device)
