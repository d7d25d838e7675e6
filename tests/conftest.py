"""What tests of several rooms share: a small scan made on the spot, and the real measurements where they are there."""

import os
from pathlib import Path

import numpy as np
import pytest

from ptychoflow.scan import Geometry, Scan, Truth


@pytest.fixture
def real_data() -> Path:
    """The folder of real measurements; a test that asks for it is skipped where PTYCHOFLOW_DATA names none."""
    folder = os.environ.get("PTYCHOFLOW_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PTYCHOFLOW_DATA names no folder of real measurements")
    return Path(folder)


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
        truth=Truth(np.exp(1j * rng.uniform(-0.5, 0.5, (80, 90))).astype(np.complex64)),
        name="sample",
        facts={"photons_asked": 4e4},
    )
