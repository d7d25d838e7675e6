"""Near-field scans are refined: the object, the probe and the positions; settings of the far field are refused."""

import numpy as np
import pytest

from ptychoflow.config import Refinement
from ptychoflow.core.scan import Scan, near_field_geometry
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.run import refine_scan
from ptychoflow.runtime.distributed import DistributedContext
from ptychoflow.simulation.acquisition import from_simulation

SIZE, OBJECT = 48, 84


def _smooth(seed: int, width: float, side: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((side, side))
    q = np.fft.fftfreq(side)
    smooth = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-((np.pi * width) ** 2) * (q[:, None] ** 2 + q**2))).real
    return smooth / smooth.std()


def _scan(error_px: float = 0.0) -> Scan:
    """A beam with the speckle of a diffuser, far larger than features and steps."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    probe = np.exp(-((np.hypot(y, x) / 16) ** 4) + 1j * 2 * _smooth(1, 3, SIZE))
    image = np.exp(0.5j * _smooth(2, 2, OBJECT)) * (1 - 0.05 * np.abs(_smooth(4, 2, OBJECT)).clip(0, 2))
    axis = np.linspace(SIZE // 2 + 1.5, OBJECT - SIZE // 2 - 2.5, 6)
    true = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2) + rng.uniform(-1, 1, (36, 2))
    geometry = near_field_geometry(6.5e-6, 7e-11, 0.3, 0.01)
    recorded = true + rng.normal(0, error_px, true.shape) if error_px else None
    photons = 1e5 * float(np.sum(np.abs(probe) ** 2))  # 1e5 on a bright pixel
    return from_simulation(true, probe, image, photons, geometry=geometry, nominal_positions=recorded)


def _refined(scan: Scan, **settings):
    return refine_scan(scan, Refinement(**settings), None, DistributedContext(), None, lambda _: True)


def _phase_psnr(scan: Scan, **settings) -> float:
    found = _refined(scan, **settings)
    first = np.round(np.asarray(found.origin)).astype(int)
    cut = tuple(slice(max(0, -f), max(0, -f) + OBJECT) for f in first)
    image, seen = found.object[cut], found.coverage[cut]
    truth = scan.truth.object
    ratio = image * truth.conj()
    phase = np.angle(ratio * np.exp(-1j * np.angle(ratio[seen].mean())))
    y, x = np.indices(phase.shape)
    design = np.stack([np.ones(seen.sum()), y[seen], x[seen]], 1)
    left = phase[seen] - design @ np.linalg.lstsq(design, phase[seen], rcond=None)[0]
    return float(20 * np.log10(np.ptp(np.angle(truth)[seen]) / np.sqrt(np.mean(left**2))))


def test_the_phase_of_a_near_field_scan_is_within_35_db_of_the_ground_truth():
    assert _phase_psnr(_scan(), epochs=80, alpha=(0.05, 0.05)) >= 35


def test_refined_positions_of_a_near_field_scan_are_better_than_recorded():
    scan = _scan(error_px=0.7)
    found = _refined(scan, epochs=60, position_start_epoch=3)
    truth = scan.truth.positions

    def error(positions: np.ndarray) -> float:
        return float(np.sqrt(np.mean((positions - truth - (positions - truth).mean(0)) ** 2)))

    assert error(found.positions) < 0.25 * error(scan.positions)


@pytest.mark.parametrize(
    ("constraints", "reason"),
    [
        ({"probe_centring": 0.5}, "moves near-field patterns"),
        ({"probe_aperture": 0.5, "probe_aperture_diameter_px": 20}, "limits the far field"),
    ],
)
def test_constraints_of_the_far_field_are_refused(constraints, reason):
    settings = Refinement(probe_start_epoch=2, constraints=constraints)
    with pytest.raises(ValueError, match=reason):
        RefinementEngine(_scan(), settings)


def test_epochs_of_the_low_order_phase_are_refused():
    with pytest.raises(ValueError, match="low_order_phase_epochs acts on far-field patterns"):
        RefinementEngine(_scan(), Refinement(low_order_phase_epochs=3))
