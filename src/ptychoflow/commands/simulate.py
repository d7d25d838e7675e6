"""Simulate a scan from an object, a probe and a scan path."""

import logging
import time
from pathlib import Path

import numpy as np

from ..config import Simulation
from ..io.provenance import record_provenance
from ..runtime.memory import check_memory
from ..simulation.acquisition import Experiment, SliceStack
from ..simulation.beam_stability import draw_beam_variation
from ..simulation.detector import detector_mask
from ..simulation.objects import make_slices
from ..simulation.probes import beam_diameter
from ..simulation.rng import seeded_rng
from ..simulation.scan_file import named_files, probe_and_geometry, write_experiment
from ..simulation.scan_paths import exposure_points, make_trajectory

logger = logging.getLogger(__name__)

PIXEL_BYTES = 40
"""Memory per pixel of an object at least: amplitude and phase while it is made, and the complex object."""


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
        FileNotFoundError: if the reconstruction, or a file that the settings name, is missing.
        ValueError: naming the setting, if the sample is too small for one pattern, positions lie outside it, or the
            probe does not fit the patterns.

    Example:
        ptychoflow simulate star.cxi --set simulation.object=siemens_star --set simulation.seed=5
    """
    began, seed = time.perf_counter(), simulation.seed
    height, width = simulation.object.size
    check_memory(
        (PIXEL_BYTES + 8 * simulation.object.slices) * height * width,
        f"an object of {height} x {width} px",
        "lower simulation.object.size",
    )
    slices = make_slices(simulation.object, seed)
    image = slices.prod(0)
    modes, geometry = probe_and_geometry(simulation, probe)
    diameter = beam_diameter(np.sum(np.abs(modes) ** 2, axis=0))
    path = simulation.trajectory
    nominal, true = make_trajectory(path, image.shape, simulation.size, diameter, seeded_rng(seed, "trajectory"))
    logger.info("made %s of %s px and %d positions", simulation.object.name, image.shape, len(true))
    mask = detector_mask(simulation.detector, simulation.size, seed)
    beam = draw_beam_variation(simulation.beam, len(true), seeded_rng(seed, "beam"))
    thickness = SliceStack.of(slices, simulation.object.slice_spacing_m, simulation.size, geometry)
    exposures = exposure_points(path)
    experiment = Experiment(
        image, modes, true, exposures, simulation.detector, mask, seed, geometry, beam=beam, thickness=thickness
    )
    metadata = {
        "photons_requested": simulation.photons_per_pattern,
        "beam_diameter_px": diameter,
        "nominal_geometry": True,
        "provenance": record_provenance(simulation, probe=probe, **named_files(simulation)),
    }
    scan = write_experiment(output, experiment, nominal, geometry, metadata)
    measured, seconds = scan.metadata["photons_measured"], time.perf_counter() - began
    logger.info("simulated %s: %.4g counts per pattern, %s, %.1f s", output, measured, scan.counts.dtype, seconds)
