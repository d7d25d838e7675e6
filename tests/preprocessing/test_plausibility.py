"""Lengths and steps that no experiment has are questioned, usual ones are not."""

import numpy as np
import pytest

from ptychoflow.core.scan import Geometry
from ptychoflow.preprocessing.plausibility import (
    doubts_about_lengths,
    doubts_about_steps,
    likely_unit,
    outlying_positions,
)

USUAL = {"size": 128, "energy_ev": 8800.0, "detector_distance_m": 2.0, "detector_pixel_m": 75e-6}


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"energy_ev": 8.8}, "energy is 8.8 eV (keV?)"),
        ({"detector_distance_m": 2000.0}, "2000 m away (mm?)"),
        ({"detector_pixel_m": 29.0}, "a detector pixel is 29 m wide"),
        ({"detector_pixel_m": 75e-9}, "an object pixel is 2.94e-05 m wide"),
    ],
)
def test_lengths_in_a_wrong_unit_are_questioned(change, doubt):
    doubts = doubts_about_lengths(Geometry.from_detector(**(USUAL | change)), 128)
    assert any(doubt in line for line in doubts), doubts


@pytest.mark.parametrize(
    "change",
    [{}, {"energy_ev": 400.0, "detector_distance_m": 0.08}, {"energy_ev": 33600.0, "detector_distance_m": 10.0}],
)
def test_usual_lengths_raise_no_doubt(change):
    assert not doubts_about_lengths(Geometry.from_detector(**(USUAL | change)), 128)
    assert not doubts_about_lengths(Geometry(2e-11, 1.97e-12, 1.0), 128)


@pytest.mark.parametrize(
    ("step", "extent", "diameter", "doubt"),
    [
        (0.1, (5.0, 5.0), 20.0, "smaller than a pixel"),
        (500.0, (5e3, 5e3), 20.0, "larger than a pattern of 64 px"),
        (30.0, (300.0, 300.0), 20.0, "larger than the beam of 20 px"),
        (0.0, (1e-3, 0.0), 20.0, "all positions lie within 0.001 px"),
        (5.0, (50.0, 50.0), 20.0, None),
    ],
)
def test_steps_that_do_not_suit_the_beam_are_questioned(step, extent, diameter, doubt):
    doubts = doubts_about_steps(step, extent, diameter, 64)
    assert (doubt is None and not doubts) or doubt in doubts[0]


@pytest.mark.parametrize(("unit", "scale"), [("m", 1), ("mm", 1e3), ("um", 1e6), ("nm", 1e9)])
def test_the_unit_in_which_steps_suit_the_patterns_is_found(unit, scale):
    positions = np.random.default_rng(0).uniform(0, 1e-5, (200, 2)) * scale
    assert likely_unit(positions, 3e-8, 64) == unit


def test_one_position_far_outside_is_found_and_a_line_has_none():
    positions = np.random.default_rng(0).uniform(0, 1e-5, (50, 2))
    positions[7] += 0.012
    assert np.flatnonzero(outlying_positions(positions)).tolist() == [7]
    line = np.stack([np.zeros(30), np.arange(30.0)], axis=1)
    assert not outlying_positions(line).any()
