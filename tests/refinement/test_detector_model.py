"""Background and point spread: the exit-wave update is the gradient, and the fit finds what was simulated."""

import dataclasses

import numpy as np
import pytest
import torch

from ptychoflow.config import Detector, ObjectRecipe, ProbeRecipe, Refinement, Trajectory
from ptychoflow.core.instrument import Instrument
from ptychoflow.core.scan import Scan
from ptychoflow.io.reconstruction_h5 import read_reconstruction, write_reconstruction
from ptychoflow.metrics.data_consistency import compare_counts, expected_by
from ptychoflow.physics.detector_response import point_spread_matrix
from ptychoflow.physics.forward_model import expected_counts
from ptychoflow.physics.propagation import far_field_corner, far_field_corner_inverse, to_corner
from ptychoflow.refinement.detector_model import DetectorModel
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.run import refine_scan
from ptychoflow.runtime.distributed import DistributedContext
from ptychoflow.simulation.acquisition import from_simulation
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.scan_paths import make_trajectory

SIZE = 32


def _scan(**detector) -> Scan:
    rng = np.random.default_rng(2)
    image = make_object(ObjectRecipe(size=(100, 100)), rng)
    probe = make_probe(ProbeRecipe(diameter_px=14), SIZE, 2e5, rng)
    _, positions = make_trajectory(Trajectory(step_px=5), image.shape, SIZE, 14, rng)
    return from_simulation(positions, probe, image, detector=Detector(**detector))


def _refined(scan: Scan, **settings):
    settings = {"epochs": 25, "batch_size": 8, "probe_start_epoch": 1, "convergence_tolerance": 0} | settings
    return refine_scan(scan, Refinement(**settings), None, DistributedContext(), None, lambda row: True)


def _model(background: bool, sigma_px: float, mask: bool) -> DetectorModel:
    rng = np.random.default_rng(0)
    level = rng.uniform(0, 5, (SIZE, SIZE)).astype(np.float32) if background else None
    valid = to_corner(torch.from_numpy(rng.random((SIZE, SIZE)) < 0.9)) if mask else None
    return DetectorModel(Instrument(background=level, point_spread_px=sigma_px), valid, SIZE, DistributedContext())


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(("background", "sigma_px"), [(False, 0.0), (True, 0.0), (False, 0.8), (True, 1.3)])
def test_the_exit_wave_update_is_the_gradient_of_the_amplitude_error(background, sigma_px, mask):
    """Against automatic differentiation through the forward model; ``-dL/dPsi*``, which torch doubles."""
    generator = torch.Generator().manual_seed(1)
    waves = 3 * torch.randn(2, 3, SIZE, SIZE, dtype=torch.complex64, generator=generator)
    counts = 40 * torch.rand(2, SIZE, SIZE, generator=generator)
    model = _model(background, sigma_px, mask)
    exit_waves = far_field_corner_inverse(waves).requires_grad_()
    matrix = point_spread_matrix(SIZE, sigma_px, corner=True).float() if sigma_px else None
    expected = expected_counts(
        torch.ones(2, SIZE, SIZE), exit_waves, model.background, far_field_corner, point_spread=matrix
    )
    valid = 1.0 if model._mask is None else model._mask
    (valid * (counts.sqrt() - expected.sqrt()).square()).sum().backward()
    modulus, residual = model.modulus_and_residual(waves, counts.sqrt(), torch.arange(2))
    update = far_field_corner_inverse(model.exit_wave_update_(waves.clone(), modulus, residual))
    torch.testing.assert_close(update, -exit_waves.grad / 2, rtol=1e-4, atol=1e-4)


def test_an_intensity_scale_leaves_the_background():
    model = _model(True, 0.0, True)
    waves = torch.randn(2, 1, SIZE, SIZE, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    amplitude, factor = torch.ones(2, SIZE, SIZE), torch.tensor([1.5, 0.7])
    modulus, residual = model.modulus_and_residual(waves, amplitude, torch.arange(2))
    model.scale_modulus_(modulus, residual, factor)
    scaled = model.modulus_and_residual(waves * factor[:, None, None, None], amplitude, torch.arange(2))
    torch.testing.assert_close(modulus, scaled[0])
    torch.testing.assert_close(residual, scaled[1], atol=1e-5, rtol=1e-5)


def test_a_background_is_fitted_where_the_mask_is_true(tmp_path):
    scan = _scan(dark_counts=10, dead_pixels=0.05)
    plain = compare_counts(expected_by(_refined(scan)), scan.counts, scan.mask)
    found = _refined(scan, background_start_epoch=3)
    fitted = compare_counts(expected_by(found), scan.counts, scan.mask)
    assert plain.r_factor > 1.5 * plain.noise_floor
    assert fitted.r_factor < 1.1 * fitted.noise_floor
    background = found.instrument.background
    assert background[scan.mask].mean() == pytest.approx(10, rel=0.3)  # amplitudes of noise lie below the mean
    assert (background >= 0).all() and (background[~scan.mask] == 0).all()
    write_reconstruction(tmp_path / "a.h5", found)
    np.testing.assert_array_equal(read_reconstruction(tmp_path / "a.h5").instrument.background, background)


def test_a_point_spread_is_fitted_or_known(tmp_path):
    scan = _scan(point_spread_px=0.7)
    plain = compare_counts(expected_by(_refined(scan)), scan.counts)
    assert plain.r_factor > 1.5 * plain.noise_floor
    for settings in ({"point_spread_start_epoch": 3}, {"point_spread_px": 0.7}):
        found = _refined(scan, **settings)
        fitted = compare_counts(expected_by(found), scan.counts)
        assert found.instrument.point_spread_px == pytest.approx(0.7, abs=0.05)
        assert fitted.r_factor < 1.15 * fitted.noise_floor
    write_reconstruction(tmp_path / "a.h5", found)
    assert read_reconstruction(tmp_path / "a.h5").instrument == found.instrument


def test_a_background_without_a_mask_is_refused():
    scan = dataclasses.replace(_scan(), mask=None)
    with pytest.raises(ValueError, match=r"simulation has no mask: pack it with packing\.bad_pixels, or remove"):
        RefinementEngine(scan, Refinement(background_start_epoch=2))
