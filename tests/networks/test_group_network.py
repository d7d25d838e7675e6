"""The network of a group: cascades that each correct what the one before left, and a window around the illumination."""

import pytest
import torch

from ptychoflow.config import Network
from ptychoflow.networks.group_network import GroupReconstructor, illuminated_side, window_side
from ptychoflow.physics.back_projection import backproject
from ptychoflow.physics.forward_model import shift_probe

SMALL = {"group_size": 4, "base_channels": 8, "depth": 2}


def _group(batch: int = 2, size: int = 32, patterns: int = 4):
    rng = torch.Generator().manual_seed(2)
    axis = torch.arange(size) - size // 2
    r2 = (axis[:, None] ** 2 + axis**2).float()
    probe = 30 * torch.exp(-r2 / 30 + 0.05j * r2)
    relative = 4 * torch.rand(batch, patterns, 2, generator=rng) - 2
    probes = shift_probe(probe[None, None, None], relative)
    return torch.poisson(20 * torch.rand(batch, patterns, size, size, generator=rng), generator=rng), probes


def _network(**settings) -> GroupReconstructor:
    torch.manual_seed(0)
    steps = {} if settings.get("input") == "amplitude" else {"physics_iterations": 2}
    return GroupReconstructor(Network(**SMALL | steps | settings), window=16)


def test_there_is_a_canvas_after_each_cascade():
    counts, probes = _group()
    canvases, _ = _network(cascades=3)(counts, probes)
    assert [canvas.shape for canvas in canvases] == [(2, 32, 32)] * 3
    assert all(canvas.dtype == torch.complex64 for canvas in canvases)


def test_the_first_cascade_does_not_know_how_many_follow():
    counts, probes = _group()
    torch.testing.assert_close(_network(cascades=3)(counts, probes)[0][0], _network(cascades=1)(counts, probes)[0][0])


def test_no_gradient_flows_from_one_cascade_to_the_one_before():
    counts, probes = _group()
    network = _network(cascades=2)
    network(counts, probes)[0][-1].abs().sum().backward()
    first, second = network.backbones
    assert all(parameter.grad is None for parameter in first.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in second.parameters())


def test_outside_the_window_the_back_projection_stands():
    counts, probes = _group()
    canvases, estimate = _network(cascades=1)(counts, probes)
    change = canvases[0] - estimate.canvas
    assert change[:, 8:24, 8:24].abs().min() > 0
    change[:, 8:24, 8:24] = 0
    assert change.abs().max() == 0


