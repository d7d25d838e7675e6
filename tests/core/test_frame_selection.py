"""Patterns are selected by number and by range, and nothing beyond the last one."""

import numpy as np
import pytest

from ptychoflow.core.frame_selection import selected_patterns


def test_numbers_and_ranges():
    assert np.flatnonzero(selected_patterns((1, "3:5", "8:"), 10, "x")).tolist() == [1, 3, 4, 8, 9]
    assert not selected_patterns((), 3, "x").any()


@pytest.mark.parametrize("entry", [10, "10:", "8:11"])
def test_what_is_beyond_the_scan_is_refused(entry):
    with pytest.raises(ValueError, match=r"x names .*, expected numbers from 0 to 9"):
        selected_patterns((entry,), 10, "x")
