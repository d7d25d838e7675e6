"""The forward model: what a detector is expected to count.

Waves are complex and keep the better precision of object and probe; autocast does not touch complex numbers, so that a
network in half precision loses no counts here. Shifts are turned into phases in float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .propagation import far_field


def shift_probe(probe: Tensor, shift: Tensor) -> Tensor:
    """The probe moved by a sub-pixel shift, exactly for a band-limited probe: a Fourier phase ramp.

    Content moves by ``+shift``. Unitary: no light is lost, and the reverse shift is the inverse and the adjoint.

    Args:
        probe: modes, ``(M, N, N)`` complex.
        shift: ``(y, x)`` px, ``(..., 2)``.

    Returns:
        Shifted probes, ``(..., M, N, N)``.
    """
    return shift_spectrum(probe_spectrum(probe), shift)


def probe_spectrum(probe: Tensor) -> Tensor:
    """What :func:`shift_spectrum` takes: a probe's transform, carrying the scale that each shift is then spared."""
    return torch.fft.fft2(probe, norm="forward")


def shift_spectrum(spectrum: Tensor, shift: Tensor) -> Tensor:
    """:func:`shift_probe` of the probe with this :func:`probe_spectrum`: for loops that shift one probe many times."""
    ramp = fourier_ramp(shift, spectrum.shape[-1], spectrum.real.dtype)[..., None, :, :]
    return torch.fft.ifft2(spectrum * ramp, norm="forward")


def fourier_ramp(shift: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """``exp(-2 pi i q . shift)``, zero frequency at the corner, ``(..., N, N)``: its product shifts by ``+shift``."""
    frequency = torch.fft.fftfreq(size, dtype=torch.float64, device=shift.device)
    angle = -2 * math.pi * shift.double()[..., None] * frequency
    ramp = torch.polar(torch.ones_like(angle), angle)
    ramp = ramp.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return ramp[..., 0, :, None] * ramp[..., 1, None, :]


def expected_counts(
    patches: Tensor,
    probe: Tensor,
    background: Tensor | float | None = None,
    propagate: Callable[[Tensor], Tensor] = far_field,
) -> Tensor:
    """Expected photon counts of each pattern: ``I = sum_m |F[P_m O]|^2 + background``.

    Modes add as intensities. There is no scale factor: the probe is in sqrt(photons), the object dimensionless.

    Args:
        patches: the object under each position, ``(..., N, N)``.
        probe: modes, already moved to each position's sub-pixel rest, broadcastable to ``(..., M, N, N)``.
        background: counts added to every pattern, broadcastable to ``(..., N, N)``; None adds nothing.
        propagate: from the exit wave to the detector wave; far field, near field or any other.

    Returns:
        Counts, ``(..., N, N)``, laid out as ``propagate`` leaves them.
    """
    modes = intensity(propagate(patches[..., None, :, :] * probe))
    counts = modes.squeeze(-3) if modes.shape[-3] == 1 else modes.sum(-3)  # a sum of one would be a copy
    return counts if background is None else counts + background


def intensity(wave: Tensor) -> Tensor:
    """``|wave|^2``, without the square root that ``abs`` takes."""
    return wave.real.square() + wave.imag.square()


def total_intensity(waves: Tensor) -> Tensor:
    """``sum_m |wave_m|^2`` of modes ``(..., M, N, N)``, in 2/3 of the time that summing :func:`intensity` takes."""
    parts = torch.view_as_real(waves).square()
    parts = parts.squeeze(-4) if parts.shape[-4] == 1 else parts.sum(-4)
    return parts[..., 0] + parts[..., 1]
