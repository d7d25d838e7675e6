"""Shapes of objects: leaves, lines, translucent layers, polyhedra and points, drawn one by one into an image."""

import itertools

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.draw import line_aa

Rng = np.random.Generator


def leaves(
    shape: tuple[int, int], radii: tuple[float, float], exponent: float, count: int | None, rng: Rng
) -> np.ndarray:
    """Draw dead leaves: opaque shapes of random gray values that occlude one another.

    Args:
        shape: height and width, px.
        radii: least and greatest circumradius, px.
        exponent: radii are drawn by ``r^-exponent``.
        count: number of shapes; None takes enough to cover all but a few pixels.
        rng: random generator.

    Returns:
        Image, ``(H, W)``.
    """
    if count is None:
        mean_area = np.pi * np.mean(power_law(np.linspace(0, 1, 4096), radii, exponent) ** 2)
        count = int(8 * shape[0] * shape[1] / mean_area)
    image = np.full(shape, rng.random())
    for radius in power_law(rng.random(count), radii, exponent):
        window, along, across = _random_frame(shape, radius, rng)
        image[window][SHAPES[rng.integers(len(SHAPES))](along, across, rng.uniform(0.3, 1))] = rng.random()
    return image


def layers(shape: tuple[int, int], radii: tuple[float, float], count: int, rng: Rng) -> np.ndarray:
    """Draw translucent shapes and soft blobs, each adding or subtracting, over a gradient.

    Args:
        shape: height and width, px.
        radii: least and greatest circumradius, px.
        count: number of shapes.
        rng: random generator.

    Returns:
        Image, ``(H, W)``.
    """
    y, x = np.ogrid[: shape[0], : shape[1]]
    slope = rng.uniform(-1, 1, 2)
    image = slope[0] * y / shape[0] + slope[1] * x / shape[1]
    for radius in rng.uniform(*radii, count):
        window, along, across = _random_frame(shape, radius, rng)
        kind, slim = rng.integers(len(SHAPES) + 1), rng.uniform(0.3, 1)
        blob = (
            np.exp(-4 * (along**2 + (across / slim) ** 2)) if kind == len(SHAPES) else SHAPES[kind](along, across, slim)
        )
        image[window] += rng.uniform(-1, 1) * blob
    return image


def lines(shape: tuple[int, int], widths: tuple[float, float], count: int, rng: Rng) -> np.ndarray:
    """Draw straight lines from edge to edge, a third of them at each of three widths.

    Args:
        shape: height and width, px.
        widths: least and greatest width, px.
        count: number of lines.
        rng: random generator.

    Returns:
        Image, ``(H, W)``.
    """
    sharp = np.zeros((3, *shape))
    for n in range(count):
        middle, angle = rng.random(2) * shape, np.pi * rng.random()
        reach = np.hypot(*shape) * np.array([np.sin(angle), np.cos(angle)])
        rows, columns, cover = line_aa(*(middle - reach).astype(int), *(middle + reach).astype(int))
        inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        sharp[n % 3, rows[inside], columns[inside]] += cover[inside]
    return sum(width * gaussian_filter(image, width) for image, width in zip(sharp, np.geomspace(*widths, 3)))


def points(shape: tuple[int, int], radii: tuple[float, float], count: int, rng: Rng) -> np.ndarray:
    """Draw Gaussian spots of random height on zero.

    Args:
        shape: height and width, px.
        radii: least and greatest standard deviation, px.
        count: number of spots.
        rng: random generator.

    Returns:
        Image, ``(H, W)``.
    """
    image = np.zeros(shape)
    for radius in rng.uniform(*radii, count):
        window, along, across = _random_frame(shape, 3 * radius, rng)
        image[window] += rng.random() * np.exp(-4.5 * (along**2 + across**2))
    return image


def polyhedra(shape: tuple[int, int], radii: tuple[float, float], count: int, rng: Rng) -> np.ndarray:
    """Draw icosahedra in random orientations, three in ten of them hollow, projected along the beam.

    Args:
        shape: height and width, px.
        radii: least and greatest circumradius, px.
        count: number of icosahedra.
        rng: random generator.

    Returns:
        Thickness, px, ``(H, W)``.
    """
    image = np.zeros(shape)
    for radius in rng.uniform(*radii, count):
        window, y, x = _random_frame(shape, radius, rng)
        normals = FACES @ np.linalg.qr(rng.standard_normal((3, 3)))[0]
        shell = rng.uniform(0.9, 0.97) if rng.random() < 0.3 else 0.0
        image[window] += radius * (_thickness(y, x, normals, 1.0) - _thickness(y, x, normals, shell))
    return image


def power_law(uniform: np.ndarray, ends: tuple[float, float], exponent: float) -> np.ndarray:
    """Map uniformly distributed numbers to numbers between two ends distributed by ``r^-exponent``.

    Args:
        uniform: 0 to 1, any shape.
        ends: least and greatest number.
        exponent: of the distribution.

    Returns:
        Numbers, the same shape.
    """
    if exponent == 1:
        return ends[0] * (ends[1] / ends[0]) ** uniform
    low, high = (end ** (1 - exponent) for end in ends)
    return (low + uniform * (high - low)) ** (1 / (1 - exponent))


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
    """Return the outward normals of the faces over their distance from the centre, circumradius 1, ``(20, 3)``."""
    golden = (1 + np.sqrt(5)) / 2
    cube = np.array(list(itertools.product((-1, 1), repeat=3)), float)
    pairs = np.array([(0, a / golden, b * golden) for a in (-1, 1) for b in (-1, 1)])
    centres = np.concatenate([cube, *(np.roll(pairs, axis, axis=1) for axis in range(3))])  # of a dodecahedron
    inradius = np.sqrt((5 + 2 * np.sqrt(5)) / 15)
    return centres / np.sqrt(3) / inradius


FACES = _icosahedron()
"""Faces of the icosahedron."""


def _thickness(y: np.ndarray, x: np.ndarray, normals: np.ndarray, scale: float) -> np.ndarray:
    """Return the length inside ``normals @ (z, y, x) <= scale`` of the beam through each ``(y, x)``."""
    if scale == 0:
        return np.zeros(np.broadcast_shapes(y.shape, x.shape))
    near, far = -np.inf, np.inf
    for nz, ny, nx in normals:
        crossing = (scale - ny * y - nx * x) / nz
        near, far = (near, np.minimum(far, crossing)) if nz > 0 else (np.maximum(near, crossing), far)
    return np.maximum(far - near, 0)


def _random_frame(
    shape: tuple[int, int], radius: float, rng: Rng
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Draw a centre and a direction; return the window within ``radius`` and its coordinates in units of that."""
    centre = rng.random(2) * shape
    first = np.maximum(np.floor(centre - radius), 0).astype(int)
    last = np.minimum(np.ceil(centre + radius) + 1, shape).astype(int)
    window = slice(first[0], last[0]), slice(first[1], last[1])
    y, x = np.ogrid[window]
    y, x = (y - centre[0]) / radius, (x - centre[1]) / radius
    angle = 2 * np.pi * rng.random()
    return window, np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
