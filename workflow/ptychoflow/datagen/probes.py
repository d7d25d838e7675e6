"""Beams to simulate: each a recipe for the wave at the sample, scaled to a number of photons."""

from collections.abc import Callable

import numpy as np

from ..config import ProbeRecipe


def make_probe(recipe: ProbeRecipe, size: int, photons: float) -> np.ndarray:
    """The probe in sqrt(photons), complex64, ``(1, size, size)``; ``sum(abs(probe)**2)`` is ``photons``."""
    return scale_to_photons(PROBES[recipe.name](recipe, size)[None], photons)


def scale_to_photons(probe: np.ndarray, photons: float) -> np.ndarray:
    """The same probe, ``(M, N, N)``, carrying ``photons`` in all modes together, complex64."""
    probe = probe.astype(np.complex128)
    return (probe * np.sqrt(photons / np.sum(np.abs(probe) ** 2))).astype(np.complex64)


def zone_plate(recipe: ProbeRecipe, size: int) -> np.ndarray:
    """The beam of a Fresnel zone plate with a central stop, out of focus: a curved ring with faint fringes.

    The lens' pupil in the far field carries the phase of defocus ``W`` waves at its edge, so the ring of light has the
    diameter ``4 W / pupil radius``: diameter and defocus choose the pupil.
    """
    frequency = np.fft.fftfreq(size)
    q = np.hypot(frequency[:, None], frequency)
    edge = 4 * abs(recipe.defocus) / recipe.diameter_px  # cycles/px
    if not 2 / size < edge < 0.5:
        low, high = recipe.diameter_px / (2 * size), recipe.diameter_px / 8
        raise ValueError(
            f"simulation.probe.defocus is {recipe.defocus} waves: a spot of {recipe.diameter_px} px in patterns of "
            f"{size} px takes {low:.2g} to {high:.2g}"
        )
    softness = 0.5 / size
    pupil = _step((edge - q) / softness) * _step((q - 0.35 * edge) / softness)
    wave = pupil * np.exp(2j * np.pi * recipe.defocus * (q / edge) ** 2)
    return np.fft.fftshift(np.fft.ifft2(wave))


def disc(recipe: ProbeRecipe, size: int) -> np.ndarray:
    """A soft-edged pinhole just before the sample, with the curvature of ``defocus`` waves at its edge."""
    radius = _radius(size) / (recipe.diameter_px / 2)
    return _step((1 - radius) * recipe.diameter_px / 2) * np.exp(2j * np.pi * recipe.defocus * radius**2)


def gaussian(recipe: ProbeRecipe, size: int) -> np.ndarray:
    """A Gaussian beam whose intensity has fallen by ``e^-2`` at ``diameter_px``, curved by ``defocus`` waves there."""
    radius = _radius(size) / (recipe.diameter_px / 2)
    return np.exp(-(radius**2)) * np.exp(2j * np.pi * recipe.defocus * radius**2)


PROBES: dict[str, Callable[[ProbeRecipe, int], np.ndarray]] = {
    "zone_plate": zone_plate,
    "disc": disc,
    "gaussian": gaussian,
}
"""Recipes by their names in the config."""


def _radius(size: int) -> np.ndarray:
    """Distance from the centre ``size // 2``, px."""
    axis = np.arange(size) - size // 2
    return np.hypot(axis[:, None], axis)


def _step(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 around 0, soft over about one unit."""
    return 1 / (1 + np.exp(-np.clip(2 * x, -50, 50)))
