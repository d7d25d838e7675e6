"""Refinement of thick samples: two stars at different depths come apart, and everything survives on disk."""

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ptychoflow.commands.refine import refine
from ptychoflow.commands.simulate import simulate
from ptychoflow.config import Refinement, Simulation
from ptychoflow.core.scan import Geometry
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction, write_reconstruction
from ptychoflow.io.scan_cxi import read_scan
from ptychoflow.metrics.data_consistency import compare_counts, expected_by
from ptychoflow.refinement.engine import RefinedVariables, RefinementEngine
from ptychoflow.refinement.multislice import MultisliceEngine
from ptychoflow.refinement.run import refine_scan
from ptychoflow.refinement.slice_constraints import beyond_cone, centring_steps, move_slices
from ptychoflow.runtime.distributed import DistributedContext

PIXEL_M, WAVELENGTH_M = 2.5e-8, 1.4e-10
SPACING_M = 20 * PIXEL_M**2 / WAVELENGTH_M
"""Five depths of field, of ``wavelength / NA^2`` with ``NA = wavelength / (2 pixel)``."""
THICK = {
    "size": 64,
    "object": {"name": "siemens_star", "size": [144, 144], "slices": 2, "slice_spacing_m": SPACING_M},
    "probe": {"diameter_px": 28, "defocus": 1.5},
    "trajectory": {"step_px": 6, "jitter_px": 1.0},
    "photons_per_pattern": 1e6,
}


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("thick") / "stars.cxi"
    simulate(path, Simulation.model_validate(THICK))
    return read_scan(path)


def _settings(scan, **more):
    spacing = scan.truth.slice_spacing_m
    return Refinement.model_validate({"epochs": 60, "slices": 2, "slice_spacing_m": spacing, "stop": "epochs"} | more)


def _refined(scan, **more):
    return refine_scan(scan, _settings(scan, **more), None, DistributedContext(), None, lambda row: True)


@pytest.fixture(scope="module")
def refined(scan):
    return _refined(scan)


def _correlations(found, truth):
    """Return the modulus of the correlation of each slice found with each true one, ``(S, S)``."""
    y, x = (round(a - b) for a, b in zip(found.origin, truth.origin, strict=True))
    rows, columns = np.nonzero(found.coverage)
    inside = (rows + y >= 0) & (columns + x >= 0)
    inside &= (rows + y < truth.object.shape[0]) & (columns + x < truth.object.shape[1])
    rows, columns = rows[inside], columns[inside]
    mine = [image[rows, columns] for image in found.slices]
    true = [image[rows + y, columns + x] for image in np.asarray(truth.slices)]
    mine, true = ([v - v.mean() for v in values] for values in (mine, true))
    return np.array([[abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b) for b in true] for a in mine])


def test_two_stars_come_apart_and_one_slice_does_not_explain_them(scan, refined):
    found = _correlations(refined, scan.truth)
    thin = refine_scan(scan, Refinement(epochs=60, stop="epochs"), None, DistributedContext(), None, lambda row: True)
    assert found.diagonal().min() > 0.9
    assert found[0, 1] < 0.3 > found[1, 0]
    assert refined.history["error"][-1] < 0.3 * thin.history["error"][-1]


def test_the_product_of_a_thick_sample_comes_back_and_explains_the_counts(scan, refined, tmp_path):
    write_reconstruction(tmp_path / "thick.h5", refined)
    back = read_reconstruction(tmp_path / "thick.h5")
    np.testing.assert_array_equal(back.slices, refined.slices)
    assert back.slice_spacing_m == refined.slice_spacing_m == scan.truth.slice_spacing_m
    np.testing.assert_allclose(back.object, refined.slices.prod(0), rtol=1e-5, atol=1e-6)
    r_factor = compare_counts(expected_by(back), scan.counts, scan.mask).r_factor
    assert r_factor == pytest.approx(refined.history["error"][-1], rel=0.2)


def test_the_true_slices_survive_a_dataset(scan, tmp_path):
    write_dataset(tmp_path / "stars", scan)
    back = open_dataset(tmp_path / "stars").truth
    np.testing.assert_array_equal(back.slices, scan.truth.slices)
    assert back.slice_spacing_m == scan.truth.slice_spacing_m


