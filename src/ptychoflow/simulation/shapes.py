"""Things with edges: leaves, lines, layers of shapes, polyhedra and points, drawn one by one into an image."""

import itertools

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.draw import line_aa

Rng = np.random.Generator


def leaves(shape: tuple[int, int], radii: tuple[float, float], power: float, count: int | None, rng: Rng) -> np.ndarray:
    """Opaque shapes of random gray values fallen on one another, ``(H, W)``.

    Args:
        shape: height and width, px.
        radii: least and greatest circumradius, px.
        power: radii are drawn by ``r^-power``.
        count: how many; None takes enough to cover all but a few pixels.
        rng: where the numbers come from.
    """
    if count is None:
        mean_area = np.pi * np.mean(power_law(np.linspace(0, 1, 4096), radii, power) ** 2)
        count = int(8 * shape[0] * shape[1] / mean_area)
    image = np.full(shape, rng.random())
    for radius in power_law(rng.random(count), radii, power):
        window, along, across = _turned(shape, radius, rng)
        image[window][SHAPES[rng.integers(len(SHAPES))](along, across, rng.uniform(0.3, 1))] = rng.random()
    return image


def layers(shape: tuple[int, int], radii: tuple[float, float], count: int, rng: Rng) -> np.ndarray:
    """Translucent shapes and soft blobs, each adding or taking away, over a gradient, ``(H, W)``."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    slope = rng.uniform(-1, 1, 2)
    image = slope[0] * y / shape[0] + slope[1] * x / shape[1]
    for radius in rng.uniform(*radii, count):
        window, along, across = _turned(shape, radius, rng)
        kind, slim = rng.integers(len(SHAPES) + 1), rng.uniform(0.3, 1)
        blob = (
            np.exp(-4 * (along**2 + (across / slim) ** 2)) if kind == len(SHAPES) else SHAPES[kind](along, across, slim)
        )
        image[window] += rng.uniform(-1, 1) * blob
    return image


def lines(shape: tuple[int, int], widths: tuple[float, float], count: int, rng: Rng) -> np.ndarray:
    """Straight lines from edge to edge, a third of them at each of three widths, ``(H, W)``."""
    sharp = np.zeros((3, *shape))
    for n in range(count):
        middle, angle = rng.random(2) * shape, np.pi * rng.random()
        reach = np.hypot(*shape) * np.array([np.sin(angle), np.cos(angle)])
        rows, columns, cover = line_aa(*(middle - reach).astype(int), *(middle + reach).astype(int))
        inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        sharp[n % 3, rows[inside], columns[inside]] += cover[inside]
    return sum(width * gaussian_filter(image, width) for image, width in zip(sharp, np.geomspace(*widths, 3)))


def points(shape: tuple[int, int], radii: tuple[float, float], count: int, rng: Rng) -> np.ndarray:
    """Gaussian spots of random height on nothing, ``(H, W)``."""
    image = np.zeros(shape)
    for radius in rng.uniform(*radii, count):
        window, along, across = _turned(shape, 3 * radius, rng)
        image[window] += rng.random() * np.exp(-4.5 * (along**2 + across**2))
    return image


def polyhedra(shape: tuple[int, int], radii: tuple[float, float], count: int, rng: Rng) -> np.ndarray:
    """Thickness along the beam of icosahedra turned at random in space, three in ten of them hollow, px, ``(H, W)``."""
    image = np.zeros(shape)
    for radius in rng.uniform(*radii, count):
        window, y, x = _turned(shape, radius, rng)
        normals = FACES @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
        shell = rng.uniform(0.9, 0.97) if rng.random() < 0.3 else 0.0
        image[window] += radius * (_thickness(y, x, normals, 1.0) - _thickness(y, x, normals, shell))
    return image


def power_law(uniform: np.ndarray, ends: tuple[float, float], power: float) -> np.ndarray:
    """Numbers between the ends distributed by ``r^-power``, from numbers distributed uniformly between 0 and 1."""
    if power == 1:
        return ends[0] * (ends[1] / ends[0]) ** uniform
    low, high = (end ** (1 - power) for end in ends)
    return (low + uniform * (high - low)) ** (1 / (1 - power))


def _disc(along: np.ndarray, across: np.ndarray, slim: float) -> np.ndarray:
    return along**2 + across**2 < 1


def _ellipse(along: np.ndarray, across: np.ndarray, slim: float) -> np.ndarray:
    return along**2 + (across / slim) ** 2 < 1


def _rectangle(along: np.ndarray, across: np.ndarray, slim: float) -> np.ndarray:
    return np.maximum(abs(along), abs(across) / slim) < 1 / np.hypot(1, slim)


def _triangle(along: np.ndarray, across: np.ndarray, slim: float) -> np.ndarray:
    return (along > -0.5) & (along + np.sqrt(3) / slim * abs(across) < 1)


SHAPES = (_disc, _ellipse, _rectangle, _triangle)
"""Shapes inscribed in the unit circle, slimmer or less slim."""


def _icosahedron() -> np.ndarray:
    """Outward normals of the faces over their distance from the centre, circumradius 1, ``(20, 3)``."""
    golden = (1 + np.sqrt(5)) / 2
    cube = np.array(list(itertools.product((-1, 1), repeat=3)), float)
    pairs = np.array([(0, a / golden, b * golden) for a in (-1, 1) for b in (-1, 1)])
    centres = np.concatenate([cube, *(np.roll(pairs, turn, axis=1) for turn in range(3))])  # of a dodecahedron
    inradius = np.sqrt((5 + 2 * np.sqrt(5)) / 15)
    return centres / np.sqrt(3) / inradius


FACES = _icosahedron()


def _thickness(y: np.ndarray, x: np.ndarray, normals: np.ndarray, scale: float) -> np.ndarray:
    """Length inside ``normals @ (z, y, x) <= scale`` of the beam through each ``(y, x)``."""
    if scale == 0:
        return np.zeros(np.broadcast_shapes(y.shape, x.shape))
    near, far = -np.inf, np.inf
    for nz, ny, nx in normals:
        crossing = (scale - ny * y - nx * x) / nz
        near, far = (near, np.minimum(far, crossing)) if nz > 0 else (np.maximum(near, crossing), far)
    return np.maximum(far - near, 0)


def _turned(shape: tuple[int, int], radius: float, rng: Rng) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """A random place and direction: the window of the image that it touches, and coordinates in units of ``radius``."""
    centre = rng.random(2) * shape
    first = np.maximum(np.floor(centre - radius), 0).astype(int)
    last = np.minimum(np.ceil(centre + radius) + 1, shape).astype(int)
    window = slice(first[0], last[0]), slice(first[1], last[1])
    y, x = np.ogrid[window]
    y, x = (y - centre[0]) / radius, (x - centre[1]) / radius
    angle = 2 * np.pi * rng.random()
    return window, np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
