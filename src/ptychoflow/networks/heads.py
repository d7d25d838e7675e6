"""Heads: from two real channels of a network to a complex image; zeros leave it unchanged, but for ``polar``."""

import math

import torch
from torch import Tensor


def complex_change(before: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Add ``first + 1j * second``: the result is unbounded.

    Args:
        before: complex image to change, of any shape.
        first: real part of the change, of the same shape.
        second: imaginary part.
    """
    return before + torch.complex(first, second)


def amplitude_and_phase_change(before: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Multiply by a factor of amplitude 0 to 2 and phase -pi to pi.

    Args:
        before: complex image to change, of any shape.
        first: logit of half the amplitude, of the same shape.
        second: inverse hyperbolic tangent of the phase over pi.
    """
    return before * torch.polar(2 * torch.sigmoid(first), math.pi * torch.tanh(second))


def polar_factor(before: Tensor, amplitude: Tensor, phase: Tensor) -> Tensor:
    """Multiply by ``amplitude * exp(1j * phase)``, which the network has put out as they are.

    Args:
        before: complex image to change, of any shape.
        amplitude: of the factor, of the same shape; it may be negative.
        phase: of the factor, rad.
    """
    return before * torch.complex(amplitude * torch.cos(phase), amplitude * torch.sin(phase))


HEADS = {"complex": complex_change, "amplitude_phase": amplitude_and_phase_change, "polar": polar_factor}
"""Heads by their names in the config; each takes the complex image before and two real images of its shape."""
