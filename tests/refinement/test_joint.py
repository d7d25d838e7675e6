"""Several scans refined together know more of what they share than each of them alone."""

import dataclasses

import numpy as np
import pytest

from ptychoflow.config import ObjectRecipe, ProbeRecipe, Refinement, Trajectory
from ptychoflow.metrics.alignment import align
from ptychoflow.metrics.image import image_metrics
from ptychoflow.refinement.joint import refine_jointly
from ptychoflow.refinement.run import refine_scan
from ptychoflow.runtime.distributed import DistributedContext
from ptychoflow.simulation.acquisition import from_simulation
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.scan_paths import make_trajectory

SIZE = 32
SETTINGS = Refinement(epochs=30, probe_start_epoch=2, convergence_tolerance=0, stop="epochs")


def _scan(image, probe, positions, seed, photons=3e3):
    return from_simulation(positions, probe, image, photons=photons, seed=seed, name=f"view{seed}")


@pytest.fixture(scope="module")
def parts():
    """An object, two probes, and a scan path with as many patterns as two views have together."""
    rng = np.random.default_rng(3)
    image = make_object(ObjectRecipe(name="siemens_star", size=(112, 112)), rng)
    probes = [make_probe(ProbeRecipe(diameter_px=14, defocus=defocus), SIZE, 1.0, rng) for defocus in (1.0, -0.8)]
    return image, probes, make_trajectory(Trajectory(step_px=4.5), image.shape, SIZE, 14.0, rng)[1]


@pytest.fixture(scope="module")
def views(parts):
    """Two sparse views of one object with different beams."""
    image, probes, positions = parts
    return [_scan(image, probe, positions[k::2], k) for k, probe in enumerate(probes)]


def _phase_psnr(found, scan, coverage=None):
    truth = scan.truth
    mask = found.coverage if coverage is None else coverage
    pair = align(found.object, found.origin, mask, np.asarray(truth.object), truth.origin)
    return image_metrics(pair.object, pair.truth, pair.mask, 3.0)["phase_psnr_truth_range"]


def _alone(scan, settings=SETTINGS):
    return refine_scan(scan, settings, None, DistributedContext(), None, lambda row: True)


def test_two_views_of_one_object_give_a_better_one_than_each_alone(views):
    together = refine_jointly(views, SETTINGS, "object")
    np.testing.assert_array_equal(together[0].object, together[1].object)
    assert not np.allclose(together[0].probe, together[1].probe)
    for scan, found in zip(views, together, strict=True):
        assert _phase_psnr(found, scan) > _phase_psnr(_alone(scan), scan) + 1
        assert len(found.positions) == len(scan)
        assert len(found.history["error"]) == SETTINGS.epochs


def test_two_samples_end_with_one_probe_and_an_object_each(parts):
    image, (probe, _), positions = parts
    other = make_object(ObjectRecipe(name="dead_leaves", size=(112, 112)), np.random.default_rng(8))
    guess = make_probe(ProbeRecipe(diameter_px=14, defocus=1.6), SIZE, 1.0, np.random.default_rng(3))
    scans = [
        dataclasses.replace(scan, probe=(guess * np.sqrt(scan.photons)).astype(np.complex64))
        for scan in (_scan(image, probe, positions[::2], 0, 1e5), _scan(other, probe, positions[1::2], 1, 1e5))
    ]
    together = refine_jointly(scans, SETTINGS, "probe")
    np.testing.assert_array_equal(together[0].probe, together[1].probe)
    assert not np.array_equal(together[0].object, together[1].object)
    for found in together:
        assert found.history["error"][-1] < 0.5 * found.history["error"][0]


@pytest.mark.parametrize(
    ("change", "share", "message"),
    [
        ({"uncertainty": True}, "object", "without uncertainty"),
        ({"stop": "held_out"}, "object", "without stop: held_out"),
        ({"position_start_epoch": 3}, "probe", "positions are not refined where scans share a probe"),
        ({"probe_variations": 2}, "probe", "probe variations belong to one scan"),
    ],
)
def test_settings_that_it_has_not_are_refused(views, change, share, message):
    with pytest.raises(ValueError, match=message):
        refine_jointly(views, SETTINGS.model_copy(update=change), share)


def test_scans_that_do_not_belong_together_are_refused(views):
    geometry = dataclasses.replace(views[1].geometry, pixel_size_m=2 * views[1].geometry.pixel_size_m)
    with pytest.raises(ValueError, match="object pixels of"):
        refine_jointly([views[0], dataclasses.replace(views[1], geometry=geometry)], SETTINGS, "object")
    with pytest.raises(ValueError, match="expected two or more"):
        refine_jointly(views[:1], SETTINGS, "object")
