"""Wavelengths of photons and of electrons by their energy."""

import math
from typing import Literal

from .scan import ELEMENTARY_CHARGE_C, PLANCK_J_S, SPEED_OF_LIGHT_M_S

Radiation = Literal["photons", "electrons"]

ELECTRON_MASS_EV = 510998.95
ELECTRONS_FROM_EV = 100e3
"""Energy from which on radiation is taken for electrons where nothing says what it is."""
PHOTONS_BELOW_EV = 50e3
"""Energy below which radiation is taken for photons where nothing says what it is."""


def photon_wavelength_m(energy_ev: float) -> float:
    """Wavelength of a photon, lambda = h c / E, m."""
    return PLANCK_J_S * SPEED_OF_LIGHT_M_S / (energy_ev * ELEMENTARY_CHARGE_C)


def electron_wavelength_m(energy_ev: float) -> float:
    """Relativistic de Broglie wavelength of an electron, lambda = h c / sqrt(E (E + 2 m c^2)), m."""
    momentum_ev = math.sqrt(energy_ev * (energy_ev + 2 * ELECTRON_MASS_EV))
    return photon_wavelength_m(momentum_ev)


def wavelength_of(energy_ev: float, radiation: Radiation | None, where: str) -> float:
    """Return the wavelength, m; where nothing says what the radiation is, the energy decides if it can.

    Args:
        energy_ev: energy of a photon, or kinetic energy of an electron.
        radiation: what it is, if that is known.
        where: name of the file in messages.

    Raises:
        ValueError: for an energy that photons and electrons may have.
    """
    if radiation is None and PHOTONS_BELOW_EV <= energy_ev < ELECTRONS_FROM_EV:
        raise ValueError(
            f"{where}: {energy_ev:.6g} eV may be the energy of photons or of electrons: set source.radiation"
        )
    if radiation is None:
        radiation = "electrons" if energy_ev >= ELECTRONS_FROM_EV else "photons"
    return electron_wavelength_m(energy_ev) if radiation == "electrons" else photon_wavelength_m(energy_ev)
