"""Simulate a scan: a sample, a beam, a path, and photons counted one by one."""

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .config import Simulation
from .datagen.experiments import BLOCK, count_photons, expected_blocks
from .datagen.objects import make_object
from .datagen.probes import make_probe, scale_to_photons
from .datagen.trajectories import make_trajectory
from .files import provenance
from .reconstruction import read_reconstruction
from .scan import Geometry, Scan, Truth, smallest_dtype, write_scan

logger = logging.getLogger(__name__)


def simulate(output: Path, simulation: Simulation = Simulation(), probe: Path | None = None) -> None:
    """Simulate a scan into a CXI file.

    Args:
        output: the file; it appears whole or not at all.
        simulation: sample, beam, path, photons and seed.
        probe: a reconstruction whose refined probe and geometry to use, with ``simulation.probe: reconstruction``.

    Raises:
        FileNotFoundError: if there is no such reconstruction.
        ValueError: if the sample is too small for one pattern, or the probe does not fit the patterns.
    """
    began = time.perf_counter()
    streams = [np.random.default_rng([simulation.seed, part]) for part in range(2)]
    image = make_object(simulation.object, streams[0])
    positions = make_trajectory(simulation.trajectory, image.shape, simulation.size, streams[1])
    modes, geometry = _probe_and_geometry(simulation, probe)
    logger.info("made %s of %s px and %d positions", simulation.object.name, image.shape, len(positions))
    with tempfile.TemporaryFile() as scratch:
        counts = np.memmap(scratch, np.uint32, "w+", shape=(len(positions), *modes.shape[1:]))
        greatest = _fill(counts, image, modes, positions, simulation.seed)
        dtype = smallest_dtype(np.asarray([greatest]))
        measured = sum(float(block.sum(dtype=np.float64)) for block in _blocks(counts)) / len(counts)
        facts = {
            "photons_asked": simulation.photons,
            "photons_measured": measured,
            "nominal_geometry": True,
            "provenance": provenance(simulation, probe=probe),
        }
        announced = np.broadcast_to(np.zeros((), dtype), counts.shape)
        scan = Scan(announced, positions, modes, geometry, truth=Truth(image), name=Path(output).stem, facts=facts)
        write_scan(output, scan, (block.astype(dtype) for block in _blocks(counts)))
    seconds = time.perf_counter() - began
    logger.info("simulated %s: %.4g counts per pattern, %s, %.1f s", output, measured, dtype, seconds)


def _probe_and_geometry(simulation: Simulation, path: Path | None) -> tuple[np.ndarray, Geometry]:
    recipe, nominal = simulation.probe, simulation.geometry
    if (recipe.name == "reconstruction") != (path is not None):
        raise ValueError(
            f"simulation.probe is {recipe.name} and the reconstruction to take a probe from is {path}: "
            "give a file with `reconstruction`, and only then"
        )
    if path is None:
        geometry = Geometry.from_detector(
            simulation.size, nominal.energy_ev, nominal.detector_distance_m, nominal.detector_pixel_m
        )
        return make_probe(recipe, simulation.size, simulation.photons), geometry
    refined = read_reconstruction(path)
    if refined.probe.shape[-1] != simulation.size:
        raise ValueError(
            f"simulation.size is {simulation.size} px but the probe of {path} {refined.probe.shape[-1]} px"
        )
    return scale_to_photons(refined.probe, simulation.photons), refined.geometry


def _fill(counts: np.ndarray, image: np.ndarray, probe: np.ndarray, positions: np.ndarray, seed: int) -> int:
    """Count every pattern into ``counts``; the greatest count."""
    greatest = 0
    for block, expected in enumerate(expected_blocks(image, probe, positions)):
        first = block * BLOCK
        drawn = count_photons(expected, first, seed)
        counts[first : first + len(drawn)] = drawn
        greatest = max(greatest, int(drawn.max()))
    return greatest


def _blocks(counts: np.ndarray) -> Iterator[np.ndarray]:
    return (counts[first : first + 1024] for first in range(0, len(counts), 1024))
