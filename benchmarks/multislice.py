"""Two Siemens stars at different depths, refined as slices: how well they come apart, and what a slice costs.

    python benchmarks/multislice.py [--epochs 200] [--json OUT]

A depth of field is ``wavelength / NA^2`` with ``NA = wavelength / (2 pixel)``. ``own`` is the least correlation of a
slice with its ground truth, ``other`` the greatest with the other's, ``truths`` that of the two ground truths.
``--json`` writes ``[{case, own, other, truths, r_factor, r_factor_thin, epoch_ratio}]``; ``epoch_ratio`` is the
processor time of an epoch over that of one slice in the same run.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from ptychoflow.commands.simulate import simulate
from ptychoflow.config import Refinement, Simulation
from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.core.scan import GroundTruth, Scan
from ptychoflow.io.scan_cxi import read_scan
from ptychoflow.refinement.run import refine_scan
from ptychoflow.runtime.distributed import DistributedContext

CASES = {"5 depths of field, 64 px": (64, 5, 144, 28, 6), "20 depths of field, 128 px": (128, 20, 288, 56, 12)}
"""Side of a pattern, px; depths of field; side of the object, px; diameter of the beam and step of the scan, px."""


def main() -> None:
    """Run all cases, and print or write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(name, options.epochs) for name in CASES]
    for row in rows:
        print(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def measure(name: str, epochs: int) -> dict[str, float | str]:
    """Refine a case with two slices and with one."""
    scan = make_scan(*CASES[name])
    assert scan.truth is not None
    thick = refined(scan, epochs=epochs, slices=2, slice_spacing_m=scan.truth.slice_spacing_m)
    thin = refined(scan, epochs=epochs)
    found = correlations(thick, scan.truth)
    slices = np.asarray(scan.truth.slices)
    return {
        "case": name,
        "own": float(found.diagonal().min()),
        "other": float(max(found[0, 1], found[1, 0])),
        "truths": correlation(slices[0].ravel(), slices[1].ravel()),
        "r_factor": thick.history["error"][-1],
        "r_factor_thin": thin.history["error"][-1],
        "epoch_ratio": thick.history["cpu_seconds"][-1] / thin.history["cpu_seconds"][-1],
    }


def make_scan(size: int, depths: int, side: int, diameter_px: int, step_px: int) -> Scan:
    """Simulate two stars that many depths of field apart, 1e6 photons a pattern."""
    geometry = Simulation(size=size).geometry
    wavelength_m = 1.239842e-6 / geometry.energy_ev
    pixel_m = wavelength_m * geometry.detector_distance_m / (size * geometry.detector_pixel_m)
    sample = {"name": "siemens_star", "size": (side, side), "slices": 2}
    sample["slice_spacing_m"] = min(4 * depths, 0.999 * size) * pixel_m**2 / wavelength_m
    simulation = Simulation.model_validate(
        {
            "size": size,
            "object": sample,
            "probe": {"diameter_px": diameter_px, "defocus": 1.5},
            "trajectory": {"step_px": step_px, "jitter_px": 1.0},
            "photons_per_pattern": 1e6,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder) / "stars.cxi", simulation)
        return read_scan(Path(folder) / "stars.cxi")


def refined(scan: Scan, **settings: object) -> Reconstruction:
    """Refine a scan from a uniform object, all epochs."""
    chosen = Refinement.model_validate({"stop": "epochs", "convergence_tolerance": 0} | settings)
    return refine_scan(scan, chosen, None, DistributedContext(), None, lambda row: True)


def correlations(found: Reconstruction, truth: GroundTruth) -> np.ndarray:
    """Return the modulus of the correlation of each slice found with each true one where covered, ``(S, S)``."""
    assert found.slices is not None
    y, x = (round(mine - true) for mine, true in zip(found.origin, truth.origin, strict=True))
    rows, columns = np.nonzero(found.coverage)
    height, width = truth.object.shape
    inside = (rows + y >= 0) & (columns + x >= 0) & (rows + y < height) & (columns + x < width)
    rows, columns = rows[inside], columns[inside]
    true = [image[rows + y, columns + x] for image in np.asarray(truth.slices)]
    return np.array([[correlation(image[rows, columns], other) for other in true] for image in found.slices])


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the modulus of the correlation of two lists of values, their means apart."""
    first, second = first - first.mean(), second - second.mean()
    return float(abs(np.vdot(first, second)) / np.linalg.norm(first) / np.linalg.norm(second))


if __name__ == "__main__":
    main()
