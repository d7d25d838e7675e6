"""Paths of the beam over the sample."""

from collections.abc import Callable

import numpy as np

from ..config import Trajectory

Area = tuple[np.ndarray, np.ndarray]
"""First and last allowed position ``(y, x)``, px."""


def make_trajectory(recipe: Trajectory, shape: tuple[int, int], size: int, rng: np.random.Generator) -> np.ndarray:
    """Positions ``(y, x)``, px, float64, ``(J, 2)``: patches of ``size`` around them lie inside an object of ``shape``.

    Raises:
        ValueError: if not one patch fits.
    """
    low = np.full(2, size // 2, float)
    high = np.asarray(shape, float) - (size - size // 2)
    if (high < low).any():
        raise ValueError(
            f"simulation.object.size is {min(shape)} px, smaller than simulation.size, the probe's {size} px: enlarge it"
        )
    return TRAJECTORIES[recipe.name](recipe, (low, high), rng)


def raster(recipe: Trajectory, area: Area, rng: np.random.Generator) -> np.ndarray:
    """Rows of equal steps, centred in the area."""
    low, high = area
    return _grid(low, high, recipe.step_px)


def jittered_raster(recipe: Trajectory, area: Area, rng: np.random.Generator) -> np.ndarray:
    """A raster whose points are moved at random by at most ``jitter_px`` along each axis: no grid for artefacts."""
    low, high = area
    jitter = min(recipe.jitter_px, (high - low).min() / 2)
    points = _grid(low + jitter, high - jitter, recipe.step_px)
    return points + rng.uniform(-jitter, jitter, points.shape)


def fermat(recipe: Trajectory, area: Area, rng: np.random.Generator) -> np.ndarray:
    """A sunflower spiral, one point per ``step_px^2``, cut to the area: Huang et al., Opt. Express 22 (2014) 12634."""
    low, high = area
    scale = recipe.step_px / np.sqrt(np.pi)
    count = int((np.hypot(*(high - low)) / 2 / scale) ** 2) + 1
    k = np.arange(count)
    angle, radius = k * np.pi * (3 - np.sqrt(5)), scale * np.sqrt(k)
    points = (low + high) / 2 + np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    return points[((points >= low) & (points <= high)).all(1)]


TRAJECTORIES: dict[str, Callable[[Trajectory, Area, np.random.Generator], np.ndarray]] = {
    "raster": raster,
    "jittered_raster": jittered_raster,
    "fermat": fermat,
}
"""Paths by their names in the config."""


def _grid(low: np.ndarray, high: np.ndarray, step: float) -> np.ndarray:
    y, x = (_line(*ends, step) for ends in zip(low, high))
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def _line(low: float, high: float, step: float) -> np.ndarray:
    """Equal steps centred between ``low`` and ``high``."""
    steps = int((high - low) / step + 1e-9)
    return (low + high - steps * step) / 2 + step * np.arange(steps + 1)
