"""Random textures: noise with a spectrum, and gradient noise."""

import numpy as np
from scipy.ndimage import gaussian_filter


def coloured_noise(shape: tuple[int, int], power: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with the amplitude spectrum ``f^-power``, periodic, ``(H, W)``: 0 is white, 1 is pink."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    frequency[0, 0] = np.inf if power > 0 else 1  # no mean
    return np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * frequency**-power).real


def blurred_noise(shape: tuple[int, int], radius_px: float, rng: np.random.Generator) -> np.ndarray:
    """White noise blurred by a Gaussian of that standard deviation, ``(H, W)``."""
    return gaussian_filter(rng.random(shape), radius_px, mode="wrap")


def perlin_noise(shape: tuple[int, int], finest_px: float, coarsest_px: float, rng: np.random.Generator) -> np.ndarray:
    """Perlin's gradient noise, octaves from wavelength ``coarsest_px`` down to ``finest_px``, each half as strong.

    ``(H, W)``. Perlin, SIGGRAPH (1985 and 2002).
    """
    noise, wavelength, strength = np.zeros(shape), coarsest_px, 1.0
    while wavelength >= finest_px:
        noise += strength * _octave(shape, wavelength, rng)
        wavelength, strength = wavelength / 2, strength / 2
    return noise


def _octave(shape: tuple[int, int], wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """Random gradients on a lattice, each ramp blended into its neighbours'."""
    cells = [int(side / wavelength) + 3 for side in shape]
    angle = 2 * np.pi * rng.random(cells)
    (row, v), (column, u) = (_lattice(side, wavelength, offset) for side, offset in zip(shape, rng.random(2)))

    def ramp(down: int, right: int) -> np.ndarray:
        turn = angle[np.ix_(row + down, column + right)]
        return np.sin(turn) * (v - down)[:, None] + np.cos(turn) * (u - right)

    y, x = _fade(v)[:, None], _fade(u)
    return (1 - y) * ((1 - x) * ramp(0, 0) + x * ramp(0, 1)) + y * ((1 - x) * ramp(1, 0) + x * ramp(1, 1))


def _lattice(side: int, wavelength: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Cell of each pixel along a line, and how far into the cell it lies."""
    place = np.arange(side) / wavelength + offset
    cell = place.astype(int)
    return cell, place - cell


def _fade(t: np.ndarray) -> np.ndarray:
    """From 0 to 1 with no slope and no curvature at the ends."""
    return t**3 * (t * (6 * t - 15) + 10)
