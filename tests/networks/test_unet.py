"""The U-Net: every side that its stride divides, every parameter in use, a small change to begin with."""

import pytest
import torch

from ptychoflow.networks.architectures import ARCHITECTURES
from ptychoflow.networks.unet import UNet


@pytest.mark.parametrize(("side", "levels"), [(16, 1), (24, 2), (24, 3), (48, 4)])
def test_what_goes_in_comes_out_at_the_same_side(side, levels):
    network = UNet(9, 2, width=8, levels=levels)
    assert side % UNet.stride(levels) == 0
    assert network(torch.randn(3, 9, side, side)).shape == (3, 2, side, side)


def test_every_parameter_gets_a_gradient():
    network = UNet(9, 2, width=8, levels=3)
    network(torch.randn(2, 9, 16, 16)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_it_begins_with_a_small_output():
    torch.manual_seed(0)
    out = UNet(9, 2)(torch.randn(4, 9, 32, 32))
    assert 1e-4 < out.std() < 0.1


def test_an_image_does_not_depend_on_its_batch():
    network = UNet(9, 2, width=8, levels=2)
    images = torch.randn(3, 9, 16, 16)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_says_what_it_divides_by(name):
    stride = ARCHITECTURES[name].stride(2)
    out = ARCHITECTURES[name](4, 2, 8, 2)(torch.randn(1, 4, 2 * stride, 2 * stride))
    assert out.shape == (1, 2, 2 * stride, 2 * stride)
