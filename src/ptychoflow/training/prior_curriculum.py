"""Random scans to train the learned prior on: beams, samples, doses and densities of every kind."""

import dataclasses
from functools import cache

import numpy as np

from ..config import ObjectRecipe, ProbeRecipe, Trajectory
from ..core.scan import Scan
from ..simulation.acquisition import from_simulation
from ..simulation.objects import make_object
from ..simulation.probes import make_probe
from ..simulation.scan_paths import make_trajectory

OBJECTS = {
    "dead_leaves": 6,
    "lines": 2,
    "gaussian_random_field": 1,
    "procedural": 2,
    "polyhedra": 2,
    "perlin_noise": 1,
    "blurred_noise": 1,
    "points": 1,
    "siemens_star": 2,
    "photograph": 2,
}
"""Kinds of objects and how often each is drawn."""
PROBES = {"zone_plate": 2, "kb_mirror": 1, "disc": 1, "gaussian": 1}
"""Kinds of probes and how often each is drawn."""
PHOTOGRAPHS = ("camera", "brick", "grass", "gravel", "coins", "page", "clock", "text", "cell")
"""Images of scikit-image, those of them that this installation has."""
MOST_PATTERNS = 260
"""Patterns of a scan; a denser one gets a longer step."""


def random_scan(rng: np.random.Generator) -> Scan:
    """Simulate a random scan; its probe is, in half of the cases, not quite the one that was used.

    Patterns have 32 or 64 px, the spot 8 px to half of that, steps are 0.12 to 0.8 of the spot and may be thinned out
    at random, 1e2 to 3e6 photons in a pattern, phases of 0.05 to 2.5 rad.

    Args:
        rng: what to draw from.

    Raises:
        ValueError: if the beam that was drawn does not fit into its patterns: draw again.
    """
    size = int(rng.choice([32, 64, 64]))
    field = int(rng.integers(70, 130))
    image = _random_object(size + field, rng)
    diameter = float(rng.uniform(8, min(0.55 * size, 34)))
    recipe = _random_probe(diameter, rng)
    photons = float(np.exp(rng.uniform(np.log(1e2), np.log(3e6))) * diameter / 20)
    probe_seed = int(rng.integers(1 << 30))
    probe = make_probe(recipe, size, photons, np.random.default_rng(probe_seed))
    positions = _random_positions(field, image.shape, size, diameter, rng)
    scan = from_simulation(positions, probe, image, seed=int(rng.integers(1 << 30)))
    return _with_known_probe(scan, recipe, photons, probe_seed, rng)


def _random_object(side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a complex object, ``(side, side)``, of a random kind and strength."""
    kind = _weighted(OBJECTS, rng)
    strength = float(np.exp(rng.uniform(np.log(0.05), np.log(2.5))))
    lowest = float(rng.choice([0.999, rng.uniform(0.3, 0.999)]))
    settings: dict = {"name": kind, "amplitude": (lowest, 1.0), "phase_rad": (-strength / 2, strength / 2)}
    if kind == "photograph":
        settings["images"] = tuple(str(name) for name in rng.choice(_photographs(), 2))
    if kind == "siemens_star":
        settings["spokes"] = int(rng.integers(6, 30))
    enlarged = side * int(rng.integers(1, 4)) if kind in ("photograph", "siemens_star") else side
    image = make_object(ObjectRecipe(size=(enlarged, enlarged), **settings), rng)
    top, left = rng.integers(0, enlarged - side + 1, 2)
    return np.rot90(image[top : top + side, left : left + side], int(rng.integers(4)))


def _random_probe(diameter: float, rng: np.random.Generator) -> ProbeRecipe:
    kind = _weighted(PROBES, rng)
    defocus = float(rng.uniform(0.2, 4) * rng.choice([-1, 1])) if kind != "gaussian" else float(rng.uniform(0, 3))
    second = float(rng.uniform(0.03, 0.25))
    settings: dict = {"central_stop": float(rng.uniform(0, 0.5))} if kind == "zone_plate" else {}
    return ProbeRecipe(
        name=kind,
        diameter_px=diameter,
        defocus=defocus,
        aberration_spread=float(rng.choice([0, rng.uniform(0, 0.3)])),
        modes=None if rng.random() < 0.6 else (1 - second - second / 3, second, second / 3),
        **settings,
    )


def _random_positions(
    field: int, shape: tuple[int, ...], size: int, diameter: float, rng: np.random.Generator
) -> np.ndarray:
    """Return positions, px, ``(J, 2)``, in one of three cases with random gaps."""
    step = float(np.clip(diameter * rng.uniform(0.12, 0.8), 1.5, 20))
    step = max(step, field / np.sqrt(MOST_PATTERNS))
    path = Trajectory(name=str(rng.choice(["jittered_raster", "fermat", "raster"])), step_px=step)
    positions = make_trajectory(path, (shape[0], shape[1]), size, diameter, rng)[1]
    if rng.random() < 0.35 and len(positions) > 30:
        kept = int(len(positions) * rng.uniform(0.25, 0.9))
        positions = positions[np.sort(rng.permutation(len(positions))[:kept])]
    return positions


def _with_known_probe(
    scan: Scan, recipe: ProbeRecipe, photons: float, probe_seed: int, rng: np.random.Generator
) -> Scan:
    """Return the scan with the probe that a refinement starts from: the true one, its first mode, or a wrong one."""
    case = rng.random()
    if case < 0.5:
        return scan
    if case > 0.8:
        return dataclasses.replace(scan, probe=scan.probe[:1])
    wrong = recipe.model_copy(
        update={
            "defocus": (recipe.defocus or 0.0) * float(rng.normal(1, 0.08)),
            "diameter_px": recipe.diameter_px * float(rng.normal(1, 0.03)),
            "modes": None,
        }
    )
    probe = make_probe(wrong, scan.size, photons, np.random.default_rng(probe_seed))
    return dataclasses.replace(scan, probe=probe.astype(np.complex64))


def _weighted(choices: dict[str, int], rng: np.random.Generator) -> str:
    weights = np.array(list(choices.values()), float)
    return str(rng.choice(list(choices), p=weights / weights.sum()))


@cache
def _photographs() -> tuple[str, ...]:
    """Return the photographs that this installation of scikit-image has."""
    available = []
    for name in PHOTOGRAPHS:
        try:
            make_object(ObjectRecipe(name="photograph", size=(64, 64), images=(name, name)), np.random.default_rng(0))
        except (ValueError, OSError):
            continue
        available.append(name)
    return tuple(available)
