"""Objects to simulate: recipes that turn a seed into an amplitude and a phase image."""

from collections.abc import Callable

import numpy as np
import skimage

from ..config import ObjectRecipe
from . import shapes, textures
from .rng import seeded_rng

Images = tuple[np.ndarray, np.ndarray]
"""Amplitude and phase, ``(H, W)`` each, on any scale: they are rescaled to the recipe's ranges."""


def make_object(recipe: ObjectRecipe, rng: np.random.Generator) -> np.ndarray:
    """Make the complex transmission of an object.

    Its amplitude spans ``recipe.amplitude`` and its phase ``recipe.phase_rad`` from end to end.

    Args:
        recipe: kind of object, size, ranges.
        rng: random generator.

    Returns:
        Transmission, complex64, ``(H, W)``.
    """
    amplitude, phase = OBJECTS[recipe.name](recipe, rng)
    share = (
        recipe.pink_noise_fraction if recipe.pink_noise_fraction is not None else 0.2 * (recipe.name == "dead_leaves")
    )
    if share > 0:
        amplitude = (1 - share) * _rescale(amplitude) + share * _rescale(_pink(recipe, rng))
        phase = (1 - share) * _rescale(phase) + share * _rescale(_pink(recipe, rng))
    transmission = _rescale(amplitude, *recipe.amplitude) * np.exp(1j * _rescale(phase, *recipe.phase_rad))
    return transmission.astype(np.complex64)


def make_slices(recipe: ObjectRecipe, seed: int) -> np.ndarray:
    """Make the slices of an object along the beam; the first is that of a thin object with the same seed.

    Args:
        recipe: kind of object, size, ranges, number of slices.
        seed: of the scan.

    Returns:
        Transmissions, complex64, ``(S, H, W)``.
    """
    if recipe.name == "siemens_star" and recipe.slices > 1:
        return np.stack([_star_slice(recipe, number) for number in range(recipe.slices)])
    numbers = [() if number == 0 else (number,) for number in range(recipe.slices)]
    return np.stack([make_object(recipe, seeded_rng(seed, "object", *number)) for number in numbers])


