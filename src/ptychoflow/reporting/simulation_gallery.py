"""Page of everything that can be simulated, with pictures drawn by the simulation itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from ..config import Aberration, Detector, ObjectRecipe, ProbeRecipe, Recipe, Trajectory
from ..io.atomic import atomic_dir
from ..reporting.images import AMPLITUDE, MAGNITUDE, PHASE, colour, colour_wave, log_counts
from ..simulation.acquisition import Experiment
from ..simulation.detector import detector_mask
from ..simulation.objects import OBJECTS, make_object
from ..simulation.probes import PROBES, make_probe
from ..simulation.rng import seeded_rng
from ..simulation.scan_paths import TRAJECTORIES, make_trajectory

SEED, PHOTONS = 3, 1e5
OBJECT_PX, PATTERN_PX, ZOOM = 144, 64, 2
GRAY, RED = np.array([(170, 170, 170, 255), (178, 24, 43, 255)], np.uint8)
GAP = 4
"""Pixels between the tiles of a picture."""
PAGE = """# What can be simulated

A scan is made of an object, a probe, a scan path and a detector. Section `simulation` of a configuration names them,
each with its settings. A bare name is short for a recipe with defaults, and a part that is not named has defaults too:

```yaml
scans:
  cells:
    simulation: {{object: {{name: polyhedra, count: 80}}, probe: kb_mirror, trajectory: fermat, seed: 5}}
```

```sh
ptychoflow simulate cells.cxi --config '{{"simulation": {{"object": "polyhedra", "probe": "kb_mirror"}}}}'
```

