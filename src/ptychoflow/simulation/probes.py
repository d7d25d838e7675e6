"""Beams to simulate: each a recipe for the wave at the sample, scaled to a number of photons."""

import itertools
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from ..config import ProbeRecipe
from ..core.scan import Geometry
from ..io.reconstruction_h5 import read_reconstruction
from ..io.scan_cxi import read_scan
from .aberrations import draw, phase_waves

Phase = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Phase in waves at ``(y, x)`` in units of the aperture's radius."""


def make_probe(recipe: ProbeRecipe, size: int, photons: float, rng: np.random.Generator) -> np.ndarray:
    """A beam that is generated: in sqrt(photons), complex64, ``(M, size, size)``.

    ``sum(abs(probe)**2)`` is ``photons``. Defocus and aberrations are drawn around the recipe's.

    Raises:
        ValueError: if the patterns cannot hold the spot or the light of its aperture.
    """
    if recipe.diameter_px > size:
        raise ValueError(
            f"simulation.probe.diameter_px is {recipe.diameter_px:g}, more than the {size} px of simulation.size"
        )
    wave = PROBES[recipe.name](recipe, size, _drawn_phase(recipe, rng))
    return scale_to_photons(incoherent_modes(wave, recipe.modes or (1.0,)), photons)


def adapt_probe(probe: np.ndarray, recipe: ProbeRecipe, photons: float, rng: np.random.Generator) -> np.ndarray:
    """A probe from elsewhere with the recipe's defocus, aberrations, modes and photons.

    Phases act over the disc of the far field that holds 95 % of the light. Modes are those of the probe unless the
    recipe gives occupancies: then they are made from its first.
    """
    phase = _drawn_phase(recipe, rng)
    wave = np.fft.fftshift(np.fft.fft2(probe.astype(np.complex128)), axes=(-2, -1))
    light = np.sum(np.abs(wave) ** 2, axis=0)
    y, x = (axis / (beam_diameter(light, 0.95) / 2) for axis in _from_centre_of_mass(light))
    probe = np.fft.ifft2(np.fft.ifftshift(wave * np.exp(2j * np.pi * phase(y, x)), axes=(-2, -1)))
    return scale_to_photons(probe if recipe.modes is None else incoherent_modes(probe[0], recipe.modes), photons)


def scale_to_photons(probe: np.ndarray, photons: float) -> np.ndarray:
    """The same probe, ``(M, N, N)``, carrying ``photons`` in all modes together, complex64.

    Raises:
        ValueError: if the probe is empty, or no photons are asked for.
    """
    probe = probe.astype(np.complex128)
    light = np.sum(np.abs(probe) ** 2)
    if not (np.isfinite(light) and light > 0):
        raise ValueError("the probe is empty or holds NaN: give one with photons in it")
    if not photons > 0:
        raise ValueError(f"photons is {photons:g}, expected more than 0")
    return (probe * np.sqrt(photons / light)).astype(np.complex64)


def zone_plate(recipe: ProbeRecipe, size: int, phase: Phase) -> np.ndarray:
    """The beam of a Fresnel zone plate with a central stop, out of focus: a curved ring with faint fringes.

    Defocus of ``W`` waves at the edge ``q`` of the pupil spreads the light over ``4 W / q``, diffraction over
    ``1.22 / q``: diameter and defocus choose the pupil.
    """
    frequency = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)
    edge = _pupil_edge(recipe, size, 1.22)
    q = np.hypot(*frequency)
    stop = _step((q - recipe.central_stop * edge) * 2 * size) if recipe.central_stop else 1.0
    return _focus(_step((edge - q) * 2 * size) * stop, phase, edge, frequency)


def kb_mirror(recipe: ProbeRecipe, size: int, phase: Phase) -> np.ndarray:
    """The beam of two crossed Kirkpatrick-Baez mirrors: a square pupil, streaks along both axes."""
    frequency = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)
    edge = _pupil_edge(recipe, size, 1.0)
    y, x = (_step((edge - abs(q)) * 2 * size) for q in frequency)
    return _focus(y * x, phase, edge, frequency)


def disc(recipe: ProbeRecipe, size: int, phase: Phase) -> np.ndarray:
    """A soft-edged pinhole just before the sample; defocus and aberrations are those of the wave in it."""
    y, x = _within(recipe, size)
    return _step((1 - np.hypot(y, x)) * recipe.diameter_px / 2) * np.exp(2j * np.pi * phase(y, x))


def gaussian(recipe: ProbeRecipe, size: int, phase: Phase) -> np.ndarray:
    """A Gaussian beam whose intensity has fallen by ``e^-2`` at ``diameter_px``; phases act within that disc."""
    y, x = _within(recipe, size)
    return np.exp(-(y**2) - x**2) * np.exp(2j * np.pi * phase(y, x))


PROBES: dict[str, Callable[[ProbeRecipe, int, Phase], np.ndarray]] = {
    "zone_plate": zone_plate,
    "kb_mirror": kb_mirror,
    "disc": disc,
    "gaussian": gaussian,
}
"""Recipes by their names in the config."""


