"""Forward model: from object, probe and sub-pixel shifts to the expected counts of a pattern.

Waves are complex and keep the better precision of object and probe; autocast does not touch complex numbers, so that a
network in half precision loses no counts. Phases of shifts are computed in float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .detector_response import spread_counts
from .propagation import Propagator, far_field


def shift_probe(probe: Tensor, shift: Tensor) -> Tensor:
    """Shift a probe by a sub-pixel shift with a Fourier phase ramp, exactly for a band-limited probe.

    Content moves by ``+shift``. Unitary: photons are conserved, and the reverse shift is the inverse and the adjoint.

    Args:
        probe: modes, ``(M, N, N)`` complex.
        shift: ``(y, x)`` px, ``(..., 2)``.

    Returns:
        Shifted probes, ``(..., M, N, N)``.
    """
    return shift_spectrum(probe_spectrum(probe), shift)


def probe_spectrum(probe: Tensor) -> Tensor:
    """Compute the transform of a probe that :func:`shift_spectrum` takes, with the scale of the inverse transform.

    Args:
        probe: modes, ``(M, N, N)`` complex.

    Returns:
        Spectrum, zero frequency at the corner, ``(M, N, N)``.
    """
    return torch.fft.fft2(probe, norm="forward")


def shift_spectrum(spectrum: Tensor, shift: Tensor) -> Tensor:
    """Shift the probe with this :func:`probe_spectrum`, as :func:`shift_probe`, in loops that shift one many times.

    Args:
        spectrum: as :func:`probe_spectrum` returns it, ``(M, N, N)``.
        shift: ``(y, x)`` px, ``(..., 2)``.

    Returns:
        Shifted probes, ``(..., M, N, N)``.
    """
    ramp = fourier_ramp(shift, spectrum.shape[-1], spectrum.real.dtype)[..., None, :, :]
    return torch.fft.ifft2(spectrum * ramp, norm="forward")


def fourier_ramp(shift: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Compute the phase ramp ``exp(-2 pi i q . shift)``: multiplied with a spectrum it shifts by ``+shift``.

    Args:
        shift: ``(y, x)`` px, ``(..., 2)``.
        size: side N, px.
        dtype: real dtype of the result.

    Returns:
        Ramp, zero frequency at the corner, complex, ``(..., N, N)``.
    """
    frequency = torch.fft.fftfreq(size, dtype=torch.float64, device=shift.device)
    angle = -2 * math.pi * shift.double()[..., None] * frequency
    ramp = torch.polar(torch.ones_like(angle), angle)
    ramp = ramp.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return ramp[..., 0, :, None] * ramp[..., 1, None, :]


def in_detector_frame(propagate: Propagator, shift: Tensor) -> Propagator:
    """Return the propagator for exit waves of a shifted probe, ``P(r - d) O(r)``, that keeps the probe on the detector.

    In an experiment the probe stands still and the object moves: the exit wave is ``P(r) O(r + d)``, the same one moved
    back by d. No pattern of the far field shows that difference; one of the near field moves with it. Moving it back is
    a phase ramp in the transfer function: the object is not interpolated, and the shift acts on one side only.

    Args:
        propagate: of the geometry.
        shift: ``(y, x)`` px that the probe was shifted by, ``(..., 2)``.

    Returns:
        The propagator for waves ``(..., M, N, N)``.
    """
    if propagate.transfer is None:
        return propagate
    dtype = propagate.transfer.real.dtype
    return Propagator(
        propagate.transfer * fourier_ramp(shift, propagate.transfer.shape[-1], dtype)[..., None, :, :].conj()
    )


def expected_counts(
    patches: Tensor,
    probe: Tensor,
    background: Tensor | float | None = None,
    propagate: Callable[[Tensor], Tensor] = far_field,
    point_spread: Tensor | None = None,
) -> Tensor:
    """Compute the expected counts of each pattern, ``I = K (sum_m |F[P_m O]|^2) K + background``.

    Modes add as intensities. No scale factor: the probe is in sqrt(photons), the object dimensionless.

    Args:
        patches: the object under each position, ``(..., N, N)``.
        probe: modes, already at the sub-pixel shift of each position, broadcastable to ``(..., M, N, N)``.
        background: counts added to every pattern, broadcastable to ``(..., N, N)``; None adds nothing.
        propagate: from the exit wave to the detector wave; far field, near field or any other.
        point_spread: matrix ``K`` of :func:`~ptychoflow.physics.detector_response.point_spread_matrix`, laid out as
            ``propagate`` leaves patterns; None spreads nothing.

    Returns:
        Counts, ``(..., N, N)``, laid out as ``propagate`` leaves them.
    """
    modes = intensity(propagate(patches[..., None, :, :] * probe))
    counts = modes.squeeze(-3) if modes.shape[-3] == 1 else modes.sum(-3)  # a sum of one would be a copy
    counts = counts if point_spread is None else spread_counts(counts, point_spread)
    return counts if background is None else counts + background


def intensity(wave: Tensor) -> Tensor:
    """Compute the intensity ``|wave|^2``, without the square root that ``abs`` takes.

    Args:
        wave: complex, any shape.

    Returns:
        Intensity, real, the same shape.
    """
    return wave.real.square() + wave.imag.square()


def total_intensity(waves: Tensor) -> Tensor:
    """Compute ``sum_m |wave_m|^2``, in 2/3 of the time that summing :func:`intensity` takes.

    Args:
        waves: modes, ``(..., M, N, N)`` complex.

    Returns:
        Intensity, ``(..., N, N)``.
    """
    parts = torch.view_as_real(waves).square()
    parts = parts.squeeze(-4) if parts.shape[-4] == 1 else parts.sum(-4)
    return parts[..., 0] + parts[..., 1]
