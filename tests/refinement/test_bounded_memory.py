"""Refining and evaluating a dataset on disk takes memory for the object and some batches, not for the dataset."""

import subprocess
import sys

import numpy as np
import pytest

from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.io.dataset import write_dataset

SIZE, PATTERNS = 64, 25600
DATASET_MIB = PATTERNS * SIZE**2 * 2 / 2**20

SCRIPT = """
import sys
from pathlib import Path
import torch
from ptychoflow.config import Refinement
from ptychoflow.io.dataset import open_dataset
from ptychoflow.metrics.data_consistency import compare_counts, expected_by
from ptychoflow.metrics.reconstruction_doubts import doubt_refinement
from ptychoflow.preprocessing.scan_doubts import doubt_scan
from ptychoflow.refinement import measured_amplitudes, run, uncertainty
from ptychoflow.runtime.distributed import DistributedContext

def peak_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

torch.set_num_threads(1)
measured_amplitudes.RESIDENT_BYTES = uncertainty.RESIDENT_BYTES = 0
first = peak_mib()
scan = open_dataset(Path(sys.argv[1]))
settings = Refinement(epochs=1, low_order_phase_epochs=0)
found = run.refine_scan(scan, settings, None, DistributedContext(), None, lambda row: True)
compare_counts(expected_by(found), scan.counts, scan.mask)
doubt_scan(scan)
doubt_refinement(scan, found)
print(peak_mib() - first)
"""


@pytest.fixture(scope="module")
def large_dataset(tmp_path_factory):
    """A dataset of 200 MiB: the same patterns of a wide beam, over and over."""
    rng = np.random.default_rng(0)
    piece = rng.poisson(20, (64, SIZE, SIZE)).astype(np.uint16)
    piece[:, 0, 0] = 300  # more than a byte holds
    positions = SIZE + 2.0 * np.stack(np.divmod(np.arange(PATTERNS), 160), axis=1) + rng.uniform(-1, 1, (PATTERNS, 2))
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    probe = np.exp(-(y**2 + x**2) / 10**2)[None].astype(np.complex64)
    probe *= np.sqrt(piece[0].sum() / np.sum(np.abs(probe) ** 2))
    announced = np.broadcast_to(np.zeros((), np.uint16), (PATTERNS, SIZE, SIZE))
    folder = tmp_path_factory.mktemp("large") / "scan"
    scan = Scan(announced, positions, probe, Geometry(1e-8, 1e-10, 1.0), name="large")
    write_dataset(folder, scan, (piece for _ in range(PATTERNS // 64)))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_does_not_grow_with_the_dataset(large_dataset):
    """The whole map, or a copy of all counts, would take more than the dataset itself."""
    result = subprocess.run([sys.executable, "-c", SCRIPT, large_dataset], capture_output=True, text=True, check=True)
    assert float(result.stdout) < DATASET_MIB
