"""Fits to learn from: the right pixels, another view each time, and no witness among what a fit was given."""

import numpy as np
import pytest
import torch

from ptychoflow.config import Grouping, Inference, Network, Refinement, Runtime, Training, Validation
from ptychoflow.inference.learned_refinement import run_cascades
from ptychoflow.io.dataset import open_dataset
from ptychoflow.networks.object_network import ObjectCorrector, illumination_of
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.short_schedule import EPOCHS
from ptychoflow.runtime.timing import Clock
from ptychoflow.training import fit_datamodule as module
from ptychoflow.training.fit_datamodule import FITS, FitData

from ..simulated_gpu import needs_cpu_build, simulate_gpus

CPU = Runtime(accelerator="cpu", threads=1)


def _data(dataset, runtime: Runtime = CPU, **settings) -> FitData:
    training = Training(grouping=Grouping(k_nearest=6), validation=Validation(fraction=0.16), **settings)
    return FitData([open_dataset(dataset)], 4, training, runtime)


@pytest.fixture(scope="module")
def labelled(tiny_dataset) -> FitData:
    return _data(tiny_dataset)


def _correlation(field: torch.Tensor, truth: torch.Tensor, illumination: torch.Tensor) -> float:
    """Correlation weighed by illumination, independent of offset and scale."""
    field, truth = (
        x - (illumination * x).sum((-2, -1), keepdim=True) / illumination.sum((-2, -1), keepdim=True)
        for x in (field, truth)
    )
    product = (illumination * field.conj() * truth).sum().abs()
    return float(product / ((illumination * field.abs() ** 2).sum() * (illumination * truth.abs() ** 2).sum()).sqrt())


def test_features_lie_where_their_groups_do(labelled):
    batch = labelled.batch(labelled.sampler().rows()[:24, :5])
    image, illumination = batch.features[:, 0], illumination_of(batch.features)
    assert image.shape == batch.truth.shape
    aligned = _correlation(image, batch.truth, illumination)
    assert aligned > 0.85
    for shift in ((2, 0), (0, 2), (-2, 0), (0, -2)):
        assert _correlation(image.roll(shift, (1, 2)), batch.truth, illumination) < aligned - 0.02
    assert _correlation(image.mT, batch.truth, illumination) < aligned - 0.1


def test_each_epoch_gives_other_features_and_always_the_same(labelled):
    rows = labelled.sampler().rows()[:5, :5]
    shown = [labelled.batch(rows, epoch).features for epoch in (0, 1, 0, EPOCHS)]
    assert (shown[0] != shown[1]).any()
    assert torch.equal(shown[0], shown[2]) and torch.equal(shown[0], shown[3])


def test_without_held_out_neighbours_a_refinement_uses_every_pattern(labelled):
    assert not labelled.batch(labelled.sampler().rows()[:24, :5]).held_out.any()


def test_held_out_patterns_are_not_used_by_the_refinement(tiny_dataset):
    data = _data(tiny_dataset, held_out_neighbours=2)
    rows = data.sampler().rows()
    held_out = torch.cat([data.batch(rows, epoch).held_out for epoch in range(FITS * EPOCHS)])
    assert abs(float(held_out.float().mean()) - 2 / 6) < 0.06
    # counts that the fit was not given do not show in its views
    scan = open_dataset(tiny_dataset)
    batch = data.batch(rows[:1])
    left_out = np.setdiff1d(np.arange(len(scan)), np.flatnonzero(data._fits[0]._uncorrected[0].used))
    counts = np.array(scan.counts)
    counts[left_out] = 0
    other = FitData([scan.__class__(**vars(scan) | {"counts": counts})], 4, data.training, CPU)
    first = [pair._fits[0]._uncorrected[0].features for pair in (data, other)]
    assert torch.equal(*first) and batch.held_out.shape == (1, 6)


@needs_cpu_build
def test_each_process_refines_on_its_own_gpu(tiny_dataset, monkeypatch):
    devices, engine = [], module.RefinementEngine
    monkeypatch.setattr(
        module, "RefinementEngine", lambda *args, ctx: devices.append(ctx.device) or engine(*args, ctx=ctx)
    )
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with simulate_gpus(count=2):
            _data(tiny_dataset, runtime=Runtime(accelerator="gpu", devices=2))
    assert devices == [torch.device("cuda", 0), torch.device("cuda", 1)]


def _idle_network(**settings) -> ObjectCorrector:
    """One that changes nothing."""
    network = ObjectCorrector(Network(input="object_estimate", base_channels=8, depth=2, **settings), 32)
    with torch.no_grad():
        for parameter in network.backbones[0].output.parameters():
            parameter.zero_()
    return network


def test_refinements_that_a_network_corrects_are_added_to_the_others(tiny_dataset):
    """What nothing corrects is another fit as it was; a change of the object shows in all that is seen afterwards."""
    scan, idle = _data(tiny_dataset)._fits[0], _idle_network()
    scan.add_corrected(idle, 0)
    plain, corrected = ([entry.features for entry in entries] for entries in (scan._uncorrected, scan._all[EPOCHS:]))
    assert len(corrected) == EPOCHS - 1
    torch.testing.assert_close(torch.stack(corrected), torch.stack(plain[1:]), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        idle.backbones[0].output.bias.fill_(0.05)
    scan.add_corrected(idle, 0)
    for after, before in zip(scan._all[EPOCHS:], plain[1:], strict=True):
        assert (after.features[0] - before[0]).abs().mean() > 0.01


def test_errors_at_validations_can_be_compared(tiny_dataset):
    data = _data(tiny_dataset)
    rows = data.sampler().rows()[:5, :5]
    before = data.batch(rows).features
    data._fits[0].add_corrected(_idle_network(), 1)
    assert torch.equal(data.batch(rows).features, before)


def test_no_correction_leaves_the_fit_alone(tiny_dataset):
    """An empty change, and one epoch a cascade: the refinement alone is left."""
    scan = open_dataset(tiny_dataset)
    network = _idle_network(cascades=2)
    fit, plain = RefinementEngine(scan, Refinement()), RefinementEngine(scan, Refinement())
    errors = list(run_cascades(network, fit, Inference(), Clock()))
    met = []
    for epoch in range(2):
        met.append(plain.epoch(progress=epoch / EPOCHS).error)
        plain.apply_low_order_phase()
    np.testing.assert_allclose(errors, met, rtol=1e-5)
    turned = fit.object * (fit.object.conj() * plain.object).sum().sgn()
    torch.testing.assert_close(turned, plain.object, rtol=1e-4, atol=1e-4)
