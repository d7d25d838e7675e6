"""What is read from measures for a report."""

from pathlib import Path

import pytest

from ptychoflow.reporting.results import Result

STITCHED = {"synchronise": 0.1, "assembly": 0.2}


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"seconds": STITCHED, "inference": {"seconds": {"inference": 3.0, "total": 3.5}}}, 3.8),
        ({"seconds": STITCHED, "inference": {"seconds": {"inference": 3.0, **STITCHED, "total": 4.0}}}, 4.0),
        ({"seconds": STITCHED, "inference": None}, 0.3),
        ({"seconds": 7.0}, 7.0),
        ({}, None),
    ],
    ids=["predicted, then stitched", "in one go", "patches without times", "one number", "nothing told"],
)
def test_a_stage_takes_as_long_as_all_its_steps(told, seconds):
    found = Result({"reconstructions": {"network": told}}, Path()).seconds("network")
    assert found == (None if seconds is None else pytest.approx(seconds))
