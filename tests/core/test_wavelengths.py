"""Wavelengths of photons and electrons against tables."""

import pytest

from ptychoflow.core.wavelengths import electron_wavelength_m, photon_wavelength_m


@pytest.mark.parametrize(("energy_ev", "picometres"), [(60e3, 4.8661), (200e3, 2.5079), (300e3, 1.9687)])
def test_electrons_have_their_relativistic_wavelength(energy_ev, picometres):
    assert electron_wavelength_m(energy_ev) == pytest.approx(picometres * 1e-12, rel=1e-4)


def test_photons_have_theirs():
    assert photon_wavelength_m(12398.42) == pytest.approx(1e-10, rel=1e-6)
