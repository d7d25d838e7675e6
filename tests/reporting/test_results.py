"""Results read from metrics for a report."""

from pathlib import Path

import pytest

from ptychoflow.reporting.results import Result

STITCHED = {"synchronise": 0.1, "assembly": 0.2}


@pytest.mark.parametrize(
    ("network", "seconds"),
    [
        ({"seconds": STITCHED, "inference": {"seconds": {"inference": 3.0, "total": 3.5}}}, 3.8),
        ({"seconds": STITCHED, "inference": {"seconds": {"inference": 3.0, **STITCHED, "total": 4.0}}}, 4.0),
        ({"seconds": STITCHED, "inference": None}, 0.3),
        ({"seconds": 7.0}, 7.0),
        ({}, None),
    ],
    ids=["inferred, then stitched", "in one step", "patches without times", "one number", "unknown"],
)
def test_a_stage_takes_as_long_as_all_its_steps(network, seconds):
    found = Result({"reconstructions": {"network": network}}, Path()).seconds("network")
    assert found == (None if seconds is None else pytest.approx(seconds))
