"""States of unfinished trainings: where they lie."""

from ptychoflow.learning.states import half_trained_folder


def test_a_half_trained_state_belongs_to_one_recipe(tmp_path):
    output = tmp_path / "results" / "models" / "pinn.ckpt"
    first = half_trained_folder(output, {"config": {"a": 1, "b": 2}})
    assert first.parent == tmp_path / "results" / "checkpoints" / "pinn"
    assert first == half_trained_folder(output, {"config": {"b": 2, "a": 1}})
    assert first != half_trained_folder(output, {"config": {"a": 1, "b": 3}})
