"""Calibration of the phase uncertainty of a refinement, on simulated scans.

    python benchmarks/uncertainty.py [--model results/networks/pinn.ckpt]

For each object and number of photons: the rms error, the rms uncertainty, and how many pixels lie within 1 and 1.96
standard deviations, which should be 68 and 95 %; from a uniform start, and from the network where a model is given.
Prints Markdown.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from ptychoflow.commands.infer import infer
from ptychoflow.commands.pack import pack
from ptychoflow.commands.refine import refine
from ptychoflow.commands.simulate import simulate
from ptychoflow.commands.stitch import stitch
from ptychoflow.config import Refinement, Runtime, Simulation
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.metrics.alignment import align

CPU = Runtime(accelerator="cpu", threads=1)
UNIFORM = Refinement(epochs=25, low_order_phase_epochs=12, uncertainty=True)
NETWORK = Refinement(uncertainty=True)
OBJECTS = ["siemens_star", "gaussian_random_field", "perlin_noise", "polyhedra", "points", "photograph:rocket,moon"]


def measure(folder: Path, kind: str, photons: float, step_px: float, seed: int, model: Path | None) -> str:
    """One row of the table."""
    name, _, images = kind.partition(":")
    sample = {"name": name, "size": 176} | ({"images": images.split(",")} if images else {})
    recipe = {"object": sample, "photons_per_pattern": photons, "seed": seed}
    recipe["trajectory"] = {"step_px": step_px, "jitter_px": step_px / 4}
    simulate(folder / "scan.cxi", Simulation.model_validate(recipe))
    pack(folder / "scan.cxi", folder / "scan")
    start = None
    if model is not None:
        infer(model, folder / "scan", folder / "patches", runtime=CPU)
        stitch(folder / "scan", folder / "patches", start := folder / "stitched.h5")
    refine(folder / "scan", folder / "refined.h5", UNIFORM if model is None else NETWORK, start, CPU)
    found, truth = read_reconstruction(folder / "refined.h5"), open_dataset(folder / "scan").truth
    aligned = align(found.object, found.origin, found.coverage, np.asarray(truth.object), truth.origin)
    error = np.angle(aligned.object * aligned.truth.conj())[aligned.mask]
    error, phase_std = error - error.mean(), found.phase_uncertainty[aligned.mask]
    inside = [np.mean(np.abs(error) < width * phase_std) for width in (1, 1.96)]
    sizes = [np.sqrt(np.mean(part**2)) for part in (error, phase_std)]
    start_name = "uniform" if model is None else "network"
    cells = [kind, f"{step_px:g}", f"{photons:.0e}", start_name, *(f"{size:.4f}" for size in sizes)]
    return "| " + " | ".join([*cells, *(f"{100 * share:.0f} %" for share in inside)]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a network to start from as well")
    parser.add_argument("--objects", nargs="+", default=OBJECTS, help="kinds, or photograph:PHASE,AMPLITUDE")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--steps", type=float, nargs="+", default=[8])
    parser.add_argument("--photons", type=float, nargs="+", default=[1e4, 1e5, 1e6])
    arguments = parser.parse_args()
    print("| object | step, px | photons | start | rms error, rad | rms uncertainty, rad | within 1 | within 1.96 |")
    print("|---|--:|--:|---|--:|--:|--:|--:|")
    for model in (None, arguments.model) if arguments.model else (None,):
        for kind in arguments.objects:
            for step in arguments.steps:
                for photons in arguments.photons:
                    with tempfile.TemporaryDirectory() as scratch:
                        print(measure(Path(scratch), kind, photons, step, arguments.seed, model), flush=True)


if __name__ == "__main__":
    main()
