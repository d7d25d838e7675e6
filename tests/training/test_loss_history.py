"""Loss histories: short enough to draw, without losses that were not computed."""

from ptychoflow.training.loss_history import by_stage, thin

NAN = float("nan")


def test_curves_are_thinned_to_means_and_leave_out_what_was_not_computed():
    columns = {"epoch": [0.0, 1, 2, 3], "loss": [4.0, 2, 1, 1], "supervised": [1.0, NAN, NAN, NAN]}
    assert thin(columns, most=2) == {"epoch": [0.5, 2.5], "loss": [3, 1], "supervised": [1.0, None]}


def test_stages_are_summarised_one_by_one():
    columns = {"stage": [0, 0, 1], "loss": [3.0, 2, 1], "supervised": [3.0, 2, NAN], "physics": [NAN, NAN, 1.0]}
    first, second = by_stage(columns)
    assert (first["loss_first"], first["loss_last"], first["physics_last"]) == (3, 2, None)
    assert (second["stage"], second["steps"], second["supervised_first"], second["physics_last"]) == (1, 1, None, 1)
