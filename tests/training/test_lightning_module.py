"""Training steps: every stage acts, every parameter learns, and a collapse is detected."""

import numpy as np
import pytest
import torch

from ptychoflow.config import Network, Stage, Training
from ptychoflow.data.batch import Batch
from ptychoflow.data.grouping import nearest_groups
from ptychoflow.data.torch_dataset import read_batch
from ptychoflow.networks.group_network import GroupReconstructor
from ptychoflow.networks.registry import ARCHITECTURES
from ptychoflow.physics.data_fidelity import poisson_nll
from ptychoflow.training.callbacks import CollapsedError, CollapseGuard
from ptychoflow.training.lightning_module import GroupTask, contrast_and_correlation, predict_groups
from ptychoflow.training.losses import diffract


@pytest.fixture
def batch(scan):
    rows = np.insert(nearest_groups(scan.positions, np.arange(len(scan)), 4), 0, 0, axis=1)
    return read_batch([scan], rows[:6])


def _task(weight, labelled=True, network=None, freeze=False, **settings) -> GroupTask:
    torch.manual_seed(0)
    sees = {"physics_iterations": 2, "cascades": 2} if network is None else network
    network = GroupReconstructor(Network(**{"group_size": 4, "base_channels": 8, "depth": 2} | sees), window=16)
    training = Training(stages=(Stage(epochs=1, physics_weight=weight, freeze_encoder=freeze),), **settings)
    task = GroupTask(network, training, labelled, steps_per_epoch=10)
    task.log = lambda *args, **kwargs: None
    task.epoch_after = lambda index: 0.0
    return task


def _step(task, batch):
    out = task.training_step(batch, 0)
    out["loss"].backward()
    return out, torch.cat([p.grad.flatten() for p in task.parameters()])


def test_supervised_and_physics_loss_have_different_gradients(batch):
    (supervised, from_supervised), (physics, from_physics) = (_step(_task(weight), batch) for weight in (0.0, 1.0))
    assert set(supervised) == {"loss", "recorded_loss", "supervised"}
    assert set(physics) == {"loss", "recorded_loss", "physics"}
    assert supervised["loss"] != physics["loss"]
    assert torch.cosine_similarity(from_supervised, from_physics, dim=0) < 0.99


def test_a_weight_between_mixes_loss_and_gradient(batch):
    (supervised, g0), (physics, g1), (mixed, g) = (_step(_task(weight), batch) for weight in (0.0, 1.0, 0.25))
    torch.testing.assert_close(mixed["loss"], 0.75 * supervised["loss"] + 0.25 * physics["loss"])
    torch.testing.assert_close(g, 0.75 * g0 + 0.25 * g1, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("weight", "labelled"), [(0.0, True), (1.0, True), (0.5, True), (0.0, False), (0.0, None)])
def test_every_parameter_gets_a_gradient(batch, weight, labelled):
    task = _task(weight, labelled)
    task.training_step(batch, 0)["loss"].backward()
    for name, parameter in task.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("network", [None, *({"architecture": name} for name in ARCHITECTURES)])
def test_a_frozen_encoder_is_passed_over_and_the_rest_learns(batch, network):
    task = _task(1.0, network=network, freeze=True)
    before = {name: p.detach().clone() for name, p in task.named_parameters()}
    optimizer = torch.optim.AdamW(task.parameters(), 0.1, weight_decay=0.1)
    task.training_step(batch, 0)["loss"].backward()
    task.on_after_backward()
    optimizer.step()
    frozen = set(task.network.encoder_parameters())
    assert frozen
    for name, parameter in task.named_parameters():
        assert bool((parameter == before[name]).all()) == (parameter in frozen), name


