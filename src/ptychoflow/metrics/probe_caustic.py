"""The caustic of a probe: its intensity along the beam, and where it is narrowest."""

from dataclasses import dataclass

import numpy as np

STEPS = 161


@dataclass(frozen=True)
class Caustic:
    """Intensity of a probe in planes before and behind the sample.

    Attributes:
        distances_m: of the planes from the sample, downstream positive, ``(Z,)``.
        x: intensity along x through the brightest row of each plane, ``(Z, N)``.
        y: intensity along y through the brightest column, ``(Z, N)``.
        focus_m: distance of the plane where the beam is narrowest.
    """

    distances_m: np.ndarray
    x: np.ndarray
    y: np.ndarray
    focus_m: float


def probe_caustic(probe: np.ndarray, pixel_size_m: float, wavelength_m: float) -> Caustic:
    """Propagate a probe along the beam by its angular spectrum (Fresnel transfer function).

    Planes reach as far as the transfer function is sampled well, ``N p^2 / wavelength``.

    Args:
        probe: one mode in the plane of the sample, complex, ``(N, N)``.
        pixel_size_m: of the probe, p.
        wavelength_m: of the beam.
    """
    size = probe.shape[-1]
    reach = size * pixel_size_m**2 / wavelength_m
    distances = np.linspace(-reach, reach, STEPS)
    frequency = np.fft.fftfreq(size, pixel_size_m)
    squares = frequency[:, None] ** 2 + frequency**2
    spectrum = np.fft.fft2(probe)
    lines_x, lines_y, sharpness = np.empty((STEPS, size)), np.empty((STEPS, size)), np.empty(STEPS)
    for plane, distance in enumerate(distances):
        wave = np.fft.ifft2(spectrum * np.exp(-1j * np.pi * wavelength_m * distance * squares))
        intensity = np.abs(wave) ** 2
        row, column = np.unravel_index(np.argmax(intensity), intensity.shape)
        lines_x[plane], lines_y[plane] = intensity[row], intensity[:, column]
        # the sum of squares is largest where the same photons are on the fewest pixels
        sharpness[plane] = np.sum(intensity**2)
    return Caustic(distances, lines_x, lines_y, float(distances[np.argmax(sharpness)]))
