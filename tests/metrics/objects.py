"""Objects to measure on, made on the spot: smooth, asymmetric, well inside the band."""

import numpy as np
from scipy import ndimage

SHAPE = (96, 120)


def sample(seed: int = 0, shape: tuple[int, int] = SHAPE, phase: float = 0.6, blur: float = 1.5) -> np.ndarray:
    """A transmission with features a few pixels wide, periodic, phase spread of about ``phase`` rad, complex128."""
    rng = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(rng.standard_normal(shape), blur, mode="wrap") for _ in range(2)]
    amplitude, angle = (part / part.std() for part in smooth)
    return (0.85 + 0.05 * amplitude) * np.exp(1j * phase * angle)


def ramp(slopes: tuple[float, float], shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """``exp(i k . r)`` for k in rad per px."""
    y, x = np.indices(shape)
    return np.exp(1j * (slopes[0] * y + slopes[1] * x))


def disc(shape: tuple[int, int] = SHAPE, margin: float = 4) -> np.ndarray:
    """An elliptic mask that stays ``margin`` px from the edges."""
    y, x = np.indices(shape)
    half = [(length - 1) / 2 for length in shape]
    return ((y - half[0]) / (half[0] - margin)) ** 2 + ((x - half[1]) / (half[1] - margin)) ** 2 < 1


def fourier_shifted(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """The content moved by ``(y, x)`` px, periodic."""
    return np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(image), shift))
