"""Pictures: scale bars are round lengths that fit, and a phase that goes all the way round has colours that meet."""

import numpy as np
import pytest

from ptychoflow.reporting.images import CYCLE, PHASE, colour, phase_colours, scale_bar


@pytest.mark.parametrize(
    ("pixel_size_m", "width_px", "label"),
    [(2.56e-8, 355, "2 µm"), (5.87e-8, 198, "2 µm"), (1e-9, 100, "20 nm"), (2e-6, 2000, "1 mm"), (1e-10, 64, "1 nm")],
)
def test_a_scale_bar_is_a_round_length_of_at_most_a_third(pixel_size_m, width_px, label):
    bar = scale_bar(pixel_size_m, width_px)
    assert bar.label == label
    assert 0.1 < bar.fraction <= 0.3


def test_a_phase_that_goes_round_is_drawn_in_a_circle_of_colours():
    ramp, everywhere = np.linspace(-np.pi, np.pi, 101)[None], np.ones((1, 101), bool)
    scale, colours = phase_colours(ramp, everywhere)
    assert colours == CYCLE
    ends = colour(ramp, everywhere, scale, colours)[0, [0, -1], :3].astype(int)
    assert np.abs(ends[0] - ends[1]).max() <= 3
    (low, high), colours = phase_colours(0.2 * ramp, everywhere)
    assert colours == PHASE and low == pytest.approx(-0.2 * np.pi, rel=0.02) and high == pytest.approx(-low)
