"""Each planted fault is told of by its kind and never ends as a good reconstruction; clean scans raise no doubt."""

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("planted_faults", Path(__file__).parents[2] / "benchmarks" / "doubts.py")
planted = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(planted)

SHOWN_BEFORE_REFINEMENT = {
    *("amplitudes", "squares", "logarithms", "decimal logarithms", "fractions", "of the maximum", "gain", "smoothed"),
    *("saturated", "background", "strong background", "inverted mask", "wide inverted mask", "beam off by 3 px"),
    *("beam off by 5 px", "frame doubled", "two dark frames", "two flashed frames", "two repeated frames"),
    "probe too weak",
}
"""Faults that `convert` and `pack` tell of; the others show in residuals."""


@pytest.mark.parametrize("name", planted.FAULTS)
def test_a_planted_fault_is_told_of_and_does_not_end_good(name):
    row = planted.fault_row(name, 32)
    assert row["told"], f"expected one of {row['expected']}, got {row['doubts']}"
    assert not row["good"]
    if name in SHOWN_BEFORE_REFINEMENT:
        assert any(kind in row["expected"] for kind in row["before_refinement"])


@pytest.mark.parametrize("name", planted.CLEAN)
def test_a_clean_scan_raises_no_doubt(name):
    assert planted.clean_row(name)["doubts"] == []