def test_normalised_channels_have_a_mean_square_of_one():
    counts, probes = _group()
    network = _network()
    network.normalise(counts, probes)
    seen = backproject(counts.sqrt(), probes, iterations=2).channels()[..., 8:24, 8:24]
    power = (seen * network.input_scale[:, None, None]).square().mean((0, 2, 3))
    torch.testing.assert_close(power, torch.ones(15), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("head", ["complex", "amplitude_phase"])
@pytest.mark.parametrize("output", ["canvas", "patches"])
@pytest.mark.parametrize("sees", ["backprojection", "amplitude"])
@pytest.mark.parametrize("architecture", ["unet", "cnn", "fno"])
def test_every_input_and_output_gives_a_canvas_and_trains_every_parameter(architecture, sees, output, head):
    counts, probes = _group()
    network = _network(architecture=architecture, input=sees, output=output, head=head)
    relative = torch.zeros(2, 4, 2, dtype=torch.float64)
    canvases, estimate = network(counts, probes, None, relative)
    assert [canvas.shape for canvas in canvases] == [(2, 32, 32)] * (1 if sees == "amplitude" else 2)
    assert canvases[-1].dtype == torch.complex64 and (estimate is None) == (sees == "amplitude")
    sum(canvas.imag.sum() + canvas.real.square().sum() for canvas in canvases).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0 and torch.isfinite(parameter.grad).all(), name


def test_a_network_that_sees_amplitudes_is_blind_to_the_dose_and_to_the_probe():
    counts, probes = _group()
    network = _network(input="amplitude")
    canvas, brighter, other_probe = (
        network(*given)[0][0] for given in ((counts, probes), (9 * counts, probes), (counts, 2j * probes))
    )
    torch.testing.assert_close(canvas, brighter)
    torch.testing.assert_close(canvas, other_probe)


def test_masked_amplitudes_are_not_seen():
    counts, probes = _group()
    mask = torch.ones(1, 1, 32, 32)
    mask[..., 0, 3] = 0
    network = _network(input="amplitude")
    broken = torch.where(mask.bool(), counts, 1e6)
    torch.testing.assert_close(network(counts, probes, mask)[0][0], network(broken, probes, mask)[0][0])


def test_merged_patches_of_amplitudes_move_to_their_positions():
    """A group that lies elsewhere, its probes with it, gives the same picture there."""
    counts, probes = _group()
    network = _network(input="amplitude", output="patches")
    unmoved = network(counts, probes, None, torch.zeros(2, 4, 2))[0][0]
    moved = network(counts, probes.roll((3, -2), (-2, -1)), None, torch.tensor([3.0, -2.0]).expand(2, 4, 2))[0][0]
    torch.testing.assert_close(moved[:, 11:21, 6:16], unmoved[:, 8:18, 8:18], rtol=0, atol=1e-5)
    assert (moved - unmoved).abs().max() > 1e-3


def test_patches_are_merged_with_the_weights_of_the_settings():
    """A central mask lies where its pattern lies and gives the others what it leaves."""
    counts, probes = _group(batch=1, patterns=2)
    relative = torch.tensor([[[0.0, 8.0], [0.0, -8.0]]])
    networks = {
        weighting: _network(input="amplitude", output="patches", group_size=2, patch_weighting=weighting)
        for weighting in ("central", "uniform", "illumination")
    }
    merged = {name: network(counts, probes, None, relative)[0][0] for name, network in networks.items()}
    assert all((merged["central"] - merged[other]).abs().max() > 0 for other in ("uniform", "illumination"))
    # central halves of 16 px around columns 24 and 8: nothing above row 8, one patch on either side
    assert (merged["central"][0, :7] == 1).all() and (merged["central"][0, 9:23, 1:15] != 1).all()
    with pytest.raises(ValueError, match="patch_weighting central needs positions"):
        networks["central"](counts, probes)


@pytest.mark.parametrize(("size", "depth"), [(32, 4), (48, 4), (64, 4), (112, 4), (512, 5)])
@pytest.mark.parametrize("architecture", ["unet", "cnn", "fno"])
def test_patterns_of_any_side_suit(architecture, size, depth):
    settings = Network(architecture=architecture, depth=depth, base_channels=8, input="amplitude", group_size=1)
    window = window_side(settings, torch.ones(1, size, size))
    counts, probes = torch.ones(1, 1, size, size), torch.ones(1, 1, 1, size, size, dtype=torch.complex64)
    with torch.no_grad():
        assert GroupReconstructor(settings, window)(counts, probes)[0][0].shape == (1, size, size)


@pytest.mark.parametrize("patterns", [1, 2, 7, 16])
def test_groups_of_any_size_suit(patterns):
    counts, probes = _group(patterns=patterns)
    assert _network(group_size=patterns)(counts, probes)[0][-1].shape == (2, 32, 32)


def test_amplitudes_need_the_whole_pattern_and_back_projections_the_illuminated_square():
    illumination = torch.zeros(1, 64, 64)
    illumination[:, 24:40, 24:40] = 1
    assert window_side(Network(depth=2), illumination) == 16
    assert window_side(Network(depth=2, input="amplitude"), illumination) == 64


def test_patterns_too_small_for_the_depth_are_refused():
    with pytest.raises(ValueError, match=r"network.depth 5 needs patterns of at least 32 px, got 16 px: lower"):
        window_side(Network(depth=5), torch.ones(1, 16, 16))


@pytest.mark.parametrize(("half", "window"), [(3, 8), (4, 8), (5, 16), (40, 64)])
def test_the_window_is_the_smallest_that_holds_the_illumination(half, window):
    illumination = torch.zeros(2, 64, 64)
    illumination[:, 32 - half if half < 32 else 0 : 32 + half, 32 - half if half < 32 else 0 : 32 + half] = 1
    assert illuminated_side(illumination, stride=8, share=1.0) == window


def test_the_window_holds_the_illumination_of_the_widest_group():
    illumination = torch.zeros(2, 64, 64)
    illumination[0, 30:34, 30:34] = 1
    illumination[1, 20:44, 20:44] = 1
    assert illuminated_side(illumination, stride=8, share=1.0) == 24
