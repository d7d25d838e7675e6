"""Simulation of a scan into a file: probe and geometry from the settings, counts in bounded memory."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..config import Simulation
from ..core.scan import Geometry, Scan, smallest_dtype
from ..io.scan_cxi import write_scan
from .acquisition import Experiment, as_scan, nominal_geometry
from .probes import adapt_probe, load_probe, make_probe
from .rng import seeded_rng

logger = logging.getLogger(__name__)


def write_experiment(
    path: Path, experiment: Experiment, nominal: np.ndarray, geometry: Geometry, metadata: dict
) -> Scan:
    """Write the counts of an experiment into a scan file.

    The counts are kept in a temporary file beside ``path`` until the largest, and with it the smallest dtype, is known.

    Args:
        path: the scan, ``.cxi``.
        experiment: yields the counts.
        nominal: nominal positions ``(y, x)``, ``(J, 2)``, px.
        geometry: lengths.
        metadata: plain data.

    Returns:
        The scan as written, with mean counts and saturation in its metadata; its counts are on disk only.
    """
    path, limit = Path(path), experiment.detector.saturation
    path.parent.mkdir(parents=True, exist_ok=True)
    greatest, total, saturated = 0, 0, 0
    with tempfile.TemporaryFile(dir=path.parent) as scratch:
        for block in experiment.counts():
            greatest, total = max(greatest, int(block.max())), total + int(block.sum())
            saturated += 0 if limit is None else int((block >= limit).sum())
            scratch.write(block.data)
        size, dtype = experiment.probe.shape[-1], smallest_dtype(np.asarray([greatest]))
        metadata = metadata | {"photons_measured": total / len(experiment)}
        if limit is not None:
            metadata["saturated_pixels_per_pattern"] = saturated / len(experiment)
        announced = np.broadcast_to(np.zeros((), dtype), (len(experiment), size, size))
        scan = as_scan(experiment, announced, nominal, geometry, path.stem, metadata)
        scratch.seek(0)
        write_scan(path, scan, _read_back(scratch, size, dtype))
    return scan


def _read_back(scratch: BinaryIO, size: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield the counts in the temporary file as ``dtype``, 16 MiB at a time."""
    bytes_per_pattern = size * size * np.dtype(np.int64).itemsize
    while data := scratch.read(max(1, (1 << 24) // bytes_per_pattern) * bytes_per_pattern):
        yield np.frombuffer(data, np.int64).reshape(-1, size, size).astype(dtype)


def probe_and_geometry(simulation: Simulation, path: Path | None) -> tuple[np.ndarray, Geometry]:
    """Return the probe ``(M, N, N)``, sqrt(photons), and the lengths of a simulation.

    Args:
        simulation: settings.
        path: a reconstruction whose probe and geometry are used, with ``simulation.probe: reconstruction``.

    Raises:
        FileNotFoundError: if the file of the probe is missing.
        ValueError: if the probe has another size than the patterns, or ``path`` does not suit the settings.
    """
    recipe, rng = simulation.probe, seeded_rng(simulation.seed, "probe")
    if (recipe.name == "reconstruction") != (path is not None):
        raise ValueError(
            f"got simulation.probe {recipe.name} and --probe {path}: give --probe with simulation.probe "
            "reconstruction, and only then"
        )
    nominal = nominal_geometry(simulation.geometry, simulation.size)
    if path is None and recipe.name != "file":
        return make_probe(recipe, simulation.size, simulation.photons_per_pattern, rng), nominal
    source = path if path is not None else Path(str(recipe.file))
    modes, geometry = load_probe(source)
    if modes.shape[-1] != simulation.size:
        raise ValueError(
            f"simulation.size is {simulation.size} px, but the probe in {source} has {modes.shape[-1]} px: set "
            f"simulation.size to {modes.shape[-1]}"
        )
    return adapt_probe(modes, recipe, simulation.photons_per_pattern, rng), geometry or nominal


def named_files(simulation: Simulation) -> dict[str, str | None]:
    """Return the files that the settings name, for the provenance of the scan."""
    images = (name for name in simulation.object.images if Path(name).is_file())
    named = {"probe_file": simulation.probe.file, "positions": simulation.trajectory.file}
    return named | {f"image_{n}": name for n, name in enumerate(images)}
