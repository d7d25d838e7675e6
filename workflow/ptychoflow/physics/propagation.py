"""Propagators: functions from the wave behind the sample to the wave on the detector."""

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
    return torch.fft.fft2(wave, norm="ortho")


def far_field_corner_inverse(wave: Tensor) -> Tensor:
    """The inverse and adjoint of :func:`far_field_corner`."""
    return torch.fft.ifft2(wave, norm="ortho")
