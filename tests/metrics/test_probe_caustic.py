"""The caustic finds the focus of a beam where it was put, and keeps its photons."""

import numpy as np
import pytest

from ptychoflow.metrics.probe_caustic import probe_caustic

SIZE, PIXEL_M, WAVELENGTH_M = 64, 2e-8, 1.5e-10


def _gaussian_beam(distance_m: float) -> np.ndarray:
    """Return a Gaussian beam at a distance behind its waist of 100 nm (closed form)."""
    waist = 1e-7
    y, x = (np.indices((SIZE, SIZE)) - SIZE // 2) * PIXEL_M
    # complex beam parameter q = z - i z_R for exp(i k z) waves
    rayleigh = np.pi * waist**2 / WAVELENGTH_M
    q = distance_m - 1j * rayleigh
    return np.exp(1j * np.pi / WAVELENGTH_M * (x**2 + y**2) / q) / q


@pytest.mark.parametrize("distance_m", [-8e-5, 0.0, 5e-5])
def test_focus_of_a_gaussian_beam_is_found(distance_m):
    caustic = probe_caustic(_gaussian_beam(distance_m), PIXEL_M, WAVELENGTH_M)
    step = caustic.distances_m[1] - caustic.distances_m[0]
    assert caustic.focus_m == pytest.approx(-distance_m, abs=2 * step)
    narrowest = caustic.x[np.argmin(np.abs(caustic.distances_m - caustic.focus_m))]
    assert narrowest.max() == pytest.approx(caustic.x.max())
    assert np.allclose(caustic.x, caustic.y, rtol=1e-6, atol=1e-9 * caustic.x.max())
