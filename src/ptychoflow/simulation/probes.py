"""Probes to simulate: recipes for the wave at the sample, scaled to a number of photons."""

import itertools
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config import ProbeRecipe
from ..core.scan import Geometry
from ..io.npz_archive import open_npy, open_npz
from ..io.reconstruction_h5 import read_reconstruction
from ..io.regular_file import check_regular
from ..io.safe_hdf5 import is_hdf5
from ..io.scan_cxi import read_scan
from .aberrations import draw, phase_waves
from .textures import blurred_noise

Phase = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Phase in waves at ``(y, x)`` in units of the aperture's radius."""


def make_probe(recipe: ProbeRecipe, size: int, photons: float, rng: np.random.Generator) -> np.ndarray:
    """Generate a probe; defocus and aberrations are drawn around the recipe's.

    Args:
        recipe: optics, diameter, modes.
        size: side N, px.
        photons: per pattern, ``sum(abs(probe)**2)``.
        rng: random generator.

    Returns:
        Modes, sqrt(photons), complex64, ``(M, N, N)``.

    Raises:
        ValueError: if the patterns do not hold the spot or the photons of its aperture.
    """
    if recipe.diameter_px > size:
        raise ValueError(
            f"simulation.probe.diameter_px is {recipe.diameter_px:g}, more than the {size} px of simulation.size"
        )
    wave = PROBES[recipe.name](recipe, size, _drawn_phase(recipe, rng))
    if recipe.name == "diffuser":
        # the same diffuser in every scan, as every other recipe makes one probe
        noise = blurred_noise((size, size), recipe.diffuser_feature_px, np.random.default_rng(0))
        wave = wave * np.exp(1j * recipe.diffuser_phase_rad * (noise - noise.mean()) / noise.std())
    return scale_to_photons(incoherent_modes(wave, recipe.modes or (1.0,)), photons)


def adapt_probe(probe: np.ndarray, recipe: ProbeRecipe, photons: float, rng: np.random.Generator) -> np.ndarray:
    """Adapt a probe from a file to the recipe's defocus, aberrations, modes and photons.

    Phases act over the disc of the far field that holds 95 % of the photons. Modes are those of the probe unless the
    recipe gives occupancies: then they are made from its first.

    Args:
        probe: modes, ``(M, N, N)``.
        recipe: defocus, aberrations, modes.
        photons: per pattern.
        rng: random generator.

    Returns:
        Modes, sqrt(photons), complex64, ``(M, N, N)``.
    """
    phase = _drawn_phase(recipe, rng)
    wave = np.fft.fftshift(np.fft.fft2(probe.astype(np.complex128)), axes=(-2, -1))
    power = np.sum(np.abs(wave) ** 2, axis=0)
    y, x = (axis / (beam_diameter(power, 0.95) / 2) for axis in _from_centre_of_mass(power))
    probe = np.fft.ifft2(np.fft.ifftshift(wave * np.exp(2j * np.pi * phase(y, x)), axes=(-2, -1)))
    return scale_to_photons(probe if recipe.modes is None else incoherent_modes(probe[0], recipe.modes), photons)


def scale_to_photons(probe: np.ndarray, photons: float) -> np.ndarray:
    """Scale a probe to a number of photons in all modes together.

    Args:
        probe: modes, ``(M, N, N)``.
        photons: per pattern.

    Returns:
        Modes, sqrt(photons), complex64, ``(M, N, N)``.

    Raises:
        ValueError: if the probe is all zeros or not finite, or ``photons`` is not positive.
    """
    probe = probe.astype(np.complex128)
    power = np.sum(np.abs(probe) ** 2)
    if not (np.isfinite(power) and power > 0):
        raise ValueError("the probe is all zeros or holds NaN: give one with photons in it")
    if not photons > 0:
        raise ValueError(f"photons is {photons:g}, expected more than 0")
    return (probe * np.sqrt(photons / power)).astype(np.complex64)


