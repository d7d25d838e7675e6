"""Samples to simulate: each a recipe that turns a seed into an amplitude and a phase image."""

from collections.abc import Callable

import numpy as np
import skimage

from ..config import ObjectRecipe

Fields = tuple[np.ndarray, np.ndarray]
"""Amplitude and phase images, ``(H, W)`` each, on any scale: the recipe's ranges are laid over them."""


def make_object(recipe: ObjectRecipe, rng: np.random.Generator) -> np.ndarray:
    """The complex transmission of a sample, complex64, ``(size, size)``.

    Its amplitude spans ``recipe.amplitude`` and its phase ``recipe.phase_rad`` exactly.
    """
    amplitude, phase = OBJECTS[recipe.name](recipe, rng)
    return (_spread(amplitude, *recipe.amplitude) * np.exp(1j * _spread(phase, *recipe.phase_rad))).astype(np.complex64)


def dead_leaves(recipe: ObjectRecipe, rng: np.random.Generator) -> Fields:
    """Opaque shapes fallen on one another, radii by the power law ``r^-3``, over 1/f noise.

    Amplitude and phase have leaves of their own, so that neither can be guessed from the other. Statistics like those of
    natural images: Lee, Mumford and Huang, Int. J. Comput. Vision 41 (2001) 35.
    """
    share = recipe.pink_noise
    amplitude, phase = ((1 - share) * _leaves(recipe, rng) + share * pink_noise(recipe.size, rng) for _ in range(2))
    return amplitude, phase


def siemens_star(recipe: ObjectRecipe, rng: np.random.Generator) -> Fields:
    """The resolution target: 18 pairs of spokes that narrow to nothing; spokes absorb and delay."""
    y, x = np.mgrid[: recipe.size, : recipe.size] - (recipe.size - 1) / 2
    radius = np.hypot(y, x)
    # spoke edges soft over a pixel: distance to the edge is about radius x sin(18 angle) / 18
    spokes = _sigmoid(np.sin(18 * np.arctan2(y, x)) * radius / 6)
    inside = _sigmoid(0.45 * recipe.size - radius) * _sigmoid(radius - 0.02 * recipe.size)
    return 1 - spokes * inside, spokes * inside


def photograph(recipe: ObjectRecipe, rng: np.random.Generator) -> Fields:
    """Two photographs: the first is the phase, the second the amplitude."""
    phase, amplitude = (load_image(name, recipe.size) for name in recipe.images)
    return amplitude, phase


OBJECTS: dict[str, Callable[[ObjectRecipe, np.random.Generator], Fields]] = {
    "dead_leaves": dead_leaves,
    "siemens_star": siemens_star,
    "photograph": photograph,
}
"""Recipes by their names in the config."""


def pink_noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of amplitude 1/f, stretched over 0 to 1, ``(size, size)``."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    frequency[0, 0] = 1
    return _spread(np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) / frequency).real, 0, 1)


def load_image(name: str, size: int) -> np.ndarray:
    """A photograph as gray values, resized to ``(size, size)``: by name from scikit-image's wheel, or from a path.

    Raises:
        ValueError: if there is no such image.
    """
    if name in BUNDLED_IMAGES:
        image = getattr(skimage.data, name)()
    else:
        try:
            image = skimage.io.imread(name)
        except (OSError, ValueError):
            raise ValueError(
                f"simulation.object.images: no file {name}, and scikit-image brings only {', '.join(BUNDLED_IMAGES)}"
            ) from None
    gray = image if image.ndim == 2 else skimage.color.rgb2gray(image[..., :3])
    return skimage.transform.resize(gray.astype(float), (size, size), anti_aliasing=True)


BUNDLED_IMAGES = (
    "astronaut", "brick", "camera", "cat", "cell", "clock", "coffee", "coins", "grass", "gravel", "horse",
    "hubble_deep_field", "immunohistochemistry", "microaneurysms", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
"""Images that scikit-image's wheel holds: nothing is downloaded."""


def _leaves(recipe: ObjectRecipe, rng: np.random.Generator) -> np.ndarray:
    """Leaves of random gray values, ``(size, size)``; enough of them to cover all but a few pixels."""
    size, least, greatest = recipe.size, 0.01 * recipe.size, 0.2 * recipe.size
    mean_area = 2 * np.pi * np.log(greatest / least) / (least**-2 - greatest**-2)
    image = np.full((size, size), rng.random())
    for _ in range(int(8 * size**2 / mean_area)):
        radius = (least**-2 - rng.random() * (least**-2 - greatest**-2)) ** -0.5
        _drop_leaf(image, rng.random(2) * size, radius, rng)
    return image


def _drop_leaf(image: np.ndarray, centre: np.ndarray, radius: float, rng: np.random.Generator) -> None:
    """Paint one shape of circumradius ``radius`` over the image, turned at random."""
    first = np.maximum(np.floor(centre - radius), 0).astype(int)
    last = np.minimum(np.ceil(centre + radius) + 1, image.shape).astype(int)
    y, x = np.ogrid[first[0] : last[0], first[1] : last[1]]
    y, x = (y - centre[0]) / radius, (x - centre[1]) / radius
    angle = rng.random() * 2 * np.pi
    along, across = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
    shape, slim = rng.integers(4), rng.uniform(0.3, 1)
    if shape == 0:
        inside = along**2 + across**2 < 1
    elif shape == 1:
        inside = along**2 + (across / slim) ** 2 < 1
    elif shape == 2:  # the rectangle inscribed in the circle
        inside = (abs(along) < 1 / np.hypot(1, slim)) & (abs(across) < slim / np.hypot(1, slim))
    else:  # the triangle inscribed in the circle
        inside = (along > -0.5) & (along + np.sqrt(3) * abs(across) < 1)
    image[first[0] : last[0], first[1] : last[1]][inside] = rng.random()


def _spread(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """The image stretched so that it spans ``low`` to ``high``; ``high`` everywhere if it is flat."""
    span = image.max() - image.min()
    return low + (high - low) * ((image - image.min()) / span if span > 0 else np.ones_like(image))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))
