"""Propagators from the exit wave behind the sample to the wave on the detector, and the layout of patterns."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.scan import Geometry


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
    adjoint, see :func:`angular_spectrum`.

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
    longest_m = longest_distance_m(size, pixel_size_m, wavelength_m)
    if not abs(distance_m) <= longest_m:
        raise ValueError(
            f"the distance is {distance_m:.4g} m, but {size} pixels of {pixel_size_m:.4g} m carry the angular spectrum "
            f"over at most {longest_m:.4g} m: use more or larger pixels, or the far field"
        )
    transfer = angular_spectrum(size, pixel_size_m, wavelength_m, distance_m)

    def propagate(wave: Tensor) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(wave) * transfer.to(wave))

    return propagate


def longest_distance_m(size: int, pixel_size_m: float, wavelength_m: float) -> float:
    """Compute the distance up to which a periodic grid carries every frequency, near ``N pixel^2 / wavelength``, m."""
    sine = wavelength_m / (2 * pixel_size_m)  # of the angle of the highest frequency, which crosses half the grid
    return size * pixel_size_m**2 / wavelength_m * math.sqrt(max(0.0, 1 - sine**2))


def angular_spectrum(size: int, pixel_size_m: float, wavelength_m: float, distance_m: float) -> Tensor:
    """Compute the band-limited transfer function of free space, relative to a plane wave along the beam.

    ``H(q) = exp(2 pi i z (sqrt(1/lambda^2 - q^2) - 1/lambda))``; Goodman, Introduction to Fourier Optics, eq. 3-74.
    It is 0 for evanescent waves, and for frequencies that would cross half the grid on the way and come in again on the
    other side: Matsushima and Shimobaba 2009, Opt. Express 17, 19662, eq. 13. The second limit acts beyond
    :func:`longest_distance_m` only; up to there, with pixels of at least 0.71 wavelengths, ``|H| = 1`` everywhere.

    Args:
        size: side N of the wave, px.
        pixel_size_m: side of a pixel, m.
        wavelength_m: wavelength, m.
        distance_m: propagation distance, m, either sign; its negative has the conjugate transfer function.

    Returns:
        Transfer function, zero frequency at ``[0, 0]``, complex128, ``(N, N)``.
    """
    frequency = torch.fft.fftfreq(size, d=pixel_size_m, dtype=torch.float64)
    # square of the wave vector along the beam, 1/m^2
    along = wavelength_m**-2 - frequency[:, None].square() - frequency.square()
    phase = 2 * math.pi * distance_m * (along.clamp_min(0).sqrt() - 1 / wavelength_m)
    highest = 1 / (wavelength_m * math.hypot(1, 2 * distance_m / (size * pixel_size_m)))
    inside = frequency.abs() <= highest * (1 + 1e-9)
    return torch.polar(((along >= 0) & inside[:, None] & inside).double(), phase)


@dataclass(frozen=True)
class Propagator:
    """Pair of propagator to the detector and its adjoint, on patterns in the layout of :func:`to_corner`.

    Attributes:
        transfer: transfer function of the free space to a near-field detector, which also moves its pixel
            ``[N // 2, N // 2]`` to the corner, ``(..., N, N)``; None is the far field.
    """

    transfer: Tensor | None = None

    def __call__(self, wave: Tensor) -> Tensor:
        """Propagate to the detector.

        Args:
            wave: behind the sample, ``(..., N, N)`` complex.

        Returns:
            Wave on the detector, ``(..., N, N)``, corner layout.
        """
        return far_field_corner(wave) if self.transfer is None else _filter(wave, self.transfer)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.complex64) -> "Propagator":
        """Return the propagator on a device, for waves of that precision."""
        return self if self.transfer is None else Propagator(self.transfer.to(device, dtype))

    def members(self, chosen: slice) -> "Propagator":
        """Return the propagator for some members of each group, of transfer functions ``(B, C, 1, N, N)``."""
        return self if self.transfer is None else Propagator(self.transfer[:, chosen])

    def adjoint(self, wave: Tensor) -> Tensor:
        """Propagate back from the detector: the adjoint, and the inverse within the band limit.

        Args:
            wave: on the detector, ``(..., N, N)`` complex, corner layout.

        Returns:
            Wave behind the sample, ``(..., N, N)``.
        """
        return far_field_corner_inverse(wave) if self.transfer is None else _filter(wave, self.transfer.conj())


FAR_FIELD = Propagator()
"""The propagator to the far field."""


def near_field_propagator(size: int, pixel_size_m: float, wavelength_m: float, distance_m: float) -> Propagator:
    """Make the propagator to a near-field detector with the pixels of the sample, in corner layout.

    Its spectrum times ``exp(2 pi i q . (N // 2) pixel)`` is a wave moved by ``N // 2`` whole pixels, exactly, so that
    patterns of the near and of the far field have one layout, and all that works on patterns serves both.

    Args:
        size: side N of the wave, px.
        pixel_size_m: side of a pixel at the sample, m.
        wavelength_m: wavelength, m.
        distance_m: propagation distance in a parallel beam, m.

    Returns:
        The propagator; in a cone beam both pixel and distance are the effective ones.
    """
    order = torch.fft.fftfreq(size, d=1 / size, dtype=torch.float64).round()
    angle = 2 * math.pi / size * (order * (size // 2)).remainder(size)
    ramp = torch.polar(torch.ones_like(angle), angle)
    transfer = angular_spectrum(size, pixel_size_m, wavelength_m, distance_m)
    return Propagator(transfer * ramp[:, None] * ramp)


def propagator_of(geometry: Geometry, size: int) -> Propagator:
    """Make the propagator of a geometry for patterns of ``size`` px.

    The Fresnel scaling theorem: a cone beam makes the pattern of a parallel beam over the effective distance,
    magnified; the probe is the wave at the sample without the curvature of the cone.
    """
    if not geometry.near_field:
        return FAR_FIELD
    return near_field_propagator(size, geometry.pixel_size_m, geometry.wavelength_m, geometry.effective_distance_m)


def _filter(wave: Tensor, transfer: Tensor) -> Tensor:
    """Multiply the spectrum of a wave with a transfer function."""
    return torch.fft.ifft2(torch.fft.fft2(wave) * transfer.to(wave)) if wave.numel() else wave
