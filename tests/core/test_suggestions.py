"""A mistyped name gets the nearest known one, by one implementation."""

from pathlib import Path

import pytest

from ptychoflow.core.suggestions import MOST_LISTED, did_you_mean

PACKAGE = Path(__file__).parents[2] / "src" / "ptychoflow"


@pytest.mark.parametrize(
    ("word", "known", "message"),
    [
        ("pak", ["pack", "train"], "; did you mean pack?"),
        ("refinement.epoch", ["refinement.epochs", "training.seed"], "; did you mean refinement.epochs?"),
        ("epoch", ["refinement.epochs", "training.seed"], "; did you mean refinement.epochs?"),
        ("crop", ["packing.crop", "crop"], "; did you mean crop?"),
        ("zzz", ["pack", "train"], "; known: pack, train"),
        ("zzz", [], ""),
        ("zzz", [f"name{number}" for number in range(MOST_LISTED + 1)], ""),
    ],
)
def test_the_nearest_name_is_suggested_or_a_short_list_is_shown(word, known, message):
    assert did_you_mean(word, known) == message


def test_no_other_module_compares_names():
    users = [path for path in PACKAGE.rglob("*.py") if "difflib" in path.read_text()]
    assert users == [PACKAGE / "core" / "suggestions.py"]
