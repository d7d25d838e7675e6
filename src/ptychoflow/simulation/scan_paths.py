"""Scan paths: nominal and true positions of the beam on the sample."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config import Trajectory
from ..io.npz_archive import open_npy
from ..io.regular_file import check_regular, read_text

Area = tuple[np.ndarray, np.ndarray]
"""First and last allowed position ``(y, x)``, px."""


def make_trajectory(
    recipe: Trajectory, shape: tuple[int, int], size: int, diameter_px: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Make the nominal and the true positions of a scan; the same where the path has no errors.

    Patches of ``size`` around the true ones lie inside an object of ``shape``, whole exposures of a fly scan too.

    Args:
        recipe: path, step, position errors.
        shape: height and width of the object, px.
        size: side of a patch, px.
        diameter_px: of the beam, for a step given as an overlap.
        rng: random generator.

    Returns:
        Nominal and true positions ``(y, x)``, px, float64, ``(J, 2)`` each.

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
    """Make a raster: rows of equal steps, centred in the area, ``(J, 2)`` px."""
    return _grid(*area, step_px)


def jittered_raster(recipe: Trajectory, area: Area, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """Make a raster with points moved at random by at most ``jitter_px`` along each axis, against raster artefacts."""
    low, high = area
    jitter = min(recipe.jitter_px, (high - low).min() / 2)
    points = _grid(low + jitter, high - jitter, step_px)
    return points + rng.uniform(-jitter, jitter, points.shape)


def fermat(recipe: Trajectory, area: Area, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """Make a Fermat spiral, one point per ``step_px^2``, cut to the area (Huang 2014, Opt. Express 22, 12634)."""
    scale = step_px / np.sqrt(np.pi)
    k = np.arange(int((_reach(area) / scale) ** 2) + 1)
    return _cut(scale * np.sqrt(k), k * np.pi * (3 - np.sqrt(5)), area)


def concentric(recipe: Trajectory, area: Area, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """Make rings ``step_px`` apart around the centre, points as far apart along them, cut to the area."""
    rings = np.arange(1, int(_reach(area) / step_px) + 1)
    counts = np.rint(2 * np.pi * rings).astype(int)
    radius = np.concatenate([[0], np.repeat(rings * step_px, counts)])
    angle = np.concatenate([[0], *(2 * np.pi * np.arange(count) / count for count in counts)])
    return _cut(radius, angle, area)


def from_file(recipe: Trajectory, area: Area, step_px: float, rng: np.random.Generator) -> np.ndarray:
    """Read the positions in ``recipe.file``, in its order.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it holds no positions, or some lie outside the area.
    """
    positions = load_positions(Path(str(recipe.file)))
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
    """Read positions from an ``.npy`` file or a text of two columns.

    Args:
        path: the file.

    Returns:
        Positions ``(y, x)``, px, float64, ``(J, 2)``.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it holds anything else.
    """
    check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"simulation.trajectory.file: file not found: {path}")
    try:
        if path.suffix == ".npy":
            positions = open_npy(path).astype(np.float64)
        else:
            text = read_text(path).replace(",", " ").replace(";", " ")
            positions = np.array([line.split() for line in text.splitlines() if line.strip()], np.float64)
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"simulation.trajectory.file: expected two columns of numbers in {path} ({error})") from None
    if positions.ndim != 2 or positions.shape[1] != 2 or not len(positions) or not np.isfinite(positions).all():
        raise ValueError(
            f"simulation.trajectory.file: {path} holds an array of shape {positions.shape}, expected two columns of "
            "finite numbers, y and x"
        )
    return positions


def exposure_points(recipe: Trajectory) -> np.ndarray:
    """Return the points of an exposure of a fly scan, relative to its middle.

    Args:
        recipe: ``fly_scan_length_px`` and ``fly_scan_samples``.

    Returns:
        Points, px, ``(K, 2)``; one where the beam does not move.
    """
    if recipe.fly_scan_length_px == 0:
        return np.zeros((1, 2))
    count = recipe.fly_scan_samples
    x = recipe.fly_scan_length_px * ((np.arange(count) + 0.5) / count - 0.5)  # the middles of equal stretches of time
    return np.stack([np.zeros(count), x], axis=1)


def _step_px(recipe: Trajectory, diameter_px: float) -> float:
    return recipe.step_px if recipe.overlap_percent is None else diameter_px * (1 - recipe.overlap_percent / 100)


def _errors(recipe: Trajectory, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the errors of the positions, true less nominal, px, ``(J, 2)``."""
    angle = 2 * np.pi * rng.random()
    drift = recipe.drift_px * np.array([np.sin(angle), np.cos(angle)])
    return recipe.error_px * rng.standard_normal((count, 2)) + np.linspace(-0.5, 0.5, count)[:, None] * drift


def _reach(area: Area) -> float:
    """Return the distance from the centre of the area to its corners, px."""
    return float(np.hypot(*(area[1] - area[0])) / 2)


def _cut(radius: np.ndarray, angle: np.ndarray, area: Area) -> np.ndarray:
    """Return the points around the centre of the area that lie in it, from polar coordinates."""
    low, high = area
    points = (low + high) / 2 + np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    return points[((points >= low) & (points <= high)).all(1)]


def _grid(low: np.ndarray, high: np.ndarray, step_px: float) -> np.ndarray:
    y, x = (_line(*ends, step_px) for ends in zip(low, high, strict=True))
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def _line(low: float, high: float, step_px: float) -> np.ndarray:
    """Return equal steps centred between ``low`` and ``high``."""
    steps = int((high - low) / step_px + 1e-9)
    return (low + high - steps * step_px) / 2 + step_px * np.arange(steps + 1)
