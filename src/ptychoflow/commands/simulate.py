"""Simulate a scan: a sample, a beam, a path, and photons counted one by one."""

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..config import Simulation
from ..core.scan import Geometry, Scan, smallest_dtype
from ..io.provenance import record_provenance
from ..io.scan_cxi import write_scan
from ..simulation.acquisition import Experiment, as_scan, nominal_geometry
from ..simulation.detector import detector_mask
from ..simulation.objects import make_object
from ..simulation.probes import adapt_probe, beam_diameter, load_probe, make_probe
from ..simulation.rng import seeded_rng
from ..simulation.scan_paths import exposure_points, make_trajectory

logger = logging.getLogger(__name__)


def simulate(output: Path, simulation: Simulation = Simulation(), probe: Path | None = None) -> None:
    """Simulate a scan from an object, a probe and a scan path.

    Reads nothing, or the probe of a reconstruction. Makes a CXI file with counts, positions, probe and ground truth,
    of any length in bounded memory.

    The same settings give the same file on every machine of one kind: it is computed on the CPU, and each random
    quantity has a generator of its own.

    Args:
        output: the scan, ``.cxi``.
        simulation: sample, beam, path, detector, photons and seed.
        probe: a reconstruction whose refined probe and geometry to use, with ``simulation.probe: reconstruction``.

    Raises:
        FileNotFoundError: if there is no such reconstruction, or no file that the settings name.
        ValueError: naming the setting, if the sample is too small for one pattern, positions lie outside it, or the
            probe does not fit the patterns.

    Example:
        ptychoflow simulate star.cxi --set simulation.object=siemens_star --set simulation.seed=5
    """
    began, seed = time.perf_counter(), simulation.seed
    image = make_object(simulation.object, seeded_rng(seed, "object"))
    modes, geometry = _probe_and_geometry(simulation, probe)
    diameter = beam_diameter(np.sum(np.abs(modes) ** 2, axis=0))
    path = simulation.trajectory
    nominal, true = make_trajectory(path, image.shape, simulation.size, diameter, seeded_rng(seed, "trajectory"))
    logger.info("made %s of %s px and %d positions", simulation.object.name, image.shape, len(true))
    mask = detector_mask(simulation.detector, simulation.size, seed)
    experiment = Experiment(image, modes, true, exposure_points(path), simulation.detector, mask, seed)
    metadata = {
        "photons_asked": simulation.photons_per_pattern,
        "beam_diameter_px": diameter,
        "nominal_geometry": True,
        "provenance": record_provenance(simulation, probe=probe, **_files_named(simulation)),
    }
    scan = write_experiment(output, experiment, nominal, geometry, metadata)
    measured, seconds = scan.metadata["photons_measured"], time.perf_counter() - began
    logger.info("simulated %s: %.4g counts per pattern, %s, %.1f s", output, measured, scan.counts.dtype, seconds)


def write_experiment(
    path: Path, experiment: Experiment, nominal: np.ndarray, geometry: Geometry, metadata: dict
) -> Scan:
    """Count the photons of an experiment into a scan file.

    The counts wait in a nameless file beside ``path`` until the greatest, and with it the smallest dtype, is known.

    Returns:
        The scan as written, with what was measured in its facts; its counts are on disk only.
    """
    path, limit = Path(path), experiment.detector.saturation
    path.parent.mkdir(parents=True, exist_ok=True)
    greatest, total, saturated = 0, 0, 0
    with tempfile.TemporaryFile(dir=path.parent) as scratch:
        for block in experiment.counts():
            greatest, total = max(greatest, int(block.max())), total + int(block.sum())
            saturated += 0 if limit is None else int((block >= limit).sum())
            scratch.write(block)
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
    """The counts in the scratch file, as ``dtype``, 16 MiB at a time."""
    bytes_per_pattern = size * size * np.dtype(np.int64).itemsize
    while data := scratch.read(max(1, (1 << 24) // bytes_per_pattern) * bytes_per_pattern):
        yield np.frombuffer(data, np.int64).reshape(-1, size, size).astype(dtype)


def _probe_and_geometry(simulation: Simulation, path: Path | None) -> tuple[np.ndarray, Geometry]:
    recipe, rng = simulation.probe, seeded_rng(simulation.seed, "probe")
    if (recipe.name == "reconstruction") != (path is not None):
        raise ValueError(
            f"simulation.probe is {recipe.name} and the reconstruction to take a probe from is {path}: "
            "give a file with `reconstruction`, and only then"
        )
    nominal = nominal_geometry(simulation.geometry, simulation.size)
    if path is None and recipe.name != "file":
        return make_probe(recipe, simulation.size, simulation.photons_per_pattern, rng), nominal
    source = path if path is not None else Path(recipe.file)
    found, geometry = load_probe(source)
    if found.shape[-1] != simulation.size:
        raise ValueError(f"simulation.size is {simulation.size} px but the probe in {source} {found.shape[-1]} px")
    return adapt_probe(found, recipe, simulation.photons_per_pattern, rng), geometry or nominal


def _files_named(simulation: Simulation) -> dict[str, str | None]:
    """Files that the settings name, for the record of what made the scan."""
    images = (name for name in simulation.object.images if Path(name).is_file())
    named = {"probe_file": simulation.probe.file, "positions": simulation.trajectory.file}
    return named | {f"image_{n}": name for n, name in enumerate(images)}