def test_refinement_resumes_from_slices(scan, tmp_path):
    write_dataset(tmp_path / "stars", scan)
    refine(tmp_path / "stars", tmp_path / "first.h5", _settings(scan, epochs=3))
    refine(tmp_path / "stars", tmp_path / "second.h5", _settings(scan, epochs=3), start=tmp_path / "first.h5")
    first, second = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("first", "second"))
    assert second.history["error"][0] < first.history["error"][0]
    with pytest.raises(ValueError, match=r"the start has 2 slices, refinement\.slices is 3"):
        refine(tmp_path / "stars", tmp_path / "third.h5", _settings(scan, slices=3), start=tmp_path / "first.h5")


def test_the_engine_with_one_slice_is_that_of_thin_samples_to_the_bit(scan):
    settings = Refinement(epochs=2, probe_start_epoch=1)
    thick_settings = settings.model_copy(update={"slices": 1, "slice_spacing_m": 1e-6})
    engines = RefinementEngine(scan, settings), MultisliceEngine(scan, thick_settings)
    for engine in engines:
        for _ in range(2):
            engine.epoch(RefinedVariables(probe=True), with_low_order_phase=True)
    thin, thick = engines
    np.testing.assert_array_equal(thick.object.numpy(), thin.object.numpy())
    np.testing.assert_array_equal(thick.probe.numpy(), thin.probe.numpy())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slice_spacing_m": 1e-6}, "slice_spacing_m acts with slices above 1 only"),
        ({"slices": 2, "prior": "pretrained"}, "the learned prior corrects thin objects"),
        ({"slices": 2, "uncertainty": True}, "the uncertainty is that of thin objects"),
        ({"slices": 2, "position_start_epoch": 1, "position_model": "rigid"}, "makes thin objects"),
        ({"constraints": {"slice_regularisation": 0.5}}, "acts with slices above 1 only"),
    ],
)
def test_what_does_not_act_on_slices_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Refinement.model_validate(settings)


def test_slices_without_spacing_and_near_field_are_refused(scan):
    settings = Refinement(slices=2)
    with pytest.raises(ValueError, match="nothing says how far they are apart"):
        MultisliceEngine(scan, settings)
    near = Geometry(scan.geometry.pixel_size_m, 1.4e-10, 1.0, propagation="near_field")
    with pytest.raises(ValueError, match="near-field scan"):
        MultisliceEngine(dataclasses.replace(scan, geometry=near), _settings(scan))


def test_a_wrong_spacing_is_found(scan):
    true = scan.truth.slice_spacing_m
    wrong = {"epochs": 30, "slice_spacing_m": 1.1 * true}
    kept, found = (_refined(scan, **wrong, slice_spacing_start_epoch=start) for start in (None, 5))
    assert kept.slice_spacing_m == pytest.approx(1.1 * true)
    assert found.slice_spacing_m == pytest.approx(true, rel=0.01)
    assert found.history["error"][-1] < kept.history["error"][-1]


def test_positions_are_refined_through_the_slices(scan):
    error = np.random.default_rng(1).normal(size=scan.positions.shape)
    displaced = dataclasses.replace(scan, positions=scan.positions + error - error.mean(0))
    moved = _refined(displaced, position_start_epoch=5).positions - scan.positions
    assert np.sqrt(np.square(moved - moved.mean(0)).mean()) < 0.1


def test_regularisation_makes_slices_alike_and_keeps_their_mean():
    slices = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 32, 32)) + 1j)
    outside = beyond_cone(slices, 1e-6, Geometry(PIXEL_M, WAVELENGTH_M, 1.0))
    torch.testing.assert_close(outside.mean(0), torch.zeros_like(outside[0]))
    assert (slices - outside).std(0).mean() < 0.9 * slices.std(0).mean()


def test_a_sample_off_the_middle_is_moved_there_without_a_change_of_its_product():
    slices = torch.ones(5, 16, 16, dtype=torch.complex64)
    slices[0, 4:8, 4:8] = 1j
    steps = centring_steps(slices, torch.ones(16, 16), 1.0)
    assert steps == 2 and centring_steps(slices, torch.ones(16, 16), 0.0) == 0
    for count in (steps, -3):
        torch.testing.assert_close(move_slices(slices, count).prod(0), slices.prod(0))
    assert (move_slices(slices, steps)[2] == slices[0]).all()


def test_a_refinement_that_diverges_says_so_in_one_line(scan):
    with pytest.raises(ValueError, match="diverged in epoch"):
        _refined(scan, slices=3, probe_start_epoch=2)
