"""What every network of the table keeps to: any side, every parameter in use, a small change to begin with."""

import pytest
import torch

from ptychoflow.config import Network
from ptychoflow.networks.registry import ARCHITECTURES, build

SMALL = {"base_channels": 8, "depth": 2}
KINDS = [
    {"architecture": "unet"},
    {"architecture": "unet", "attention": True},
    {"architecture": "cnn"},
    {"architecture": "cnn", "attention": True, "base_channels": 32},
    {"architecture": "cnn", "head": "polar"},
    {"architecture": "fno", "fourier_modes": 3},
]
NAMES = [" with ".join(map(str, kind.values())) for kind in KINDS]


def _network(**settings):
    torch.manual_seed(0)
    return build(Network(**SMALL | settings), 9, 2)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
@pytest.mark.parametrize(("side", "depth"), [(16, 1), (24, 2), (24, 3), (48, 4)])
def test_what_goes_in_comes_out_at_the_same_side(kind, side, depth):
    network = _network(**kind | {"depth": depth})
    assert side % network.stride(depth) == 0
    assert network(torch.randn(1, 9, side, side)).shape == (1, 2, side, side)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_every_parameter_gets_a_gradient(kind):
    network = _network(**kind)
    network(torch.randn(2, 9, 16, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_begins_with_a_small_output(name):
    torch.manual_seed(0)
    out = build(Network(architecture=name), 9, 2)(torch.randn(4, 9, 32, 32))
    assert 1e-4 < out.std() < 0.5


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_an_image_does_not_depend_on_its_batch(kind):
    network, images = _network(**kind), torch.randn(3, 9, 16, 16)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["unet", "cnn"])
def test_attention_acts(name):
    images = torch.randn(2, 9, 16, 16)
    plain, attentive = _network(architecture=name), _network(architecture=name, attention=True)
    attentive.load_state_dict(plain.state_dict(), strict=False)
    before = attentive(images)
    assert (before - plain(images)).abs().max() > 0.05 * before.std()
    if name == "cnn":  # its spatial gate has no bias, as published, and so cannot be opened
        return
    for parameter_name, parameter in attentive.named_parameters():
        if "channel_gate.2.bias" in parameter_name or "spatial_gate.bias" in parameter_name:
            parameter.data.fill_(1e4)  # gates wide open: as if there were none
    torch.testing.assert_close(attentive(images), plain(images))


def _size(**settings) -> int:
    inputs, outputs = settings.pop("inputs", 15), settings.pop("outputs", 2)
    return sum(parameter.numel() for parameter in build(Network(**settings), inputs, outputs).parameters())


def test_networks_are_of_the_size_that_is_said_of_them():
    assert _size() == pytest.approx(0.58e6, rel=0.01)
    assert _size(architecture="cnn") == pytest.approx(0.59e6, rel=0.01)
    assert _size(architecture="fno") == pytest.approx(1.84e6, rel=0.01)


def test_attention_and_fourier_modes_cost_what_they_add():
    widths = (32, 64, 128)
    gates = sum(2 * 4 * w + 4 + w if w <= 64 else 2 * 8 * w + 8 + w for w in widths) + 3 * (2 * 49 + 1)
    assert _size(attention=True) - _size() == gates
    larger, smaller = (_size(architecture="fno", fourier_modes=count) for count in (9, 8))
    assert larger - smaller == 3 * 4 * 32**2 * (81 - 64)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_the_encoder_is_a_part_and_not_the_whole(kind):
    network = _network(**kind)
    encoder = {p for module in network.encoder() for p in module.parameters()}
    assert encoder and encoder < set(network.parameters())
    images = torch.randn(2, 9, 16, 16)
    torch.autograd.grad(network(images).sum(), [p for p in network.parameters() if p not in encoder])