def incoherent_modes(wave: np.ndarray, occupancies: tuple[float, ...]) -> np.ndarray:
    """Orthogonal modes ``(M, N, N)``, the first like ``wave``, the others with more and more nodes across it.

    Mode m is the wave times a polynomial ``y^a x^b``, made orthogonal to those before: what vibration and a source of
    finite size do to a coherent beam.

    Args:
        wave: ``(N, N)``.
        occupancies: share of the light in each mode.
    """
    y, x = (axis / len(wave) for axis in _from_centre_of_mass(np.abs(wave) ** 2))
    orders = ((total - b, b) for total in itertools.count() for b in range(total + 1))
    powers = itertools.islice(orders, len(occupancies))
    stack = np.stack([(wave * y**a * x**b).ravel() for a, b in powers], axis=1)
    orthonormal, triangle = np.linalg.qr(stack)
    modes = (orthonormal * np.sign(np.diag(triangle).real)).T.reshape(-1, *wave.shape)
    return modes * np.sqrt(np.asarray(occupancies))[:, None, None]


def beam_diameter(light: np.ndarray, share: float = 0.9) -> float:
    """Diameter of the circle around the centre of mass that holds a share of the light, px.

    Args:
        light: intensity, ``(N, N)``.
        share: of the light.
    """
    y, x = _from_centre_of_mass(light)
    radius = np.hypot(y, x).ravel()
    order = np.argsort(radius)
    inside = np.cumsum(light.ravel()[order])
    return float(2 * radius[order][np.searchsorted(inside, share * inside[-1])])


def load_probe(path: Path) -> tuple[np.ndarray, Geometry | None]:
    """A probe ``(M, N, N)`` and its lengths, where the file has them.

    From our scan (``.cxi``), a reconstruction (``.h5``), an ``.npz`` with ``probe`` or ``probeGuess``, an ``.npy``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no probe.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"simulation.probe.file: there is no file {path}")
    if path.suffix == ".cxi":
        scan = read_scan(path, counts=False)
        return scan.probe, scan.geometry
    if h5py.is_hdf5(path):
        reconstruction = read_reconstruction(path)
        return reconstruction.probe, reconstruction.geometry
    return _checked(_load_array(path), path), None


def _load_array(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        names = [name for name in ("probe", "probeGuess") if name in loaded.files]
        return loaded[names[0]] if names else np.zeros(0)
    except (ValueError, OSError) as error:
        raise ValueError(f"simulation.probe.file: {path} is no array of numbers ({error})") from None


def _checked(probe: np.ndarray, path: Path) -> np.ndarray:
    shape = probe.shape
    if probe.ndim == 3 and shape[2] == 1:  # the reference's (N, N, 1)
        probe = probe[:, :, 0]
    probe = probe[None] if probe.ndim == 2 else probe
    wrong = probe.dtype.kind not in "fc" or probe.ndim != 3 or probe.shape[1] != probe.shape[2] or not probe.size
    if wrong or not np.isfinite(probe).all() or not probe.any():
        raise ValueError(
            f"simulation.probe.file: {path} holds no probe: expected finite complex numbers of shape (modes, N, N) or "
            f"(N, N) as an .npy or under `probe` or `probeGuess` of an .npz, got {probe.dtype} of shape {shape}"
        )
    return probe


def _drawn_phase(recipe: ProbeRecipe, rng: np.random.Generator) -> Phase:
    """The phase of one scan's beam over the aperture."""
    spreads = recipe.defocus_spread, recipe.aberrations, recipe.aberration_spread
    defocus, aberrations = draw(_defocus(recipe), *spreads, rng)
    return lambda y, x: phase_waves(defocus, aberrations, y, x)


def _defocus(recipe: ProbeRecipe) -> float:
    if recipe.defocus is not None:
        return recipe.defocus
    return 1.7 if recipe.name in PROBES else 0.0


def _pupil_edge(recipe: ProbeRecipe, size: int, diffraction: float) -> float:
    """Radius of the pupil that makes a spot of ``diameter_px``, cycles/px."""
    edge = float(np.hypot(4 * _defocus(recipe), diffraction) / recipe.diameter_px)
    if not 2 / size < edge < 0.5:
        raise ValueError(
            f"simulation.probe: a spot with diameter_px {recipe.diameter_px:g} and defocus {_defocus(recipe):g} waves "
            f"sends light to {edge * size:.1f} px from the centre of a pattern, expected 2 to {size / 2:g}: change the "
            "diameter or the defocus"
        )
    return edge


def _focus(pupil: np.ndarray, phase: Phase, edge: float, frequency: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The wave at the sample from a pupil in the far field."""
    y, x = (q / edge for q in frequency)
    return np.fft.fftshift(np.fft.ifft2(pupil * np.exp(2j * np.pi * phase(y, x))))


def _within(recipe: ProbeRecipe, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates at the sample in units of the spot's radius."""
    axis = (np.arange(size) - size // 2) / (recipe.diameter_px / 2)
    return axis[:, None], axis


def _from_centre_of_mass(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates ``(y, x)`` around the centre of mass, px."""
    total = light.sum()
    rows, columns = (np.arange(side) for side in light.shape)
    return (rows - light.sum(1) @ rows / total)[:, None], columns - light.sum(0) @ columns / total


def _step(x: np.ndarray) -> np.ndarray:
    """From 0 to 1 around 0, soft over about one unit."""
    return 1 / (1 + np.exp(-np.clip(2 * x, -50, 50)))
