"""Aberrations of a probe: defocus and Zernike polynomials, each with a root mean square of 1 over the unit disc."""

from collections.abc import Callable

import numpy as np

ZERNIKE: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray], int, Callable[[np.ndarray], np.ndarray]]] = {
    "astigmatism": (6, lambda r: r**2, 2, np.cos),
    "astigmatism_45": (6, lambda r: r**2, 2, np.sin),
    "coma_y": (8, lambda r: 3 * r**3 - 2 * r, 1, np.sin),
    "coma_x": (8, lambda r: 3 * r**3 - 2 * r, 1, np.cos),
    "trefoil_y": (8, lambda r: r**3, 3, np.sin),
    "trefoil_x": (8, lambda r: r**3, 3, np.cos),
    "spherical": (5, lambda r: 6 * r**4 - 6 * r**2 + 1, 0, np.cos),
    "secondary_astigmatism": (10, lambda r: 4 * r**4 - 3 * r**2, 2, np.cos),
    "secondary_astigmatism_45": (10, lambda r: 4 * r**4 - 3 * r**2, 2, np.sin),
    "tetrafoil": (10, lambda r: r**4, 4, np.cos),
    "tetrafoil_45": (10, lambda r: r**4, 4, np.sin),
}
"""Square of the norm, radial polynomial, angular order and function: Noll, J. Opt. Soc. Am. 66 (1976) 207, Table I."""


def zernike(name: str, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Compute a Zernike polynomial.

    Args:
        name: a key of :data:`ZERNIKE`.
        y: coordinates in units of the aperture's radius, broadcastable with ``x``.
        x: likewise.

    Returns:
        The polynomial, rms 1 over the aperture.
    """
    square, radial, order, angular = ZERNIKE[name]
    return np.sqrt(square) * radial(np.hypot(y, x)) * angular(order * np.arctan2(y, x))


def phase_waves(defocus: float, aberrations: dict[str, float], y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Compute the phase over an aperture.

    Args:
        defocus: at the edge of the aperture, waves.
        aberrations: by name, waves rms each.
        y: coordinates in units of the aperture's radius, broadcastable with ``x``.
        x: likewise.

    Returns:
        Phase, waves.
    """
    phase = defocus * (y**2 + x**2)
    for name, waves in aberrations.items():
        phase = phase + waves * zernike(name, y, x)
    return phase


def draw(
    defocus: float, defocus_spread: float, aberrations: dict[str, float], spread: float, rng: np.random.Generator
) -> tuple[float, dict[str, float]]:
    """Draw defocus and aberrations of one scan, around the nominal ones.

    Args:
        defocus: nominal, waves.
        defocus_spread: greatest deviation, waves; uniform.
        aberrations: nominal, waves rms.
        spread: random aberrations, waves rms all together; normal.
        rng: random generator; as many numbers are drawn whatever the spreads are.

    Returns:
        Defocus, waves, and aberrations by name, waves rms.
    """
    drawn = defocus + defocus_spread * rng.uniform(-1, 1)
    deviations = spread / np.sqrt(len(ZERNIKE)) * rng.standard_normal(len(ZERNIKE))
    total = {name: aberrations.get(name, 0.0) + deviation for name, deviation in zip(ZERNIKE, deviations)}
    return float(drawn), {name: float(waves) for name, waves in total.items() if waves != 0}
