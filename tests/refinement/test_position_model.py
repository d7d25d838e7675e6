"""Tests of the model of positions that are wrong as a whole."""

import dataclasses
import logging

import numpy as np
import pytest

from ptychoflow.config import ObjectRecipe, ProbeRecipe, Refinement, Trajectory
from ptychoflow.metrics.reconstruction_doubts import doubt_refinement
from ptychoflow.refinement.position_model import describe_matrix, fit_position_model, fit_steps
from ptychoflow.refinement.run import refine_scan
from ptychoflow.runtime.distributed import DistributedContext
from ptychoflow.simulation.acquisition import from_simulation
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.scan_paths import make_trajectory

MATRIX = np.array([[0.02, -0.05], [0.06, -0.02]])
RNG = np.random.default_rng(0)
CENTRED = RNG.uniform(-50, 50, (100, 2))
CENTRED -= CENTRED.mean(0)


def _rotation(angle_deg):
    angle = np.radians(angle_deg)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _linear_part(positions, truth):
    """Return the least-squares matrix from one set of positions to the other, and the rms residual, px."""
    centred, wanted = positions - positions.mean(0), truth - truth.mean(0)
    matrix = np.linalg.lstsq(centred, wanted, rcond=None)[0].T
    return matrix, np.sqrt(np.square(wanted - centred @ matrix.T).mean())


def _angle(matrix):
    return np.degrees(np.arctan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))


def test_exactly_affine_steps_give_their_matrix():
    np.testing.assert_allclose(fit_steps(CENTRED, CENTRED @ MATRIX.T + [3, -1], "affine"), MATRIX, atol=1e-12)


def test_a_rigid_model_is_a_rotation_and_takes_no_scale():
    steps = CENTRED @ (_rotation(0.01) - np.eye(2)).T
    found = fit_steps(CENTRED, steps, "rigid") + np.eye(2)
    np.testing.assert_allclose(found, _rotation(0.01), atol=1e-7)
    scaled = fit_steps(CENTRED, 0.02 * CENTRED, "rigid")
    np.testing.assert_allclose(scaled, 0, atol=1e-3)


def test_steps_within_the_huber_width_give_the_least_squares_answer():
    """Steps that are all as far from the model: none is an outlier."""
    angles = RNG.uniform(0, 2 * np.pi, len(CENTRED))
    steps = CENTRED @ MATRIX.T + 0.001 * np.column_stack([np.sin(angles), np.cos(angles)])
    expected = np.linalg.lstsq(np.column_stack([np.ones(len(CENTRED)), CENTRED]), steps, rcond=None)[0][1:].T
    np.testing.assert_allclose(fit_steps(CENTRED, steps, "affine"), expected, atol=2e-6)


def test_outliers_do_not_move_the_model():
    noise = RNG.normal(scale=0.1, size=CENTRED.shape)
    steps = CENTRED @ MATRIX.T + noise
    steps[::8] += 40
    robust = np.abs(fit_steps(CENTRED, steps, "affine") - MATRIX).max()
    plain = np.linalg.lstsq(np.column_stack([np.ones(len(CENTRED)), CENTRED]), steps, rcond=None)[0][1:].T
    assert robust < 2e-3
    assert np.abs(plain - MATRIX).max() > 10 * robust


def test_positions_on_a_line_leave_what_they_do_not_determine():
    line = np.column_stack([np.linspace(-50, 50, 20), np.zeros(20)])
    np.testing.assert_allclose(fit_steps(line, 0.01 * line, "affine"), [[0.01, 0], [0, 0]], atol=1e-12)


def test_words_of_a_matrix():
    words = describe_matrix(_rotation(3) @ np.diag([1.02, 0.98]))
    assert words == "rotation 3.00 degrees, scales 1.0200 (y) and 0.9800 (x), shear 0.0000"


@pytest.fixture(scope="module")
def star():
    rng = np.random.default_rng(3)
    image = make_object(ObjectRecipe(name="siemens_star", size=(176, 176)), rng)
    probe = make_probe(ProbeRecipe(), 64, 1.0, rng)
    positions, _ = make_trajectory(Trajectory(step_px=8, jitter_px=2), image.shape, 64, 24, rng)
    return from_simulation(positions, probe, image, photons=1e6, seed=1)


def test_a_rotated_scan_is_turned_back(star):
    centre = star.positions.mean(0)
    turned = dataclasses.replace(star, positions=centre + (star.positions - centre) @ _rotation(3).T)
    settings = Refinement(position_start_epoch=3, position_model="rigid", position_model_rounds=20)
    found = fit_position_model(turned, settings)
    matrix, _ = _linear_part(found.positions, star.positions)
    assert abs(_angle(matrix)) < 0.3
    np.testing.assert_allclose(found.positions.mean(0), turned.positions.mean(0), atol=1e-9)


def test_a_model_that_has_not_converged_is_said(star, caplog):
    centre = star.positions.mean(0)
    turned = dataclasses.replace(star, positions=centre + (star.positions - centre) @ _rotation(5).T)
    with caplog.at_level(logging.WARNING):
        fit_position_model(turned, Refinement(position_start_epoch=3, position_model="rigid", position_model_rounds=2))
    assert "has not converged after 2 rounds" in caplog.text


def test_a_start_is_refused(star):
    settings = Refinement(epochs=3, position_start_epoch=3, position_model="rigid", position_model_rounds=1)
    ctx = DistributedContext()
    plain = refine_scan(star, Refinement(epochs=1), None, ctx, None, lambda row: True)
    with pytest.raises(ValueError, match="but a start is given"):
        refine_scan(star, settings, plain, ctx, None, lambda row: True)


def _refined(scan, **settings):
    return refine_scan(scan, Refinement(**settings), None, DistributedContext(), None, lambda row: True)


def test_positions_at_their_limit_are_said(star):
    """Five positions are 3 px wrong and may move 1 px."""
    positions = star.positions.copy()
    positions[:5, 0] += 3
    found = _refined(
        dataclasses.replace(star, positions=positions), epochs=20, position_start_epoch=3, max_position_shift_px=1.0
    )
    count = found.metadata["positions_at_limit"]
    assert 4 <= count <= 15
    doubts = {doubt.kind: str(doubt) for doubt in doubt_refinement(star, found)}
    assert f"{count} of {len(star)} positions were moved as far as" in doubts["position limit"]


def test_right_positions_stay_within_their_limit(star):
    assert "positions_at_limit" not in _refined(star, epochs=12, position_start_epoch=3).metadata


def test_settings_without_effect_are_refused():
    with pytest.raises(ValueError, match="a position model needs position refinement"):
        Refinement(position_model="affine")
    with pytest.raises(ValueError, match="position_model_rounds acts on rigid, affine"):
        Refinement(position_start_epoch=3, position_model_rounds=5)
