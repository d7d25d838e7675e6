"""Paths of the beam over the sample: where it should go, and where it goes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config import Trajectory

Area = tuple[np.ndarray, np.ndarray]
"""First and last allowed position ``(y, x)``, px."""


def make_trajectory(
    recipe: Trajectory, shape: tuple[int, int], size: int, diameter_px: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Nominal and true positions ``(y, x)``, px, float64, ``(J, 2)`` each; the same where there are no errors.

    Patches of ``size`` around the true ones lie inside an object of ``shape``, whole exposures of a fly scan too.

    Args:
        recipe: the path.
        shape: height and width of the object, px.
        size: side of a patch, px.
        diameter_px: of the beam, for a step given as an overlap.
        rng: where the numbers come from.

    Raises:
        ValueError: if not one patch fits, or positions from a file lie outside.
    """
    motion = np.array([0, recipe.fly_scan_length_px / 2])
    low, high = size // 2 + motion, np.asarray(shape) - (size - size // 2) - motion
    if (high < low).any():
        raise ValueError(
            f"simulation.object.size is {list(shape)} px, too small for the {size} px of simulation.size"
            f"{' and the motion of fly_scan_length_px' * (recipe.fly_scan_length_px > 0)}: enlarge the object"
        )
    nominal = TRAJECTORIES[recipe.name](recipe, (low, high), _step_px(recipe, diameter_px), rng)
    true = nominal + _errors(recipe, len(nominal), rng)
    return nominal, np.clip(true, low, high)


def raster(recipe: Trajectory, area: Area, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of equal steps, centred in the area."""
    return _grid(*area, step_px)


def jittered_raster(recipe: Trajectory, area: Area, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """A raster whose points are moved at random by at most ``jitter_px`` along each axis: no grid for artefacts."""
    low, high = area
    jitter = min(recipe.jitter_px, (high - low).min() / 2)
    points = _grid(low + jitter, high - jitter, step_px)
    return points + rng.uniform(-jitter, jitter, points.shape)


def fermat(recipe: Trajectory, area: Area, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """A sunflower spiral, one point per ``step_px^2``, cut to the area: Huang et al., Opt. Express 22 (2014) 12634."""
    scale = step_px / np.sqrt(np.pi)
    k = np.arange(int((_reach(area) / scale) ** 2) + 1)
    return _cut(scale * np.sqrt(k), k * np.pi * (3 - np.sqrt(5)), area)


def concentric(recipe: Trajectory, area: Area, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """Rings ``step_px`` apart around the centre, points as far apart along them, cut to the area."""
    rings = np.arange(1, int(_reach(area) / step_px) + 1)
    counts = np.rint(2 * np.pi * rings).astype(int)
    radius = np.concatenate([[0], np.repeat(rings * step_px, counts)])
    angle = np.concatenate([[0], *(2 * np.pi * np.arange(count) / count for count in counts)])
    return _cut(radius, angle, area)


def from_file(recipe: Trajectory, area: Area, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """The positions in ``recipe.file``, in its order."""
    positions = load_positions(Path(recipe.file))
    outside = ((positions < area[0]) | (positions > area[1])).any(1)
    if outside.any():
        low, high = (tuple(float(v) for v in end) for end in area)
        raise ValueError(
            f"simulation.trajectory.file: {outside.sum()} of {len(positions)} positions in {recipe.file} lie outside, "
            f"the first is {tuple(positions[outside][0].tolist())}, expected (y, x) from {low} to {high} px"
        )
    return positions


TRAJECTORIES: dict[str, Callable[[Trajectory, Area, float, np.random.Generator], np.ndarray]] = {
    "raster": raster,
    "jittered_raster": jittered_raster,
    "fermat": fermat,
    "concentric": concentric,
    "file": from_file,
}
"""Paths by their names in the config."""


def load_positions(path: Path) -> np.ndarray:
    """Positions ``(y, x)``, float64, ``(J, 2)``, from an ``.npy`` or a text of two columns.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"simulation.trajectory.file: there is no file {path}")
    try:
        if path.suffix == ".npy":
            positions = np.load(path, allow_pickle=False).astype(np.float64)
        else:
            text = path.read_text().replace(",", " ").replace(";", " ")
            positions = np.array([line.split() for line in text.splitlines() if line.strip()], np.float64)
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"simulation.trajectory.file: {path} holds no two columns of numbers ({error})") from None
    if positions.ndim != 2 or positions.shape[1] != 2 or not len(positions) or not np.isfinite(positions).all():
        raise ValueError(
            f"simulation.trajectory.file: {path} holds an array of shape {positions.shape}, expected two columns of "
            "finite numbers, y and x"
        )
    return positions


def exposure_points(recipe: Trajectory) -> np.ndarray:
    """Where the beam is during an exposure, relative to its middle, px, ``(K, 2)``; one point where it stands still."""
    if recipe.fly_scan_length_px == 0:
        return np.zeros((1, 2))
    count = recipe.fly_scan_samples
    x = recipe.fly_scan_length_px * ((np.arange(count) + 0.5) / count - 0.5)  # the middles of equal stretches of time
    return np.stack([np.zeros(count), x], axis=1)


def _step_px(recipe: Trajectory, diameter_px: float) -> float:
    return recipe.step_px if recipe.overlap_percent is None else diameter_px * (1 - recipe.overlap_percent / 100)


def _errors(recipe: Trajectory, count: int, rng: np.random.Generator) -> np.ndarray:
    """How far each true position is from the nominal one, px, ``(J, 2)``."""
    angle = 2 * np.pi * rng.random()
    drift = recipe.drift_px * np.array([np.sin(angle), np.cos(angle)])
    return recipe.error_px * rng.standard_normal((count, 2)) + np.linspace(-0.5, 0.5, count)[:, None] * drift


def _reach(area: Area) -> float:
    """From the centre of the area to its corners, px."""
    return float(np.hypot(*(area[1] - area[0])) / 2)


def _cut(radius: np.ndarray, angle: np.ndarray, area: Area) -> np.ndarray:
    """The points around the centre of the area that lie in it."""
    low, high = area
    points = (low + high) / 2 + np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    return points[((points >= low) & (points <= high)).all(1)]


def _grid(low: np.ndarray, high: np.ndarray, step_px: float) -> np.ndarray:
    y, x = (_line(*ends, step_px) for ends in zip(low, high))
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def _line(low: float, high: float, step_px: float) -> np.ndarray:
    """Equal steps centred between ``low`` and ``high``."""
    steps = int((high - low) / step_px + 1e-9)
    return (low + high - steps * step_px) / 2 + step_px * np.arange(steps + 1)