def zone_plate(recipe: ProbeRecipe, size: int, phase: Phase) -> np.ndarray:
    """Make the wave of a Fresnel zone plate with a central stop, out of focus: a curved ring with faint fringes.

    Defocus of ``W`` waves at the edge ``q`` of the pupil spreads the beam over ``4 W / q``, diffraction over
    ``1.22 / q``: diameter and defocus determine the pupil.

    Args:
        recipe: diameter, defocus, central stop.
        size: side N, px.
        phase: of the pupil, waves.

    Returns:
        Wave, ``(N, N)``.
    """
    frequency = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)
    edge = _pupil_edge(recipe, size, 1.22)
    q = np.hypot(*frequency)
    stop = _step((q - recipe.central_stop * edge) * 2 * size) if recipe.central_stop else 1.0
    return _focus(_step((edge - q) * 2 * size) * stop, phase, edge, frequency)


def kb_mirror(recipe: ProbeRecipe, size: int, phase: Phase) -> np.ndarray:
    """Make the wave of two crossed Kirkpatrick-Baez mirrors: a square pupil, streaks along both axes, ``(N, N)``."""
    frequency = np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)
    edge = _pupil_edge(recipe, size, 1.0)
    y, x = (_step((edge - abs(q)) * 2 * size) for q in frequency)
    return _focus(y * x, phase, edge, frequency)


def disc(recipe: ProbeRecipe, size: int, phase: Phase) -> np.ndarray:
    """Make the wave of a soft-edged pinhole before the sample, ``(N, N)``; phases act within the pinhole."""
    y, x = _within(recipe, size)
    return _step((1 - np.hypot(y, x)) * recipe.diameter_px / 2) * np.exp(2j * np.pi * phase(y, x))


def gaussian(recipe: ProbeRecipe, size: int, phase: Phase) -> np.ndarray:
    """Make a Gaussian beam with the ``e^-2`` diameter ``diameter_px``, ``(N, N)``; phases act within that disc."""
    y, x = _within(recipe, size)
    return np.exp(-(y**2) - x**2) * np.exp(2j * np.pi * phase(y, x))


PROBES: dict[str, Callable[[ProbeRecipe, int, Phase], np.ndarray]] = {
    "zone_plate": zone_plate,
    "kb_mirror": kb_mirror,
    "disc": disc,
    "gaussian": gaussian,
    "diffuser": disc,
}
"""Recipes by their names in the config."""


def incoherent_modes(wave: np.ndarray, occupancies: tuple[float, ...]) -> np.ndarray:
    """Make orthogonal modes, the first like ``wave``, the others with more and more nodes across it.

    Mode m is the wave times a polynomial ``y^a x^b``, made orthogonal to those before: what vibration and a source of
    finite size do to a coherent beam.

    Args:
        wave: ``(N, N)``.
        occupancies: fraction of the photons in each mode.

    Returns:
        Modes, ``(M, N, N)``.
    """
    y, x = (axis / len(wave) for axis in _from_centre_of_mass(np.abs(wave) ** 2))
    orders = ((total - b, b) for total in itertools.count() for b in range(total + 1))
    powers = itertools.islice(orders, len(occupancies))
    stack = np.stack([(wave * y**a * x**b).ravel() for a, b in powers], axis=1)
    orthonormal, triangle = np.linalg.qr(stack)
    modes = (orthonormal * np.sign(np.diag(triangle).real)).T.reshape(-1, *wave.shape)
    return modes * np.sqrt(np.asarray(occupancies))[:, None, None]


def beam_diameter(intensity: np.ndarray, fraction: float = 0.9) -> float:
    """Compute the diameter of the circle around the centre of mass that holds a fraction of the photons.

    Args:
        intensity: of the probe or its far field, ``(N, N)``.
        fraction: of the photons, 0 to 1.

    Returns:
        Diameter, px.
    """
    y, x = _from_centre_of_mass(intensity)
    radius = np.hypot(y, x).ravel()
    order = np.argsort(radius)
    inside = np.cumsum(intensity.ravel()[order])
    return float(2 * radius[order][np.searchsorted(inside, fraction * inside[-1])])


