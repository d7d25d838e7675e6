"""A probe to start from where a measurement brings none: aperture and defocus, or the mean pattern."""

import numpy as np

from ..core.scan import Geometry

AXES = (-2, -1)


def guess_probe(
    mean: np.ndarray, geometry: Geometry, defocus_m: float | None = None, aperture_rad: float | None = None
) -> np.ndarray:
    """A beam that fills its aperture, ``defocus_m`` from its focus, in sqrt(photons).

    Args:
        mean: the mean pattern, ``(N, N)``: how bright the aperture is, where ``aperture_rad`` does not tell its edge.
        geometry: lengths.
        defocus_m: from focus to sample along the beam, m; in focus without it.
        aperture_rad: half angle of the beam, rad.

    Returns:
        One mode, complex64, ``(1, N, N)``.
    """
    size = len(mean)
    frequency = np.fft.fftshift(np.fft.fftfreq(size, geometry.pixel_size_m))
    squared = frequency[:, None] ** 2 + frequency**2
    amplitude = np.sqrt(mean)
    if aperture_rad is not None:
        edge = np.sin(aperture_rad) / geometry.wavelength_m
        pixel = frequency[1] - frequency[0]
        amplitude = np.clip((edge - np.sqrt(squared)) / pixel + 0.5, 0, 1)
    # ASSUME paraxial waves: free space turns a plane wave of spatial frequency q by -pi wavelength distance q^2
    wave = amplitude * np.exp(-1j * np.pi * geometry.wavelength_m * (defocus_m or 0.0) * squared)
    probe = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(wave), norm="ortho"))
    return in_photons(probe[None], float(mean.sum()))


def in_photons(probe: np.ndarray, photons: float) -> np.ndarray:
    """The probe scaled to sqrt(photons)."""
    # ASSUME the sample absorbs little: the beam carries what a pattern counts on average
    light = float(np.sum(np.abs(probe) ** 2, dtype=np.float64))
    return (probe * np.sqrt(photons / light if light > 0 else 0)).astype(np.complex64)
