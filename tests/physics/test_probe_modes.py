"""Operations on probe modes conserve intensities."""

import numpy as np
import torch

from ptychoflow.physics.forward_model import expected_counts, intensity
from ptychoflow.physics.probe_modes import add_modes, orthogonalise_modes


def _probe(modes: int) -> torch.Tensor:
    rng = np.random.default_rng(2)
    y, x = np.indices((24, 24)) - 12
    waves = rng.normal(size=(modes, 24, 24)) + 1j * rng.normal(size=(modes, 24, 24))
    return torch.from_numpy(waves * np.exp(-(y**2 + x**2) / 40))


def _overlaps(probe: torch.Tensor) -> torch.Tensor:
    flat = probe.flatten(1)
    return flat @ flat.mH


def test_orthogonal_modes_make_the_same_patterns():
    probe = _probe(3)
    window = torch.from_numpy(np.random.default_rng(3).normal(size=(24, 24)) + 1j)
    torch.testing.assert_close(expected_counts(window, orthogonalise_modes(probe)), expected_counts(window, probe))


def test_orthogonal_modes_are_orthogonal_the_brightest_first():
    overlaps = _overlaps(orthogonalise_modes(_probe(4)))
    energies = overlaps.diagonal().real
    assert (overlaps - torch.diag(overlaps.diagonal())).abs().max() < 1e-10 * energies[0]
    assert (energies.diff() < 0).all()


def test_added_modes_conserve_photons_and_the_first_mode():
    probe = _probe(1)
    more = add_modes(probe, 6, 0.05)
    overlaps = _overlaps(more)
    torch.testing.assert_close(intensity(more).sum(), intensity(probe).sum())
    torch.testing.assert_close(more[0] / more[0].norm(), probe[0] / probe[0].norm())
    assert (overlaps - torch.diag(overlaps.diagonal())).abs().max() < 1e-10 * overlaps[0, 0].real
    shares = overlaps.diagonal().real / overlaps[0, 0].real
    torch.testing.assert_close(shares[1:], torch.full((5,), 0.05, dtype=shares.dtype))


def test_fewer_modes_are_the_first_ones_with_all_photons():
    probe = orthogonalise_modes(_probe(3))
    fewer = add_modes(probe, 2, 0.05)
    torch.testing.assert_close(intensity(fewer).sum(), intensity(probe).sum())
    torch.testing.assert_close(fewer / fewer.norm(), probe[:2] / probe[:2].norm())