def load_probe(path: Path) -> tuple[np.ndarray, Geometry | None]:
    """Load a probe and its lengths, where the file has them.

    Args:
        path: a scan (``.cxi``), a reconstruction (``.h5``), an ``.npz`` with ``probe`` or ``probeGuess``, an ``.npy``.

    Returns:
        Modes, ``(M, N, N)``, and the geometry.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it holds no probe.
    """
    path = Path(path)
    check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"simulation.probe.file: file not found: {path}")
    if path.suffix == ".cxi":
        scan = read_scan(path, counts=False)
        return scan.probe, scan.geometry
    if is_hdf5(path):
        reconstruction = read_reconstruction(path)
        return reconstruction.probe, reconstruction.geometry
    return _as_modes(_load_array(path), path), None


def _load_array(path: Path) -> np.ndarray:
    try:
        if not zipfile.is_zipfile(path):
            return np.array(open_npy(path))
        with open_npz(path) as archive:
            names = [name for name in ("probe", "probeGuess") if name in archive]
            return np.array(archive.array(names[0], kinds="fc")) if names else np.zeros(0)
    except (ValueError, OSError) as error:
        raise ValueError(f"simulation.probe.file: expected an array of numbers in {path} ({error})") from None


def _as_modes(probe: np.ndarray, path: Path) -> np.ndarray:
    """Return a loaded array as modes ``(M, N, N)``."""
    shape = probe.shape
    if probe.ndim == 3 and shape[2] == 1:  # PtychoPINN's (N, N, 1)
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
    """Draw the phase of one scan's probe over the aperture."""
    nominal_aberrations = {str(name): waves for name, waves in recipe.aberrations.items()}
    defocus, aberrations = draw(
        _defocus(recipe), recipe.defocus_spread, nominal_aberrations, recipe.aberration_spread, rng
    )
    return lambda y, x: phase_waves(defocus, aberrations, y, x)


def _defocus(recipe: ProbeRecipe) -> float:
    if recipe.defocus is not None:
        return recipe.defocus
    return 1.7 if recipe.name in PROBES and recipe.name != "diffuser" else 0.0


def _pupil_edge(recipe: ProbeRecipe, size: int, diffraction: float) -> float:
    """Return the radius of the pupil that makes a spot of ``diameter_px``, cycles/px."""
    edge = float(np.hypot(4 * _defocus(recipe), diffraction) / recipe.diameter_px)
    if not 2 / size < edge < 0.5:
        raise ValueError(
            f"simulation.probe: a spot with diameter_px {recipe.diameter_px:g} and defocus {_defocus(recipe):g} waves "
            f"sends photons to {edge * size:.1f} px from the centre of a pattern, expected 2 to {size / 2:g}: change "
            "the diameter or the defocus"
        )
    return edge


def _focus(pupil: np.ndarray, phase: Phase, edge: float, frequency: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Compute the wave at the sample from a pupil in the far field."""
    y, x = (q / edge for q in frequency)
    return np.fft.fftshift(np.fft.ifft2(pupil * np.exp(2j * np.pi * phase(y, x))))


def _within(recipe: ProbeRecipe, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates at the sample in units of the spot's radius."""
    axis = (np.arange(size) - size // 2) / (recipe.diameter_px / 2)
    return axis[:, None], axis


def _from_centre_of_mass(intensity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates ``(y, x)`` around the centre of mass, px."""
    total = intensity.sum()
    rows, columns = (np.arange(side) for side in intensity.shape)
    return (rows - intensity.sum(1) @ rows / total)[:, None], columns - intensity.sum(0) @ columns / total


def _step(x: np.ndarray) -> np.ndarray:
    """Return a step from 0 to 1 around 0, soft over about one unit."""
    return 1 / (1 + np.exp(-np.clip(2 * x, -50, 50)))
