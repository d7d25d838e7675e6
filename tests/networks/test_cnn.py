"""The two-decoder network: each half of the output has a decoder of its own."""

import torch

from ptychoflow.networks.cnn import TwoDecoderCNN


def test_each_half_of_the_output_comes_from_its_own_decoder():
    torch.manual_seed(0)
    network = TwoDecoderCNN(4, 6, base_channels=8, depth=2)
    network(torch.randn(2, 4, 16, 16))[:, :3].sum().backward()
    first, second = network.decoders
    assert all(parameter.grad.abs().sum() > 0 for parameter in first.parameters())
    assert all(parameter.grad.abs().sum() == 0 for parameter in second.parameters())


def test_a_fresh_polar_network_puts_out_a_uniform_object():
    for activation in ("silu", "sigmoid", "softplus", "relu"):
        torch.manual_seed(0)
        network = TwoDecoderCNN(4, 8, base_channels=32, head="polar", amplitude_activation=activation)
        amplitude, phase = network(torch.rand(2, 4, 64, 64)).chunk(2, dim=1)
        assert (amplitude.mean() - 1).abs() < 0.05 and amplitude.std() < 0.1 and phase.std() < 0.3


def test_the_border_has_features_of_its_own():
    """The central half comes from the first features alone, the border from the last alone."""
    torch.manual_seed(0)
    network = TwoDecoderCNN(2, 4, base_channels=16, depth=3, head="polar")
    out = network(torch.rand(1, 2, 32, 32))
    middle = torch.zeros_like(out)
    middle[..., 8:24, 8:24] = 1
    inside, outside = (middle * out).sum(), ((1 - middle) * out).sum()
    centre, border = network.decoders[0].centre.weight, network.decoders[0].border.weight
    assert torch.autograd.grad(inside, border, retain_graph=True)[0].abs().sum() == 0
    assert torch.autograd.grad(outside, centre)[0].abs().sum() == 0
