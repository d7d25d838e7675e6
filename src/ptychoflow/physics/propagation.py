"""Propagators from the exit wave behind the sample to the wave on the detector, and the layout of patterns."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def far_field(wave: Tensor) -> Tensor:
    """Propagate to the far field: unitary, centred Fourier transform of the last two axes.

    Args:
        wave: behind the sample, ``(..., N, N)`` complex, its origin at ``[N // 2, N // 2]``.

    Returns:
        Wave on the detector, ``(..., N, N)``, zero frequency at ``[N // 2, N // 2]``.
    """
    return torch.fft.fftshift(far_field_corner(torch.fft.ifftshift(wave, dim=(-2, -1))), dim=(-2, -1))


def far_field_inverse(wave: Tensor) -> Tensor:
    """Propagate back from the far field: inverse and adjoint of :func:`far_field`.

    Args:
        wave: on the detector, ``(..., N, N)`` complex, zero frequency at ``[N // 2, N // 2]``.

    Returns:
        Wave behind the sample, ``(..., N, N)``.
    """
    return torch.fft.fftshift(far_field_corner_inverse(torch.fft.ifftshift(wave, dim=(-2, -1))), dim=(-2, -1))


def far_field_corner(wave: Tensor) -> Tensor:
    """Propagate to the far field in corner layout, for inner loops on patterns that :func:`to_corner` shifted once.

    The same intensities as :func:`far_field` after ``ifftshift``, without the copies of two shifts.

    Args:
        wave: behind the sample, ``(..., N, N)`` complex.

    Returns:
        Wave on the detector, ``(..., N, N)``, zero frequency at ``[0, 0]``.
    """
    return torch.fft.fft2(wave, norm="ortho") if wave.numel() else wave  # libraries refuse no waves (PyTorch 174984)


def far_field_corner_inverse(wave: Tensor) -> Tensor:
    """Propagate back from the far field in corner layout: inverse and adjoint of :func:`far_field_corner`.

    Args:
        wave: on the detector, ``(..., N, N)`` complex, zero frequency at ``[0, 0]``.

    Returns:
        Wave behind the sample, ``(..., N, N)``.
    """
    return torch.fft.ifft2(wave, norm="ortho") if wave.numel() else wave


def to_corner(patterns: Tensor) -> Tensor:
    """Move the zero frequency of patterns from the centre to the corner, as ``ifftshift`` does, in one pass.

    Args:
        patterns: counts or masks of any real dtype, ``(..., N, N)``, zero frequency at ``[N // 2, N // 2]``.

    Returns:
        Patterns in float32, ``(..., N, N)``, zero frequency at ``[0, 0]``.
    """
    half = patterns.shape[-1] // 2
    far = patterns.shape[-1] - half
    corner = torch.empty(patterns.shape, dtype=torch.float32, device=patterns.device)
    corner[..., :far, :far], corner[..., :far, far:] = patterns[..., half:, half:], patterns[..., half:, :half]
    corner[..., far:, :far], corner[..., far:, far:] = patterns[..., :half, half:], patterns[..., :half, :half]
    return corner


def near_field(size: int, pixel_size_m: float, wavelength_m: float, distance_m: float) -> Callable[[Tensor], Tensor]:
    """Make the propagator over a finite distance by the angular spectrum, to a detector with the pixels of the sample.

    Exact for the scalar wave equation on the periodic grid; no paraxial approximation. Evanescent waves are dropped, so
    it is unitary where a pixel is at least 0.71 wavelengths. A negative distance propagates back: the inverse and
    adjoint. Goodman, Introduction to Fourier Optics, eq. 3-74.

    Args:
        size: side N of the wave, px.
        pixel_size_m: side of a pixel, m.
        wavelength_m: wavelength, m.
        distance_m: propagation distance, m, either sign.

    Returns:
        A function of waves ``(..., N, N)``, on any device and in either precision.

    Raises:
        ValueError: if the distance is too long for the grid: beyond ``size pixel^2 / wavelength`` the wave would leave
            on one side and come in on the other.
    """
    longest_m = size * pixel_size_m**2 / wavelength_m
    if not abs(distance_m) <= longest_m:
        raise ValueError(
            f"the distance is {distance_m:.4g} m, but {size} pixels of {pixel_size_m:.4g} m carry the angular spectrum "
            f"over at most {longest_m:.4g} m: use more or larger pixels, or the far field"
        )
    frequency = torch.fft.fftfreq(size, d=pixel_size_m, dtype=torch.float64)
    # square of the wave vector along the beam, 1/m^2
    along = wavelength_m**-2 - frequency[:, None].square() - frequency.square()
    phase = 2 * math.pi * distance_m * (along.clamp_min(0).sqrt() - 1 / wavelength_m)  # relative to a plane wave
    kernel = torch.polar((along >= 0).double(), phase)

    def propagate(wave: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(wave) * kernel.to(wave))

    return propagate