@pytest.mark.parametrize("part", ["amplitude", "phase"])
def test_a_regulariser_acts_on_loss_and_gradient(batch, part):
    plain, g0 = _step(_task(0.5), batch)
    (weak, g1), (strong, g2) = (
        _step(_task(0.5, regularisation={part: "total_variation", f"{part}_weight": w}), batch) for w in (0.1, 0.2)
    )
    assert "regularisation" not in plain and weak["regularisation"] > 0
    torch.testing.assert_close(strong["loss"] - plain["loss"], 2 * (weak["loss"] - plain["loss"]), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(g2 - g0, 2 * (g1 - g0), rtol=1e-2, atol=1e-4)
    assert (g1 - g0).abs().max() > 1e-4


def test_without_labels_the_ground_truth_has_no_effect(batch):
    blind = batch._replace(truth=None)
    for weight in (0.0, 0.5, 1.0):
        assert (
            _task(weight, False).training_step(batch, 0)["loss"] == _task(weight, False).training_step(blind, 0)["loss"]
        )


def test_held_out_neighbours_are_not_seen_and_alone_make_up_the_data_error(scan):
    rows = np.insert(nearest_groups(scan.positions, np.arange(len(scan)), 7)[:6], 0, 0, axis=1)
    batch = read_batch([scan], rows, group_size=4)
    task = _task(1.0, held_out_neighbours=3)
    loss = task.training_step(batch, 0)["loss"]
    fewer_counts = batch._replace(counts=torch.cat([batch.counts[:, :4], 0.5 * batch.counts[:, 4:]], dim=1))
    torch.testing.assert_close(
        predict_groups(task.network, fewer_counts).canvas, predict_groups(task.network, batch).canvas
    )
    assert task.training_step(fewer_counts, 0)["loss"] != loss
    canvases, _, probes, _, _ = predict_groups(task.network, batch)
    alone = [poisson_nll(batch.counts[:, 4:], diffract(canvas, probes[:, 4:]), batch.mask) for canvas in canvases]
    torch.testing.assert_close(loss, sum(alone))


def test_a_group_lies_in_the_middle_of_what_the_network_sees(scan):
    rows = np.insert(nearest_groups(scan.positions, np.arange(len(scan)), 7)[:6], 0, 0, axis=1)
    with_held_out, without = read_batch([scan], rows, group_size=4), read_batch([scan], rows[:, :5])
    torch.testing.assert_close(with_held_out.centre, without.centre)
    torch.testing.assert_close(with_held_out.relative[:, :4], without.relative)


def test_the_untrained_network_leaves_the_estimate_nearly_as_it_is(batch):
    prediction = predict_groups(_task(1.0).network, batch)
    assert (prediction.canvases[0] - prediction.estimate).abs().max() < 0.5


def test_a_group_does_not_depend_on_its_batch(batch):
    network = _task(1.0).network
    with torch.no_grad():
        alone = [predict_groups(network, batch.part(slice(i, i + 1))).canvas for i in range(3)]
        torch.testing.assert_close(predict_groups(network, batch).canvas[:3], torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_uniform_canvas_has_no_contrast_and_the_estimate_all_of_it(batch):
    prediction = predict_groups(_task(1.0).network, batch)
    estimate = prediction.estimate
    same = contrast_and_correlation(estimate, estimate, prediction.illumination)
    assert same["contrast"] == pytest.approx(1, abs=1e-4) and same["correlation"] == pytest.approx(1, abs=1e-4)
    uniform = contrast_and_correlation(1 + 1e-3 * torch.rand_like(estimate), estimate, prediction.illumination)
    assert uniform["contrast"] < 0.02


class _Trainer:
    current_epoch = 3

    def __init__(self, contrast: float, correlation: float) -> None:
        self.callback_metrics = {"validation/contrast": contrast, "validation/correlation": correlation}


def test_the_guard_stops_a_training_that_collapses_twice():
    guard = CollapseGuard()
    for trainer in (_Trainer(0.01, 0.9), _Trainer(0.9, 0.9), _Trainer(0.9, 0.01)):
        guard.on_validation_end(trainer, None)
    with pytest.raises(CollapsedError, match=r"collapsed in epoch 4: .*lower training.learning_rate"):
        guard.on_validation_end(_Trainer(0.01, 0.01), None)


@pytest.mark.parametrize(
    "network",
    [
        *({"architecture": name} for name in ARCHITECTURES),
        {"attention": True, "output": "patches", "physics_iterations": 3},
        {"input": "amplitude", "output": "patches", "head": "amplitude_phase"},
    ],
)
def test_a_step_on_a_gpu_is_that_on_the_cpu(gpu, batch, network):
    penalties = {"amplitude": "total_variation", "phase": "mean_deviation"}
    on_gpu = Batch(*(part.cuda() if isinstance(part, torch.Tensor) else part for part in batch))
    losses, logged = [], []
    for device, groups in (("cpu", batch), ("cuda", on_gpu)):
        task = _task(0.5, None, network, regularisation=penalties).to(device)
        task.log_dict = lambda metrics, **settings: logged.append({name: float(v) for name, v in metrics.items()})
        loss, gradient = _step(task, groups)
        task.validation_step(groups, 0)
        task.on_validation_epoch_end()
        losses.append([float(loss["loss"]), float(gradient.norm())])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert logged[2:] == [pytest.approx(metrics, rel=1e-2, abs=1e-4) for metrics in logged[:2]]


def test_held_out_neighbours_are_compared_on_a_gpu_too(gpu, scan):
    rows = np.insert(nearest_groups(scan.positions, np.arange(len(scan)), 7)[:6], 0, 0, axis=1)
    batch = read_batch([scan], rows, group_size=4)
    on_gpu = Batch(*(part.cuda() if isinstance(part, torch.Tensor) else part for part in batch))
    on_cpu, on_gpu = (
        _task(1.0, held_out_neighbours=3).to(b.counts.device).training_step(b, 0)["loss"] for b in (batch, on_gpu)
    )
    assert float(on_gpu) == pytest.approx(float(on_cpu), rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        ({}, torch.optim.AdamW, {"betas": (0.9, 0.99), "weight_decay": 0.0}),
        ({"optimizer": "adam", "adam_betas": (0.8, 0.999)}, torch.optim.Adam, {"betas": (0.8, 0.999)}),
        ({"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1}, torch.optim.SGD, {"momentum": 0.5}),
    ],
)
def test_the_optimizer_is_that_of_the_settings(settings, kind, expected):
    optimizer = _task(1.0, **settings).configure_optimizers()["optimizer"]
    assert type(optimizer) is kind and expected.items() <= optimizer.param_groups[0].items()


@pytest.mark.parametrize(("largest", "shrinks"), [(1e-3, True), (None, False)])
def test_gradients_are_clipped_only_where_asked(batch, largest, shrinks):
    task = _task(1.0, gradient_clip=largest)
    _, before = _step(task, batch)
    task.configure_gradient_clipping(None)
    after = torch.cat([p.grad.flatten() for p in task.parameters()])
    assert bool(after.norm() < 0.5 * before.norm()) == shrinks


class _TwoRanks:
    """A trainer of two ranks of which the other one has given these numbers."""

    world_size, current_epoch = 2, 0
    num_val_batches = ()

    def __init__(self, other: list) -> None:
        self.strategy, self._other = self, other

    def reduce(self, own: torch.Tensor, reduce_op: str) -> torch.Tensor:
        both = own + self._other.pop(0).to(own)
        return both / 2 if reduce_op == "mean" else both


def _validated(batch, parts: list[slice], others: list) -> dict:
    task, logged = _task(1.0), {}
    task.log_dict = lambda values, **_: logged.update(values)
    task._trainer = _TwoRanks(others) if others else None
    task.eval()
    task.on_validation_epoch_start()
    with torch.no_grad():
        for part in parts:
            task.validation_step(batch.part(part), 0)
    sums = task._validation_sums
    task.on_validation_epoch_end()
    return logged | {"sums": sums}


def test_validation_metrics_are_means_over_every_group_of_every_rank_once(batch):
    """Six groups in one rank, and five and one in two ranks: the same metrics, and no correlation above 1."""
    whole = _validated(batch, [slice(0, 6)], [])
    first = _validated(batch, [slice(0, 2), slice(2, 5)], [])
    second = _validated(batch, [slice(5, 6)], [first["sums"]])
    assert "validation/correlation" in whole
    for name in whole.keys() - {"sums"}:
        torch.testing.assert_close(second[name], whole[name], rtol=1e-4, atol=1e-6)
    assert second["validation/correlation"] <= 1


def test_the_recorded_loss_is_the_mean_over_ranks(batch):
    task, logged = _task(1.0), {}
    task.log_dict = lambda values, **_: logged.update(values)
    task._trainer = _TwoRanks([torch.tensor([3.0, 5.0])])
    outputs = task.training_step(batch, 0)
    own = outputs["loss"].detach()
    torch.testing.assert_close(outputs["recorded_loss"], (own + 3) / 2)
    torch.testing.assert_close(logged["physics"], outputs["physics"])
    assert outputs["loss"].requires_grad and logged["physics"] != own
