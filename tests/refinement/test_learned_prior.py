"""Tests of the learned prior between epochs of a refinement."""

import numpy as np
import pytest

from ptychoflow.config import ConfigError, ObjectRecipe, ProbeRecipe, Refinement, Trajectory
from ptychoflow.metrics.alignment import align
from ptychoflow.metrics.image import image_metrics
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.learned_prior import LearnedPrior
from ptychoflow.refinement.loop import RefinementLoop
from ptychoflow.simulation.acquisition import from_simulation
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.scan_paths import make_trajectory


def _scan(photons, step):
    """A scan of an object and a beam that the prior was not trained on."""
    rng = np.random.default_rng(7)
    image = make_object(ObjectRecipe(name="siemens_star", size=(176, 176), spokes=11, phase_rad=(-0.6, 0.5)), rng)
    probe = make_probe(ProbeRecipe(name="kb_mirror", diameter_px=21, defocus=1.1), 48, 1.0, rng)
    positions = make_trajectory(Trajectory(step_px=step), (176, 176), 48, 21.0, rng)[1]
    return from_simulation(positions, probe, image, photons=photons, seed=1)


@pytest.fixture(scope="module")
def sparse():
    return _scan(photons=1e5, step=12.5)


@pytest.fixture(scope="module")
def dim():
    return _scan(photons=1e3, step=6.0)


def _refined(scan, **settings):
    loop = RefinementLoop(RefinementEngine(scan, Refinement.model_validate({"epochs": 16} | settings)))
    loop.run(scan.name)
    return loop


def _metrics(scan, engine):
    truth = scan.truth
    pair = align(engine.object.numpy(), engine.origin, engine.coverage(), np.asarray(truth.object), truth.origin)
    return image_metrics(pair.object, pair.truth, pair.mask, 3.0)


def test_the_prior_beats_iteration_by_2_db_where_positions_are_far_apart(sparse):
    alone, with_prior = (_refined(sparse, prior=prior).engine for prior in ("none", "pretrained"))
    phase_psnr = [_metrics(sparse, engine)["phase_psnr_truth_range"] for engine in (alone, with_prior)]
    assert phase_psnr[1] > phase_psnr[0] + 2


def test_the_prior_lowers_amplitude_noise_and_does_not_harm_phase_where_photons_are_few(dim):
    alone, with_prior = (_metrics(dim, _refined(dim, prior=prior).engine) for prior in ("none", "pretrained"))
    assert with_prior["amplitude_psnr_truth_range"] > alone["amplitude_psnr_truth_range"] + 0.5
    assert with_prior["phase_psnr_truth_range"] > alone["phase_psnr_truth_range"] - 0.5


@pytest.mark.parametrize(("step", "photons"), [(12.5, 1e5), (6.0, 1e5)])
def test_a_planted_feature_appears_in_the_scan_that_has_it_and_in_no_other(step, photons):
    without = _scan(photons, step)
    y, x = np.mgrid[:176, :176]
    distance = np.hypot(y - 80, x - 74)
    spot, ring = distance <= 3, (distance > 4.5) & (distance <= 7.5)
    planted_object = np.asarray(without.truth.object) * np.exp(0.4j * spot)
    planted = from_simulation(without.positions, without.probe, planted_object, seed=2)
    contrasts = []
    for scan in (without, planted):
        engine = _refined(scan, prior="pretrained").engine
        truth = without.truth
        pair = align(engine.object.numpy(), engine.origin, engine.coverage(), np.asarray(truth.object), truth.origin)
        top, left = np.rint(np.subtract(engine.origin, truth.origin)).astype(int)
        height, width = pair.object.shape
        window = np.s_[top : top + height, left : left + width]
        error = np.angle(pair.object * np.conj(pair.truth))
        contrasts.append((error[spot[window]].mean() - error[ring[window]].mean()) / 0.4)
    assert abs(contrasts[0]) < 0.1
    assert 0.75 < contrasts[1] < 1.15


def test_a_refinement_with_the_prior_resumes_to_the_same_object(sparse):
    whole = _refined(sparse, prior="pretrained", epochs=5)
    settings = Refinement(prior="pretrained", epochs=5)
    first = RefinementLoop(RefinementEngine(sparse, settings))
    assert first.run(sparse.name, lambda row: row["epoch"] < 2)
    second = RefinementLoop(RefinementEngine(sparse, settings))
    second._resume(None, first._state())
    second.run(sparse.name)
    assert np.array_equal(second.engine.object.numpy(), whole.engine.object.numpy())


@pytest.mark.parametrize(("noise", "corrected"), [(0.1, [2, 4, 6]), (0.01, [2, 4])])
def test_corrections_follow_every_second_epoch_and_end_before_the_measurement_knows_better(noise, corrected):
    prior = LearnedPrior(Refinement(prior="pretrained", epochs=7), noise)
    assert [epoch for epoch in range(1, 9) if prior.follows(epoch)] == corrected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prior_interval": 3}, "prior_interval acts on pretrained, not on none"),
        ({"prior": "pretrained", "prior_interval": 12, "epochs": 12}, "prior_interval is 12, but only 11 epochs"),
    ],
)
def test_a_prior_that_cannot_act_is_refused(settings, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        Refinement.model_validate(settings)
