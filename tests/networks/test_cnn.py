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
