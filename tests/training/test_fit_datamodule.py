"""Fits to learn from: the right pixels, another view each time, and no witness among what a fit was given."""

import numpy as np
import pytest
import torch

from ptychoflow.config import Grouping, Inference, Network, Refinement, Runtime, Training, Validation
from ptychoflow.inference.learned_refinement import run_cascades
from ptychoflow.io.dataset import open_dataset
from ptychoflow.networks.object_network import ObjectCorrector, light_of
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.short_schedule import EPOCHS
from ptychoflow.runtime.timing import Clock
from ptychoflow.training import fit_datamodule as fitted
from ptychoflow.training.fit_datamodule import FITS, FitData

from ..simulated_gpu import needs_cpu_build, simulate_gpus

CPU = Runtime(accelerator="cpu", threads=1)


def _data(dataset, runtime: Runtime = CPU, **settings) -> FitData:
    training = Training(grouping=Grouping(k_nearest=6), validation=Validation(fraction=0.16), **settings)
    return FitData([open_dataset(dataset)], 4, training, runtime)


@pytest.fixture(scope="module")
def labelled(tiny_dataset) -> FitData:
    return _data(tiny_dataset)


def _likeness(field: torch.Tensor, truth: torch.Tensor, light: torch.Tensor) -> float:
    """Correlation under the light, blind to offset and scale."""
    field, truth = (
        x - (light * x).sum((-2, -1), keepdim=True) / light.sum((-2, -1), keepdim=True) for x in (field, truth)
    )
    product = (light * field.conj() * truth).sum().abs()
    return float(product / ((light * field.abs() ** 2).sum() * (light * truth.abs() ** 2).sum()).sqrt())


def test_views_lie_where_their_groups_do(labelled):
    batch = labelled.batch(labelled.sampler().rows()[:24, :5])
    image, light = batch.view[:, 0], light_of(batch.view)
    assert image.shape == batch.truth.shape
    here = _likeness(image, batch.truth, light)
    assert here > 0.85
    for shift in ((2, 0), (0, 2), (-2, 0), (0, -2)):
        assert _likeness(image.roll(shift, (1, 2)), batch.truth, light) < here - 0.02
    assert _likeness(image.mT, batch.truth, light) < here - 0.1


def test_each_epoch_shows_another_view_and_always_the_same(labelled):
    rows = labelled.sampler().rows()[:5, :5]
    shown = [labelled.batch(rows, epoch).view for epoch in (0, 1, 0, EPOCHS)]
    assert (shown[0] != shown[1]).any()
    assert torch.equal(shown[0], shown[2]) and torch.equal(shown[0], shown[3])


def test_without_witnesses_a_fit_is_given_every_pattern(labelled):
    assert not labelled.batch(labelled.sampler().rows()[:24, :5]).held_out.any()


def test_what_a_network_is_held_against_its_fit_was_not_given(tiny_dataset):
    data = _data(tiny_dataset, held_out_neighbours=2)
    rows = data.sampler().rows()
    held_out = torch.cat([data.batch(rows, epoch).held_out for epoch in range(FITS * EPOCHS)])
    assert abs(float(held_out.float().mean()) - 2 / 6) < 0.06
    # counts that the fit was not given do not show in its views
    scan = open_dataset(tiny_dataset)
    batch = data.batch(rows[:1])
    left_out = np.setdiff1d(np.arange(len(scan)), np.flatnonzero(data._fitted[0]._plain[0][2]))
    counts = np.array(scan.counts)
    counts[left_out] = 0
    other = FitData([scan.__class__(**vars(scan) | {"counts": counts})], 4, data.training, CPU)
    first = [pair._fitted[0]._plain[0][0] for pair in (data, other)]
    assert torch.equal(*first) and batch.held_out.shape == (1, 6)


@needs_cpu_build
def test_each_process_fits_on_its_own_gpu(tiny_dataset, monkeypatch):
    places, fit = [], fitted.RefinementEngine
    monkeypatch.setattr(fitted, "Fit", lambda *given, ctx: places.append(ctx.device) or fit(*given, ctx=ctx))
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with simulate_gpus(count=2):
            _data(tiny_dataset, runtime=Runtime(accelerator="gpu", devices=2))
    assert places == [torch.device("cuda", 0), torch.device("cuda", 1)]


def _idle_network(**settings) -> ObjectCorrector:
    """One that changes nothing."""
    network = ObjectCorrector(Network(input="object_estimate", base_channels=8, depth=2, **settings), 32)
    with torch.no_grad():
        for parameter in network.backbones[0].leave.parameters():
            parameter.zero_()
    return network


def test_fits_that_a_network_corrects_are_shown_beside_the_others(tiny_dataset):
    """What nothing corrects is another fit as it was; a change of the object shows in all that is seen afterwards."""
    scan, idle = _data(tiny_dataset)._fitted[0], _idle_network()
    scan.follow(idle, 0)
    plain, followed = ([seen for seen, _, _ in views] for views in (scan._plain, scan._shown[EPOCHS:]))
    assert len(followed) == EPOCHS - 1
    torch.testing.assert_close(torch.stack(followed), torch.stack(plain[1:]), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        idle.backbones[0].leave.bias.fill_(0.05)
    scan.follow(idle, 0)
    for seen, before in zip(scan._shown[EPOCHS:], plain[1:], strict=True):
        assert (seen[0] - before[0]).abs().mean() > 0.01


def test_errors_at_validations_can_be_compared(tiny_dataset):
    data = _data(tiny_dataset)
    rows = data.sampler().rows()[:5, :5]
    before = data.batch(rows).view
    data._fitted[0].follow(_idle_network(), 1)
    assert torch.equal(data.batch(rows).view, before)


def test_no_correction_leaves_the_fit_alone(tiny_dataset):
    """An empty change, and one epoch a pass: what is left is the fit itself."""
    scan = open_dataset(tiny_dataset)
    network = _idle_network(passes=2)
    fit, plain = RefinementEngine(scan, Refinement()), RefinementEngine(scan, Refinement())
    errors = list(run_cascades(network, fit, Inference(), Clock()))
    met = []
    for epoch in range(2):
        met.append(plain.epoch(done=epoch / EPOCHS).error)
        plain.apply_low_order_phase()
    np.testing.assert_allclose(errors, met, rtol=1e-5)
    turned = fit.object * (fit.object.conj() * plain.object).sum().sgn()
    torch.testing.assert_close(turned, plain.object, rtol=1e-4, atol=1e-4)
