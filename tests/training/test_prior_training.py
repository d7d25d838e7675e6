"""Tests of the training of the learned prior."""

import numpy as np
import pytest
import torch

from ptychoflow.networks.object_prior import low_order_phasor
from ptychoflow.training.prior_curriculum import random_scan
from ptychoflow.training.prior_states import make_states
from ptychoflow.training.prior_training import (
    PriorTraining,
    correction_loss,
    random_squares,
    relative_square_error,
    train_prior,
)

TINY = PriorTraining(scans=3, steps=4, rounds=2, batch_size=4, base_channels=8, depth=2)


@pytest.fixture(scope="module")
def states():
    return make_states(6, seed=4)


def test_random_scans_differ_in_beam_density_and_dose():
    scans = []
    for seed in (1, 2, 3, 5, 8):
        try:
            scans.append(random_scan(np.random.default_rng(seed)))
        except ValueError as error:  # a beam that does not fit is drawn again by the caller
            assert "photons" in str(error)
    photons = [scan.metadata["photons_measured"] for scan in scans]
    assert len({scan.probe.shape for scan in scans}) > 1 and max(photons) > 30 * min(photons)


def test_states_hold_the_truth_of_their_pixels(states):
    error = relative_square_error(states.features[:, 0], states.truth, states.known)
    assert len(states) > 6 and error.quantile(0.2) < 0.02


def test_squares_have_the_low_order_phase_of_their_object(states):
    features, truth, known = random_squares(states, np.arange(6), np.random.default_rng(0))
    difference = low_order_phasor(features[:, 0] * truth.conj() * known).angle() * known
    assert difference.abs().median() < 0.1
    assert features[:, 0].abs().mul(known).sum((1, 2)).div(known.sum((1, 2))).sub(1).abs().max() < 1e-4


def test_the_loss_of_the_truth_is_nearly_0_and_of_no_correction_at_most_1(states):
    features, truth, known = random_squares(states, np.arange(6), np.random.default_rng(0))
    assert correction_loss(truth, features[:, 0], truth, known) < 0.1
    assert 0.3 < correction_loss(features[:, 0], features[:, 0], truth, known) <= 1


def test_training_is_reproducible_and_learns():
    first, history = train_prior(TINY)
    second, _ = train_prior(TINY)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    assert history[1]["states"] > history[0]["states"] and history[-1]["error_ratio"] < 1.2
