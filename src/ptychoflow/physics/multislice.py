"""Multislice: the wave through the slices of a thick sample, its exact adjoint, and the slices as one thin sample.

Maiden, Humphry and Rodenburg 2012, J. Opt. Soc. Am. A 29, 1606. The wave behind slice s is ``psi_s = P_s O_s``, that on
the next slice ``P_(s+1) = Prop_dz psi_s``. The probe is the wave on the first slice, and the wave behind the last slice
goes to the detector. Slices are cut at whole pixels like a thin object: the probe carries the sub-pixel shift.
"""

import torch
from torch import Tensor

from .propagation import angular_spectrum, longest_distance_m


def slice_transfer(size: int, pixel_size_m: float, wavelength_m: float, distance_m: float, gaps: int = 1) -> Tensor:
    """Compute the transfer function of the vacuum between slices, which a spectrum is multiplied with.

    Args:
        size: side N of the wave, px.
        pixel_size_m: side of a pixel, m.
        wavelength_m: wavelength, m.
        distance_m: distance between slices, m.
        gaps: number of such distances, negative back to the source.

    Returns:
        Transfer function, zero frequency at the corner, complex128, ``(N, N)``.

    Raises:
        ValueError: if the distance is too long for the grid.
    """
    longest_m = longest_distance_m(size, pixel_size_m, wavelength_m)
    if abs(distance_m) > longest_m:
        raise ValueError(
            f"slices are {distance_m:.4g} m apart, but {size} pixels of {pixel_size_m:.4g} m carry a wave over at most "
            f"{longest_m:.4g} m: use more slices, or check the unit of slice_spacing_m"
        )
    transfer = angular_spectrum(size, pixel_size_m, wavelength_m, distance_m)
    return transfer.pow(gaps) if gaps >= 0 else transfer.conj().resolve_conj().pow(-gaps)


def propagate_slice(wave: Tensor, transfer: Tensor) -> Tensor:
    """Propagate a wave to the next slice; with the conjugate transfer function the adjoint, back to the one before.

    Args:
        wave: complex, ``(..., N, N)``.
        transfer: as :func:`slice_transfer` returns it, ``(N, N)``.

    Returns:
        Wave, ``(..., N, N)``.
    """
    return torch.fft.ifft2(torch.fft.fft2(wave).mul_(transfer)) if wave.numel() else wave


def transmit(probes: Tensor, windows: Tensor, transfer: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the waves on each slice and behind the last.

    Args:
        probes: modes on the first slice, at the sub-pixel shift of each pattern, ``(b, M, N, N)``.
        windows: each slice under each pattern, ``(S, b, N, N)``.
        transfer: of the vacuum between two slices, ``(N, N)``.

    Returns:
        Incident waves ``P_s``, ``(S, b, M, N, N)``, and exit waves, ``(b, M, N, N)``.
    """
    if len(windows) == 1:
        return probes[None], windows[0][:, None] * probes
    incident = probes.new_empty(len(windows), *probes.shape)
    incident[0] = probes
    for number, window in enumerate(windows[:-1]):
        incident[number + 1] = propagate_slice(window[:, None] * incident[number], transfer)
    return incident, windows[-1][:, None] * incident[-1]


def step_back(exit_wave_updates: Tensor, window: Tensor, transfer: Tensor) -> Tensor:
    """Take updates of the wave behind a slice back to behind the slice before: the adjoint of the step forward.

    Args:
        exit_wave_updates: behind slice s, ``(b, M, N, N)``.
        window: slice s under each pattern, ``(b, N, N)``.
        transfer: as in :func:`transmit`, ``(N, N)``.

    Returns:
        Updates behind slice ``s - 1``, ``(b, M, N, N)``.
    """
    return propagate_slice(window.conj()[:, None] * exit_wave_updates, transfer.conj())


def projection(slices: Tensor) -> Tensor:
    """Compute the transmission of a sample as thin as one slice, the product of all, ``(H, W)`` from ``(S, H, W)``."""
    return slices[0].clone() if len(slices) == 1 else slices.prod(0)
