"""Propagators: functions from the wave behind the sample to the wave on the detector."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def far_field(wave: Tensor) -> Tensor:
    """The wave in the far field: unitary, centred Fourier transform of the last two axes.

    Zero frequency lies at ``[N // 2, N // 2]``, the origin of ``wave`` too.
    """
    return torch.fft.fftshift(far_field_corner(torch.fft.ifftshift(wave, dim=(-2, -1))), dim=(-2, -1))


def far_field_inverse(wave: Tensor) -> Tensor:
    """The wave behind the sample whose :func:`far_field` is ``wave``; also the adjoint."""
    return torch.fft.fftshift(far_field_corner_inverse(torch.fft.ifftshift(wave, dim=(-2, -1))), dim=(-2, -1))


def far_field_corner(wave: Tensor) -> Tensor:
    """The far field with zero frequency at ``[0, 0]``: what inner loops use, on counts shifted once beforehand.

    The same intensities as :func:`far_field` after ``ifftshift``, without the copies of two shifts.
    """
    return torch.fft.fft2(wave, norm="ortho") if wave.numel() else wave  # libraries refuse no waves (PyTorch 174984)


def far_field_corner_inverse(wave: Tensor) -> Tensor:
    """The inverse and adjoint of :func:`far_field_corner`."""
    return torch.fft.ifft2(wave, norm="ortho") if wave.numel() else wave


def near_field(size: int, pixel_size_m: float, wavelength_m: float, distance_m: float) -> Callable[[Tensor], Tensor]:
    """A propagator over a finite distance, by the angular spectrum: to a detector with the pixels of the sample.

    Exact for the scalar wave equation on the periodic grid; no paraxial approximation. Waves that decay with distance
    are dropped, so it is unitary where a pixel is at least 0.71 wavelengths. A negative distance propagates back: the
    inverse and adjoint. Goodman, Introduction to Fourier Optics, eq. 3-74.

    Args:
        size: side of the wave, px.
        pixel_size_m: side of a pixel, m.
        wavelength_m: m.
        distance_m: m, either sign.

    Returns:
        A function of waves ``(..., size, size)``, on any device and in either precision.

    Raises:
        ValueError: if the distance is too long for the grid: beyond ``size pixel^2 / wavelength`` light would leave
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