[Settings](../settings.md#simulation) lists every setting with unit, range and default;
[Datagen](../../how-to/python-api.md#datagen) does the same from Python, also with arrays of your own. This page and its
pictures come from the code: `ptychoflow docs gallery docs/reference/simulation`.

What holds for every simulated scan:

- Expected counts are `sum over modes of |F[P O]|^2`, the one forward model of training, refinement and evaluation;
  the probe carries the part of a position below a pixel by a Fourier shift, so nothing is interpolated.
- `photons_per_pattern` is the power of the probe, `sum |P|^2`, the same for the whole scan. An absorbing object lowers
  the counts. The file records the photons of the probe and the mean counts.
- Object, path, probe, dead pixels and noise have random numbers of their own, all from `seed`. No batch size, number of
  threads or order changes a pattern. A scan of any length is simulated in bounded memory.
- Labels are cut from the ground truth by the adjoint of the function that stitches.

## Objects

Amplitude on the left, dark to bright over `amplitude`; phase on the right, blue to yellow over `phase_rad`, which may
exceed pi. Shares are of the shorter side.

{objects}

## Probes

The wave at the sample, hue for phase and value for amplitude, and its intensity on the detector, logarithmic.
`file` takes the probe of a scan, a reconstruction, an `.npz` or an `.npy`, `reconstruction` one that the same
workflow has refined; both can be given defocus, aberrations and modes as those that follow.

{probes}

`modes: [0.7, 0.2, 0.1]` makes orthogonal modes that add as intensities, with these shares of the power:

{modes}

`defocus_spread: 1.2` draws the defocus of each scan by its seed, here 1 to 6; `aberration_spread` does the same with
aberrations, so that one training set holds many beams:

{spread}

`aberrations: {{coma_y: 0.15}}` adds Zernike aberrations, waves rms, here 0.15 of each:

{aberrations}

## Paths

Patches lie inside the object. `step_px` or `overlap_percent` says how dense; points in the order of the scan, dark to
bright.

{paths}

`error_px` and `drift_px` move every true position off the nominal one. The file records the nominal position, and the
true one with the ground truth. `fly_scan_length_px` spreads an exposure along x over `fly_scan_samples` points. Nominal
positions in gray, true ones in red:

{errors}

## Detectors

The same pattern, logarithmic; a pixel that does not count is masked in the file.

{detectors}
"""


@dataclass(frozen=True)
class Entry:
    """One row of the page.

    Attributes:
        name: what stands in the config, and names the picture.
        tiles: pictures side by side, ``(H, W, 4)`` uint8.
        words: its recipe.
    """

    name: str
    tiles: list[np.ndarray]
    words: str = ""


def write_gallery(output: Path) -> None:
    """Write the page ``README.md`` and its pictures into a folder, atomically."""
    with atomic_dir(output, ("README.md", "*.webp")) as folder:
        tables = {}
        for section, entries in SECTIONS.items():
            lines = []
            for entry in entries():
                file = f"{section}-{entry.name.split(':')[0].replace(' ', '-')}.webp"
                side_by_side(entry.tiles).save(folder / file, "WEBP", quality=72, method=6)
                lines.append(f"| `{entry.name}` | ![{entry.name}]({file}) | {entry.words} |")
            tables[section] = "\n".join(["| | | |", "|---|---|---|", *lines])
        (folder / "README.md").write_text(PAGE.format(**tables))


def side_by_side(tiles: list[np.ndarray]) -> Image.Image:
    """Tiles of one height as one picture, white between them."""
    white = np.full((len(tiles[0]), GAP, 4), 255, np.uint8)
    parts = [part for tile in tiles for part in (white, tile)][1:]
    return Image.fromarray(np.concatenate(parts, axis=1)[..., :3], "RGB")


def _objects() -> Iterator[Entry]:
    for name, make in OBJECTS.items():
        recipe = ObjectRecipe(name=name, size=OBJECT_PX)
        image = make_object(recipe, seeded_rng(SEED, "object"))
        amplitude = _tile(np.abs(image), AMPLITUDE, recipe.amplitude)
        yield Entry(name, [amplitude, _tile(np.angle(image), PHASE, recipe.phase_rad)], _recipe_of(make, ObjectRecipe))


def _probes() -> Iterator[Entry]:
    for name, make in PROBES.items():
        probe = _probe(name=name)
        yield Entry(name, [_wave(probe[0]), _pattern(_far_field(probe))], _recipe_of(make, ProbeRecipe))


def _modes() -> Iterator[Entry]:
    yield Entry("modes", [_wave(mode) for mode in _probe(modes=(0.7, 0.2, 0.1))])


def _spread() -> Iterator[Entry]:
    yield Entry("defocus_spread", [_wave(_probe(seed, defocus_spread=1.2)[0]) for seed in range(1, 7)])


def _aberrations() -> Iterator[Entry]:
    for name in get_args(Aberration):
        yield Entry(name, [_wave(_probe(aberrations={name: 0.15})[0])])


def _paths() -> Iterator[Entry]:
    for name, make in TRAJECTORIES.items():
        if name != "file":
            recipe = Trajectory(name=name, step_px=10)
            places = _positions(recipe)[1]
            shades = _tile(np.arange(len(places))[None], MAGNITUDE, (0, 1.3 * len(places)))[0]
            yield Entry(name, [_dots((places, shades))], _recipe_of(make, Trajectory))


def _errors() -> Iterator[Entry]:
    for settings, words in (
        ({"error_px": 1.5}, "each position by itself, px rms along each axis"),
        ({"drift_px": 12.0}, "steadily over the scan, px from first to last"),
    ):
        nominal, true = _positions(Trajectory(name="raster", step_px=12, **settings))
        ((name, value),) = settings.items()
        yield Entry(f"{name}: {value:g}", [_dots((nominal, GRAY), (true, RED))], words)


def _detectors() -> Iterator[Entry]:
    image = make_object(ObjectRecipe(size=OBJECT_PX), seeded_rng(SEED, "object"))
    place = np.full((1, 2), OBJECT_PX / 2)
    for settings in (
        *({}, {"point_spread_px": 1.5}, {"dark_counts": 3.0}, {"read_noise": 3.0}),
        *({"saturation": 30}, {"dead_pixels": 0.05}, {"beamstop_px": 10.0}),
    ):
        detector = Detector(**settings)
        mask = detector_mask(detector, PATTERN_PX, SEED)
        experiment = Experiment(image, _probe(), place, detector=detector, mask=mask, seed=SEED)
        name = next((f"{name}: {value:g}" for name, value in settings.items()), "perfect")
        words = (
            "\n".join(Detector.model_fields[field].description or "" for field in settings)
            or "Poisson noise, nothing else."
        )
        yield Entry(name, [_pattern(next(experiment.counts())[0])], _in_a_line(words))


SECTIONS: dict[str, Callable[[], Iterator[Entry]]] = {
    "objects": _objects,
    "probes": _probes,
    "modes": _modes,
    "spread": _spread,
    "aberrations": _aberrations,
    "paths": _paths,
    "errors": _errors,
    "detectors": _detectors,
}
"""What fills each table of the page."""


def _recipe_of(make: Callable, schema: type[Recipe]) -> str:
    """Return the docstring of a recipe's function and the settings that act on it alone."""
    acting = [f"`{setting}`" for setting, names in schema.acts_on.items() if make.__name__ in names]
    return _in_a_line(make.__doc__) + (f" Settings: {', '.join(acting)}." if acting else "")


def _in_a_line(text: str | None) -> str:
    return " ".join((text or "").replace("``", "`").split())


def _probe(seed: int = SEED, **settings) -> np.ndarray:
    return make_probe(ProbeRecipe(**settings), PATTERN_PX, PHOTONS, seeded_rng(seed, "probe"))


def _positions(recipe: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    side = OBJECT_PX + PATTERN_PX
    return make_trajectory(recipe, (side, side), PATTERN_PX, 24.0, seeded_rng(SEED, "trajectory"))


def _far_field(probe: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(np.sum(np.abs(np.fft.fft2(probe, norm="ortho")) ** 2, axis=0))


def _tile(values: np.ndarray, colours: str, scale: tuple[float, float]) -> np.ndarray:
    return colour(values, np.ones(values.shape, bool), scale, colours)


def _pattern(counts: np.ndarray) -> np.ndarray:
    return _zoomed(_tile(log_counts(counts), MAGNITUDE, (0, 3.2)))


def _wave(mode: np.ndarray) -> np.ndarray:
    return _zoomed(colour_wave(mode))


def _zoomed(tile: np.ndarray) -> np.ndarray:
    return tile.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)


def _dots(*positions: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Positions as dots of 3 x 3 pixels, each set with its colour, or one for each of them."""
    tile = np.full((OBJECT_PX + 8, OBJECT_PX + 8, 4), 255, np.uint8)
    for places, colours in positions:
        corners = np.rint(places).astype(int) - PATTERN_PX // 2 + 3
        for (y, x), shade in zip(corners, np.broadcast_to(colours, (len(places), 4)), strict=True):
            tile[y : y + 3, x : x + 3] = shade
    return tile
