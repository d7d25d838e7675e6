"""Small products of the steps before evaluation: a scan of an object, and possible reconstructions of it."""

import dataclasses
from pathlib import Path

import numpy as np

from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.core.scan import Geometry, GroundTruth, Scan
from ptychoflow.io.dataset import write_dataset
from ptychoflow.io.reconstruction_h5 import write_reconstruction
from ptychoflow.metrics.data_consistency import expected_patterns

from .metrics.objects import sample

SIZE, SHAPE = 16, (60, 64)
GEOMETRY = Geometry(pixel_size_m=2e-8, wavelength_m=1.4e-10, detector_distance_m=2.0)
COVERAGE = np.zeros(SHAPE, bool)
COVERAGE[6:50, 7:54] = True


def make_scan(name: str = "star", truth: bool = True, photons: float = 1e4) -> Scan:
    """Patterns of :func:`tests.metrics.objects.sample` on a jittered raster, Poisson counts."""
    rng = np.random.default_rng(0)
    y, x = np.indices((SIZE, SIZE)) - SIZE // 2
    probe = np.exp(-(y**2 + x**2) / 10 + 0.05j * (y**2 - x**2))
    probe = (probe * np.sqrt(photons) / np.linalg.norm(probe))[None].astype(np.complex64)
    steps = [np.arange(9, length - 10, 5.0) for length in SHAPE]
    raster = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 2)
    positions = raster + rng.uniform(-1, 1, raster.shape)
    image = sample(shape=SHAPE).astype(np.complex64)
    counts = rng.poisson(np.concatenate(list(expected_patterns(image, (0, 0), probe, positions)))).astype(np.uint16)
    metadata = {"nominal_geometry": True}
    return Scan(
        counts, positions, probe, GEOMETRY, truth=GroundTruth(image) if truth else None, name=name, metadata=metadata
    )


def blurred(strength: float = 0.2, seed: int = 3) -> np.ndarray:
    """Return the sample with a low-order phase error, like a network's reconstruction."""
    error = np.angle(sample(seed, SHAPE, phase=strength, blur=6))
    return sample(shape=SHAPE) * np.exp(1j * error)


def make_reconstruction(scan: Scan, image: np.ndarray, method: str = "pinn", **more) -> Reconstruction:
    """Return an object as a reconstruction, with the origin of the ground truth."""
    parts = {
        "object": image.astype(np.complex64),
        "origin": (0.0, 0.0),
        "probe": scan.probe,
        "positions": scan.positions,
        "geometry": GEOMETRY,
        "weight": COVERAGE.astype(np.float32),
        "coverage": COVERAGE,
        "name": f"{method}/{scan.name}",
    }
    return Reconstruction(**(parts | more))


def refined_history(*objects: np.ndarray) -> dict:
    """Return history and snapshots of a refinement with these objects as epochs of a second each."""
    epochs = list(range(1, len(objects) + 1))
    clocks = {"seconds": [1.0 * e for e in epochs], "cpu_seconds": [0.9 * e for e in epochs]}
    return {
        "history": {"epoch": epochs, "error": [0.1 / e for e in epochs], **clocks},
        "snapshots": np.stack(objects).astype(np.complex64),
        "metadata": {"snapshot_epochs": epochs},
    }


def write_products(folder: Path, truth: bool = True, method: str = "pinn", scan: str = "star") -> dict:
    """Write a dataset, a stitched and a refined reconstruction and their halves; return the paths."""
    whole = make_scan(scan, truth)
    paths = {
        "dataset": folder / "datasets" / scan,
        "stitched": folder / "reconstructions" / method / f"{scan}.h5",
        "refined": folder / "refined" / method / f"{scan}.h5",
    }
    write_dataset(paths["dataset"], whole)
    write_reconstruction(paths["stitched"], make_reconstruction(whole, blurred(), method))
    better = blurred(0.02)
    history = refined_history(blurred(0.1), better)
    write_reconstruction(paths["refined"], make_reconstruction(whole, better, method, **history))
    for key, step, error in (("halves", "refined", 0.03), ("stitched_halves", "reconstructions", 0.3)):
        paths[key] = tuple(folder / step / method / f"{scan}.{half}.h5" for half in ("even", "odd"))
        for first, path in enumerate(paths[key]):
            part = slice(first, None, 2)
            half = dataclasses.replace(
                whole, counts=whole.counts[part], positions=whole.positions[part], name=path.stem
            )
            write_reconstruction(path, make_reconstruction(half, blurred(error, seed=first), method))
    return paths
