"""Low-order phase: the gradient of the phase under a pattern, from its amplitude residual."""

import numpy as np
import torch

from ptychoflow.physics.forward_model import total_intensity
from ptychoflow.physics.low_order_phase import phase_gradient_normal_equations
from ptychoflow.physics.propagation import far_field_corner


def test_the_residual_of_a_phase_ramp_gives_its_gradient():
    y, x = (torch.arange(64.0) - 32)[:, None], torch.arange(64.0) - 32
    base = torch.exp(-((y - 1) ** 2) / 12 - x**2 / 8 + 0.03j * x * y)
    modes = torch.stack([base, 0.2 * y * base])[None]
    slope = np.array([0.02, -0.03])
    tilted = modes * torch.exp(1j * (slope[0] * y + slope[1] * x))
    wave = far_field_corner(modes)
    modulus = total_intensity(wave).sqrt().clamp_min(1e-6)
    equations = phase_gradient_normal_equations(
        wave, modulus, total_intensity(far_field_corner(tilted)).sqrt() - modulus
    )
    np.testing.assert_allclose(np.linalg.solve(equations[0, :, :2], equations[0, :, 2]), slope, rtol=0.1)
