"""Panels: a phase uncertainty is shown where there is one, with its coverage where the ground truth is known."""

import numpy as np

from ptychoflow.reporting.images import Detail
from ptychoflow.reporting.results import Result
from ptychoflow.reporting.scan_panels import uncertainty

DETAIL = Detail(tile_px=64, small_px=64, quality=80, patterns=5)
SHAPE = (200, 200)


def _arrays(stated: float, true: float = 0.1) -> dict:
    """A uniform ground truth, an object with a phase error of std ``true``, and its stated standard deviation, rad."""
    error = np.random.default_rng(0).normal(0, true, SHAPE)
    known = {"refined_mask": np.ones(SHAPE, bool), "phase_uncertainty": np.full(SHAPE, stated, np.float32)}
    return known | {"refined": np.exp(1j * (error + 0.3)), "truth": np.ones(SHAPE, complex)}


def test_pixels_within_the_uncertainty_are_counted_where_there_is_a_truth(tmp_path):
    results = [Result({"method": name}, tmp_path) for name in ("honest", "bold", "real")]
    arrays = [_arrays(0.1), _arrays(0.05), _arrays(0.1)]
    del arrays[2]["truth"]
    panel = uncertainty(results, arrays, DETAIL)
    assert [picture.caption for picture in panel.pictures] == ["honest", "bold", "real"]
    honest, bold, real = (picture.details for picture in panel.pictures)
    assert honest.startswith("0.100 rad rms; 68% and 95% of pixels")
    assert bold.startswith("0.050 rad rms; 38% and 67% of pixels")  # erf(1 / 2 / sqrt 2), erf(1.96 / 2 / sqrt 2)
    assert real == "0.100 rad rms"


def test_no_uncertainty_no_panel(tmp_path):
    found = _arrays(0.1)
    del found["phase_uncertainty"]
    assert uncertainty([Result({"method": "pinn"}, tmp_path)], [found], DETAIL) is None
