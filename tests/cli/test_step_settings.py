"""Settings of a step are laid over each other in the order of precedence."""

import pytest

from ptychoflow.cli.step_settings import assigned, parse_assignment, step_settings


@pytest.mark.parametrize(
    ("text", "keys", "value"),
    [
        ("refinement.epochs=20", ["refinement", "epochs"], 20),
        ("training.grouping.method=quadrant", ["training", "grouping", "method"], "quadrant"),
        ("tracking.uri=sqlite:///a.db?x=1", ["tracking", "uri"], "sqlite:///a.db?x=1"),
        ("evaluation.split_half=true", ["evaluation", "split_half"], True),
        ("packing.crop=null", ["packing", "crop"], None),
        ("refinement.alpha=[0.1, 1]", ["refinement", "alpha"], [0.1, 1]),
    ],
)
def test_values_are_read_as_yaml(text, keys, value):
    assert parse_assignment(text) == (keys, value)


def test_a_value_inside_a_named_choice_keeps_the_name():
    assert assigned({"simulation": {"object": "cells"}}, ["simulation", "object", "count"], 3) == {
        "simulation": {"object": {"name": "cells", "count": 3}}
    }


def test_an_assignment_changes_no_other_setting():
    before = {"packing": {"crop": 64, "centre": "auto"}}
    assert assigned(before, ["packing", "crop"], 32) == {"packing": {"crop": 32, "centre": "auto"}}
    assert before["packing"]["crop"] == 64


def test_execution_settings_can_be_set_too():
    sections = step_settings(
        "refine",
        ("refinement", "runtime"),
        None,
        ["runtime.devices=2", "refinement.epochs=3"],
        {"runtime": '{"workers": 1}'},
    )
    assert sections["runtime"].devices == 2 and sections["runtime"].workers == 1
    assert sections["refinement"].epochs == 3


def test_the_measurement_is_the_file_of_the_source():
    sections = step_settings("inspect", ("source",), '{"source": {"file": "a.h5"}}', measurement="b.h5")
    assert sections["source"].file == "b.h5"