def dead_leaves(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw dead leaves: discs, ellipses, rectangles and triangles that occlude one another, radii by ``r^-3``.

    Circumradii are 1 to 20 % of the side, as many as cover everything, under a fifth of 1/f noise. Amplitude and phase
    have leaves of their own, so that neither can be inferred from the other. Their statistics are like those of natural
    images: Lee, Mumford and Huang, Int. J. Comput. Vision 41 (2001) 35.
    """
    exponent = 3.0 if recipe.spectral_exponent is None else recipe.spectral_exponent
    return _twice(lambda: shapes.leaves(recipe.size, _features(recipe, 0.01, 0.2), exponent, recipe.count, rng))


def lines(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw 150 straight lines from edge to edge, 0.3, 0.8 and 2 % of the side wide, for amplitude and phase each."""
    return _twice(lambda: shapes.lines(recipe.size, _features(recipe, 0.003, 0.02), recipe.count or 150, rng))


def gaussian_random_field(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw clouds: Gaussian noise with the amplitude spectrum ``f^-1.5``; amplitude and phase have their own."""
    exponent = 1.5 if recipe.spectral_exponent is None else recipe.spectral_exponent
    return _twice(lambda: textures.coloured_noise(recipe.size, exponent, rng))


def procedural(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw 60 translucent shapes, discs to triangles, and soft blobs over a gradient, with one third Perlin noise.

    Radii and wavelengths are 2 to 25 % of the side; amplitude and phase have their own.
    """

    def image() -> np.ndarray:
        drawn = shapes.layers(recipe.size, _features(recipe, 0.02, 0.25), recipe.count or 60, rng)
        texture = textures.perlin_noise(recipe.size, *_features(recipe, 0.02, 0.25), rng)
        return 0.65 * _rescale(drawn) + 0.35 * _rescale(texture)

    return _twice(image)


def polyhedra(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw 40 icosahedra in random orientations, three in ten hollow, projected along the beam.

    Circumradii are 3 to 12 % of the side; of one material: phase follows absorption.
    """
    thickness = shapes.polyhedra(recipe.size, _features(recipe, 0.03, 0.12), recipe.count or 40, rng)
    return -thickness, -thickness  # matter of refractive index below 1, as for X-rays: it advances the phase


def perlin_noise(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw Perlin's gradient noise: octaves from 25 down to 1 % of the side; amplitude and phase have their own."""
    return _twice(lambda: textures.perlin_noise(recipe.size, *_features(recipe, 0.01, 0.25), rng))


def white_noise(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw white noise: every pixel independent, uniform over the range, as hard as an object can be."""
    return _twice(lambda: rng.random(recipe.size))


def blurred_noise(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw white noise under a Gaussian blur of 1 to 3 px rms; amplitude and phase have their own."""
    least, greatest = recipe.feature_size_px or (1.0, 3.0)
    return _twice(lambda: textures.blurred_noise(recipe.size, rng.uniform(least, greatest), rng))


def points(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw 200 round Gaussian spots of 1 to 3 px rms and random strength that absorb and delay, on empty space."""
    spots = shapes.points(recipe.size, recipe.feature_size_px or (1.0, 3.0), recipe.count or 200, rng)
    return -spots, spots


def siemens_star(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Draw a Siemens star: 18 pairs of spokes that absorb and delay, without randomness."""
    star = _star(recipe.size, recipe.spokes)
    return -star, star


def photograph(recipe: ObjectRecipe, rng: np.random.Generator) -> Images:
    """Load two photographs of scikit-image or from files: the first is the phase, the second the amplitude.

    In gray, resized to the object, without randomness.
    """
    phase, amplitude = (load_image(name, recipe.size) for name in recipe.images)
    return amplitude, phase


OBJECTS: dict[str, Callable[[ObjectRecipe, np.random.Generator], Images]] = {
    "dead_leaves": dead_leaves,
    "lines": lines,
    "gaussian_random_field": gaussian_random_field,
    "procedural": procedural,
    "polyhedra": polyhedra,
    "perlin_noise": perlin_noise,
    "white_noise": white_noise,
    "blurred_noise": blurred_noise,
    "points": points,
    "siemens_star": siemens_star,
    "photograph": photograph,
}
"""Recipes by their names in the config."""

STAR_CIRCLE = 0.12
"""Distance of the middle of a star from that of a thick object, relative to its shorter side: stars overlap by half."""
BUNDLED_IMAGES = (
    *("astronaut", "brick", "camera", "cat", "cell", "clock", "coffee", "coins", "grass", "gravel", "horse"),
    *("hubble_deep_field", "immunohistochemistry", "microaneurysms", "moon", "page", "retina", "rocket", "text"),
)
"""Images in scikit-image's wheel: nothing is downloaded."""


def load_image(name: str, shape: tuple[int, int]) -> np.ndarray:
    """Load a photograph as gray values, by name from scikit-image's wheel or from a path.

    Args:
        name: one of :data:`BUNDLED_IMAGES`, or a path.
        shape: height and width to resize it to, px.

    Returns:
        Gray values, ``(H, W)``.

    Raises:
        ValueError: if it cannot be read.
    """
    if name in BUNDLED_IMAGES:
        image = getattr(skimage.data, name)()
    else:
        try:
            image = skimage.io.imread(name)
        except (OSError, ValueError, SyntaxError):
            raise ValueError(
                f"simulation.object.images: expected an image file or a name of scikit-image's images, got "
                f"{name}; those are {', '.join(BUNDLED_IMAGES)}"
            ) from None
    gray = image if image.ndim == 2 else skimage.color.rgb2gray(image[..., :3])
    return skimage.transform.resize(gray.astype(float), shape, anti_aliasing=True)


def _star(
    shape: tuple[int, int], spokes: int, outer: float = 0.45, off_centre: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """Draw a star of 0 and 1; its outer radius and its distance from the middle are relative to the shorter side."""
    height, width = shape
    side = min(height, width)
    y, x = np.ogrid[:height, :width]
    y, x = y - (height - 1) / 2 - off_centre[0] * side, x - (width - 1) / 2 - off_centre[1] * side
    radius = np.hypot(y, x)
    # edges soft over a pixel: the distance to an edge is about radius x sin(spokes x angle) / spokes
    drawn = _sigmoid(np.sin(spokes * np.arctan2(y, x)) * radius * 3 / spokes)
    return drawn * _sigmoid(outer * side - radius) * _sigmoid(radius - 0.02 * side)


def _star_slice(recipe: ObjectRecipe, number: int) -> np.ndarray:
    """Make one of several stars: 0.3 of the side in radius, its middle on a circle around that of the object."""
    angle = np.pi / 4 + 2 * np.pi * number / recipe.slices
    off_centre = STAR_CIRCLE * np.sin(angle), STAR_CIRCLE * np.cos(angle)
    star = _star(recipe.size, recipe.spokes + 5 * number, 0.3, off_centre)
    transmission = _rescale(-star, *recipe.amplitude) * np.exp(1j * _rescale(star, *recipe.phase_rad))
    return transmission.astype(np.complex64)


def _features(recipe: ObjectRecipe, least: float, greatest: float) -> tuple[float, float]:
    """Return the recipe's feature sizes, or these fractions of the shorter side, px."""
    side = min(recipe.size)
    return recipe.feature_size_px or (least * side, greatest * side)


def _twice(draw: Callable[[], np.ndarray]) -> Images:
    return draw(), draw()


def _pink(recipe: ObjectRecipe, rng: np.random.Generator) -> np.ndarray:
    return textures.coloured_noise(recipe.size, 1.0, rng)


def _rescale(image: np.ndarray, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Rescale an image to span ``low`` to ``high``; a uniform one becomes ``high``."""
    span = image.max() - image.min()
    return low + (high - low) * ((image - image.min()) / span if span > 0 else np.ones_like(image))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
