"""Random textures of objects: noise with a power-law spectrum, and gradient noise."""

import numpy as np
from scipy.ndimage import gaussian_filter


def coloured_noise(shape: tuple[int, int], exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Draw Gaussian noise with the amplitude spectrum ``f^-exponent``, periodic: 0 is white, 1 is pink.

    Args:
        shape: height and width, px.
        exponent: of the spectrum.
        rng: random generator.

    Returns:
        Image, ``(H, W)``.
    """
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    frequency[0, 0] = np.inf if exponent > 0 else 1  # no mean
    return np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * frequency**-exponent).real


def blurred_noise(shape: tuple[int, int], radius_px: float, rng: np.random.Generator) -> np.ndarray:
    """Draw white noise blurred by a Gaussian.

    Args:
        shape: height and width, px.
        radius_px: standard deviation of the Gaussian, px.
        rng: random generator.

    Returns:
        Image, ``(H, W)``.
    """
    return gaussian_filter(rng.random(shape), radius_px, mode="wrap")


def perlin_noise(shape: tuple[int, int], finest_px: float, coarsest_px: float, rng: np.random.Generator) -> np.ndarray:
    """Draw Perlin's gradient noise, each octave half as strong as the one before. Perlin, SIGGRAPH (1985 and 2002).

    Args:
        shape: height and width, px.
        finest_px: wavelength of the last octave at least, px.
        coarsest_px: wavelength of the first octave, px.
        rng: random generator.

    Returns:
        Image, ``(H, W)``.
    """
    noise, wavelength, strength = np.zeros(shape), coarsest_px, 1.0
    while wavelength >= finest_px:
        noise += strength * _octave(shape, wavelength, rng)
        wavelength, strength = wavelength / 2, strength / 2
    return noise


def _octave(shape: tuple[int, int], wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Draw one octave: random gradients on a lattice, each ramp blended into its neighbours'."""
    cells = [int(side / wavelength) + 3 for side in shape]
    angle = 2 * np.pi * rng.random(cells)
    (row, v), (column, u) = (_lattice(side, wavelength, offset) for side, offset in zip(shape, rng.random(2)))

    def ramp(down: int, right: int) -> np.ndarray:
        direction = angle[np.ix_(row + down, column + right)]
        return np.sin(direction) * (v - down)[:, None] + np.cos(direction) * (u - right)

    y, x = _fade(v)[:, None], _fade(u)
    return (1 - y) * ((1 - x) * ramp(0, 0) + x * ramp(0, 1)) + y * ((1 - x) * ramp(1, 0) + x * ramp(1, 1))


def _lattice(side: int, wavelength: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of each pixel along a line, and its position within the cell, 0 to 1."""
    position = np.arange(side) / wavelength + offset
    cell = position.astype(int)
    return cell, position - cell


def _fade(t: np.ndarray) -> np.ndarray:
    """Blend from 0 to 1 with no slope and no curvature at the ends."""
    return t**3 * (t * (6 * t - 15) + 10)
