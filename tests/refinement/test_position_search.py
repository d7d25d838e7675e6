"""A search finds positions that are off by more than the features of the object."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from ptychoflow.config import ObjectRecipe, ProbeRecipe, Refinement, Trajectory
from ptychoflow.refinement.position_search import search_positions
from ptychoflow.refinement.run import refine_scan
from ptychoflow.runtime.distributed import DistributedContext
from ptychoflow.simulation.acquisition import from_simulation
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.scan_paths import make_trajectory

SIZE, RMS_PX = 32, 4.0


@pytest.fixture(scope="module")
def scan():
    rng = np.random.default_rng(3)
    image = make_object(ObjectRecipe(name="siemens_star", size=(96, 96)), rng)
    probe = make_probe(ProbeRecipe(diameter_px=20, defocus=1.0), SIZE, 1.0, rng)
    positions = make_trajectory(Trajectory(step_px=4.5, jitter_px=0.5), image.shape, SIZE, 20.0, rng)[1]
    return from_simulation(positions, probe, image, photons=1e6, seed=1)


@pytest.fixture(scope="module")
def displaced(scan):
    """The scan with recorded positions that are off by 4 px rms along each axis, each by itself."""
    error = np.random.default_rng(5).normal(scale=RMS_PX, size=scan.positions.shape)
    return dataclasses.replace(scan, positions=scan.positions + error - error.mean(0))


def _median_error(scan, positions):
    error = positions - scan.positions
    return float(np.median(np.linalg.norm(error - np.median(error, axis=0), axis=1)))


def _refined(scan, rounds, ctx=DistributedContext()):
    settings = Refinement(epochs=20, position_start_epoch=2, position_search_rounds=rounds, stop="epochs")
    if rounds:
        settings = settings.model_copy(update={"position_search_px": 5.0})
    return refine_scan(scan, settings, None, ctx, None, lambda row: True)


def test_positions_far_off_are_found_that_gradients_do_not_find(scan, displaced):
    searched, plain = _refined(displaced, 10), _refined(displaced, 0)
    assert _median_error(scan, displaced.positions) > 4
    assert _median_error(scan, plain.positions) > 2
    assert _median_error(scan, searched.positions) < 1.5
    assert searched.history["error"][-1] < 0.25 * plain.history["error"][-1]


def test_a_search_repeats_to_the_bit_and_depends_on_its_seed(displaced):
    first, again, other = (
        search_positions(displaced, Refinement(position_search_rounds=1, position_start_epoch=1, seed=seed)).positions
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1


def test_masked_pixels_take_no_part(displaced):
    rng = np.random.default_rng(0)
    mask = rng.random((SIZE, SIZE)) > 0.1
    wild = np.where(mask, displaced.counts, 60000).astype(np.uint16)
    settings = Refinement(position_search_rounds=1, position_start_epoch=1)
    positions = [
        search_positions(dataclasses.replace(displaced, counts=counts, mask=mask), settings).positions
        for counts in (displaced.counts.astype(np.uint16), wild)
    ]
    np.testing.assert_array_equal(*positions)


def test_a_search_without_refinement_or_with_a_start_or_of_few_patterns_is_refused(scan):
    with pytest.raises(ValidationError, match="set position_start_epoch"):
        Refinement(position_search_rounds=3)
    with pytest.raises(ValidationError, match="position_search_px acts on"):
        Refinement(position_search_px=3.0)
    settings = Refinement(position_search_rounds=1, position_start_epoch=1, epochs=1)
    few = dataclasses.replace(scan, counts=scan.counts[:7], positions=scan.positions[:7])
    with pytest.raises(ValueError, match="has 7 patterns"):
        search_positions(few, settings)
    start = refine_scan(scan, Refinement(epochs=1), None, DistributedContext(), None, lambda row: True)
    with pytest.raises(ValueError, match="but a start is given"):
        refine_scan(scan, settings, start, DistributedContext(), None, lambda row: True)
