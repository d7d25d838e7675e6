"""From the two channels that a network gives for a picture to a complex one; zeros leave what was there before."""

import math

import torch
from torch import Tensor


def complex_change(before: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Real and imaginary part of a change that is added: any complex number can come out."""
    return before + torch.complex(first, second)


def amplitude_and_phase_change(before: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Amplitude, between 0 and 2, and phase, between -pi and pi, of a factor."""
    return before * torch.polar(2 * torch.sigmoid(first), math.pi * torch.tanh(second))


HEADS = {"complex": complex_change, "amplitude_phase": amplitude_and_phase_change}
"""By their names in the config; each takes the complex picture before, and two real ones, of one shape."""
