"""Initial probe of a measurement without one, from aperture and defocus or from the mean pattern."""

import math

import numpy as np

from ..core.scan import Geometry

AXES = (-2, -1)
GUESS = "guess"
"""``probe_source`` in the metadata of a scan whose probe was guessed from its patterns."""


def guess_probe(
    mean: np.ndarray,
    geometry: Geometry,
    defocus_m: float | None = None,
    aperture_rad: float | None = None,
    central_stop: float = 0.0,
) -> np.ndarray:
    """Compute a beam that fills its aperture, ``defocus_m`` from its focus, in sqrt(photons).

    Args:
        mean: mean pattern, ``(N, N)``, counts: the intensity of the aperture, unless ``aperture_rad`` is given.
        geometry: pixel size and wavelength.
        defocus_m: from focus to sample along the beam, m; None for a sample in focus.
        aperture_rad: half angle of the beam, rad. The near field needs neither.
        central_stop: diameter of a central stop as a fraction of that of the aperture.

    Returns:
        One mode, complex64, ``(1, N, N)``.
    """
    if geometry.near_field:
        return _near_field_guess(mean, geometry)
    size = len(mean)
    frequency = np.fft.fftshift(np.fft.fftfreq(size, geometry.pixel_size_m))
    squared = frequency[:, None] ** 2 + frequency**2
    amplitude = np.sqrt(mean)
    if aperture_rad is not None:
        edge = np.sin(aperture_rad) / geometry.wavelength_m
        pixel = frequency[1] - frequency[0]
        amplitude = np.clip((edge - np.sqrt(squared)) / pixel + 0.5, 0, 1)
        amplitude -= np.clip((central_stop * edge - np.sqrt(squared)) / pixel + 0.5, 0, 1) if central_stop else 0
    # ASSUME paraxial waves: free space turns a plane wave of spatial frequency q by -pi wavelength distance q^2
    wave = amplitude * np.exp(-1j * np.pi * geometry.wavelength_m * (defocus_m or 0.0) * squared)
    probe = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(wave), norm="ortho"))
    return in_photons(probe[None], float(mean.sum()))


def _near_field_guess(mean: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the amplitude of the mean pattern, propagated back to the sample, ``(1, N, N)``.

    ASSUME the wave on the detector has the curvature of the cone beam alone, which effective lengths leave out.
    """
    # here, since a far-field scan needs no torch
    import torch

    from ..physics.propagation import propagator_of, to_corner

    wave = to_corner(torch.from_numpy(np.sqrt(mean)[None])).to(torch.complex64)
    probe = propagator_of(geometry, len(mean)).adjoint(wave)
    return in_photons(probe.numpy(), float(mean.sum()))


def in_photons(probe: np.ndarray, photons: float) -> np.ndarray:
    """Scale a probe of any unit to sqrt(photons).

    Args:
        probe: modes, ``(M, N, N)``.
        photons: mean counts per pattern.
    """
    # ASSUME the sample absorbs little: the beam carries what a pattern counts on average
    intensity = float(np.sum(np.abs(probe) ** 2, dtype=np.float64))
    return (probe * np.sqrt(photons / intensity if intensity > 0 else 0)).astype(np.complex64)


def mask_probe(probe: np.ndarray, diameter_px: float) -> np.ndarray:
    """Multiply a probe with a disc around its centre ``N // 2`` whose edge is Gaussian, of 1 px.

    Args:
        probe: modes, ``(M, N, N)``.
        diameter_px: of the disc, at which it has fallen to a half.

    Raises:
        ValueError: if nothing of the probe is left.
    """
    axis = np.arange(probe.shape[-1]) - probe.shape[-1] // 2
    radius = np.hypot(axis[:, None], axis)
    masked = (probe * (0.5 * np.vectorize(math.erfc)((radius - diameter_px / 2) / math.sqrt(2)))).astype(probe.dtype)
    if np.abs(masked).max() < 1e-6 * np.abs(probe).max():
        raise ValueError(f"nothing of the probe lies within packing.probe_mask_px {diameter_px:g}: raise it")
    return masked
