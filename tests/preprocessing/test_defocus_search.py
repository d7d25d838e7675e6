"""The defocus of a beam that nobody recorded is found together with the orientation of the scan."""

import numpy as np
import pytest

from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.preprocessing.defocus_search import find_orientation_and_defocus
from ptychoflow.preprocessing.probe_guess import guess_probe
from ptychoflow.readers.detector_view import mean_of_valid

from ..readers.habits import DISTANCE_M, ENERGY_EV, PITCH_M, SIZE, make_truth


@pytest.mark.parametrize(("flips", "turned"), [((1, -1), False), ((-1, -1), True), ((1, 1), False)])
def test_defocus_and_inverted_motor_are_found_together(flips, turned):
    truth = make_truth()
    geometry = Geometry.from_detector(SIZE, ENERGY_EV, DISTANCE_M, PITCH_M)
    mean = mean_of_valid(truth.counts)
    positions = truth.positions_m / truth.pixel_m * flips
    scan = Scan(truth.counts, positions, guess_probe(mean, geometry), geometry)
    finding, defocus = find_orientation_and_defocus(scan, mean)
    expected = 60 * geometry.pixel_size_m**2 / geometry.wavelength_m
    assert abs(defocus) == pytest.approx(expected, rel=0.35)
    assert finding.sure, finding
    chosen = np.array([-1 if flip else 1 for flip in (finding.best.flip_y, finding.best.flip_x)]) * flips
    assert not finding.best.transpose and chosen[0] == chosen[1]
    assert finding.best.flip_y + finding.best.flip_x <= 1, "of two equal answers that with fewer flips is chosen"
    if turned:
        assert finding.turned is not None
