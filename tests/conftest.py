"""Fixtures of several packages' tests: small scans, a simulated GPU, and real measurements where they are available."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ptychoflow.core.scan import Geometry, GroundTruth, Scan
from ptychoflow.io.dataset import write_dataset
from ptychoflow.physics.forward_model import expected_counts, shift_probe
from ptychoflow.physics.patches import cut_windows, split_positions

from .simulated_gpu import REASON, SimulatedGPU, simulate_gpus


@pytest.fixture
def real_data() -> Path:
    """The folder of real measurements; a test that asks for it is skipped where PTYCHOFLOW_DATA names none."""
    folder = os.environ.get("PTYCHOFLOW_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PTYCHOFLOW_DATA names no folder of real measurements")
    return Path(folder)


@pytest.fixture
def simulated_gpu() -> Iterator[SimulatedGPU]:
    """A simulated GPU: the CPU computes for it, and waits of the CPU are recorded."""
    if torch.backends.cuda.is_built():
        pytest.skip(REASON)
    with simulate_gpus() as gpu:
        yield gpu


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request) -> None:
    """A GPU to compute on: a real one, and a simulated one where PyTorch is built without CUDA."""
    if request.param == "simulated":
        request.getfixturevalue("simulated_gpu")
    elif not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture
def scan() -> Scan:
    """Forty patterns of 32 px with a smooth probe, a mask and a truth; counts are random."""
    rng = np.random.default_rng(7)
    y, x = np.indices((32, 32)) - 16
    probe = np.exp(-(y**2 + 1.5 * x**2) / 60 + 0.02j * (y**2 + x**2)) * 20
    mask = np.ones((32, 32), bool)
    mask[3, 5] = False
    return Scan(
        counts=rng.poisson(40, (40, 32, 32)).astype(np.uint16),
        positions=rng.uniform(16, 60, (40, 2)),
        probe=probe[None].astype(np.complex64),
        geometry=Geometry(pixel_size_m=5e-8, wavelength_m=1.4e-10, detector_distance_m=2.0),
        mask=mask,
        truth=GroundTruth(np.exp(1j * rng.uniform(-0.5, 0.5, (80, 90))).astype(np.complex64)),
        name="sample",
        metadata={"photons_requested": 4e4},
    )


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory) -> Path:
    """A packed scan that a network learns from in seconds: 100 overlapping patterns of 32 px of smooth blobs."""
    rng = np.random.default_rng(5)
    y, x = np.indices((32, 32)) - 16
    probe = np.exp(-(y**2 + x**2) / 30 + 0.05j * (y**2 + x**2))
    probe = (probe * np.sqrt(2e4 / np.sum(np.abs(probe) ** 2)))[None].astype(np.complex64)
    amplitude, phase = gaussian_filter(rng.normal(size=(2, 84, 84)), (0, 3, 3)) * 8
    image = ((0.85 + 0.1 * np.tanh(amplitude)) * np.exp(0.8j * np.tanh(phase))).astype(np.complex64)
    grid = np.stack(np.meshgrid(np.arange(10), np.arange(10), indexing="ij"), -1).reshape(-1, 2)
    positions = 18 + 5 * grid + rng.uniform(-1, 1, (100, 2))
    whole, subpixel_shift = split_positions(torch.from_numpy(positions))
    windows = cut_windows(torch.from_numpy(image), whole - 16, 32)
    counts = rng.poisson(expected_counts(windows, shift_probe(torch.from_numpy(probe), subpixel_shift)).numpy())
    scan = Scan(counts, positions, probe, Geometry(5e-8, 1.4e-10, 2.0), truth=GroundTruth(image), name="blobs")
    folder = tmp_path_factory.mktemp("datasets") / "blobs"
    write_dataset(folder, scan)
    return folder


@pytest.fixture
def mount(tmp_path):
    """Mount a small tmpfs, a disk to fill or to protect."""
    mounted = []

    def at(name: str, options: str):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount a small disk to fill: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield at
    for place in mounted:
        subprocess.run(["umount", place], check=True)
