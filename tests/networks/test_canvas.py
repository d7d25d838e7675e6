"""The network of a group: passes that each correct what the one before left, and a window around the light."""

import pytest
import torch

from ptychoflow.config import Network
from ptychoflow.networks.canvas import CanvasNetwork, window_for
from ptychoflow.networks.estimate import backproject
from ptychoflow.physics.forward import shift_probe


def _group(batch: int = 2, size: int = 32, patterns: int = 4):
    rng = torch.Generator().manual_seed(2)
    axis = torch.arange(size) - size // 2
    r2 = (axis[:, None] ** 2 + axis**2).float()
    probe = 30 * torch.exp(-r2 / 30 + 0.05j * r2)
    relative = 4 * torch.rand(batch, patterns, 2, generator=rng) - 2
    probes = shift_probe(probe[None, None, None], relative)
    return torch.poisson(20 * torch.rand(batch, patterns, size, size, generator=rng), generator=rng), probes


def _network(**settings) -> CanvasNetwork:
    torch.manual_seed(0)
    return CanvasNetwork(Network(**{"width": 8, "levels": 2, "iterations": 2} | settings), window=16)


def test_there_is_a_canvas_after_each_pass():
    counts, probes = _group()
    canvases, _ = _network(passes=3)(counts, probes)
    assert [canvas.shape for canvas in canvases] == [(2, 32, 32)] * 3
    assert all(canvas.dtype == torch.complex64 for canvas in canvases)


def test_the_first_pass_does_not_know_how_many_follow():
    counts, probes = _group()
    torch.testing.assert_close(_network(passes=3)(counts, probes)[0][0], _network(passes=1)(counts, probes)[0][0])


def test_no_gradient_flows_from_one_pass_to_the_one_before():
    counts, probes = _group()
    network = _network(passes=2)
    network(counts, probes)[0][-1].abs().sum().backward()
    first, second = network.backbones
    assert all(parameter.grad is None for parameter in first.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in second.parameters())


def test_outside_the_window_the_back_projection_stands():
    counts, probes = _group()
    canvases, estimate = _network(passes=1)(counts, probes)
    change = canvases[0] - estimate.canvas
    assert change[:, 8:24, 8:24].abs().min() > 0
    change[:, 8:24, 8:24] = 0
    assert change.abs().max() == 0


def test_normalised_channels_have_a_mean_square_of_one():
    counts, probes = _group()
    network = _network()
    network.normalise(backproject(counts.sqrt(), probes, iterations=2))
    seen = network._inputs(backproject(counts.sqrt(), probes, iterations=2))
    torch.testing.assert_close(seen.square().mean((0, 2, 3)), torch.ones(15), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("half", "window"), [(3, 8), (4, 8), (5, 16), (40, 64)])
def test_the_window_is_the_smallest_that_holds_the_light(half, window):
    light = torch.zeros(2, 64, 64)
    light[:, 32 - half if half < 32 else 0 : 32 + half, 32 - half if half < 32 else 0 : 32 + half] = 1
    assert window_for(light, stride=8, share=1.0) == window


def test_the_window_holds_the_light_of_the_widest_group():
    light = torch.zeros(2, 64, 64)
    light[0, 30:34, 30:34] = 1
    light[1, 20:44, 20:44] = 1
    assert window_for(light, stride=8, share=1.0) == 24
