"""A sweep is written out as methods and scans named from what differs; what combinations have in common exists once."""

import pytest

from ptychoflow.config import ConfigError, load_config
from ptychoflow.config.sweep_expansion import Plan, plan

STAGES = {"labels": [{"epochs": 4, "physics_weight": 0.0}], "physics": [{"epochs": 4, "physics_weight": 1.0}]}
NAMED_ALIKE = {"x": "mae", "y": "poisson"}, {"x": "amplitude", "y": "auto"}


def _planned(over: dict, method: str | list[str] = "pinn", methods: dict | None = None, **more) -> Plan:
    config = {
        "scans": {
            "leaves": {"simulation": {"object": {"name": "dead_leaves", "size": 300}, "seed": 1}},
            "grains": {"simulation": {"object": "polyhedra", "seed": 2}},
            "star": {"simulation": {"object": "siemens_star", "photons_per_pattern": 1e4}},
            "measured": {"source": {"file": "a.npz"}},
        },
        "methods": {
            "pinn": {"train_on": ["leaves", "grains"], "reconstruct": ["star", "measured"]},
            "flat": {"initial_object": "uniform", "reconstruct": ["star"]},
            **(methods or {}),
        },
        "sweeps": {"s": {"method": method, "over": over, **more}},
    }
    return plan(load_config(config))


def test_every_combination_is_a_model_named_from_its_values():
    planned = _planned({"training.seed": [0, 1], "network.base_channels": [32, 64]})
    assert set(planned.methods) == {"flat", "pinn", "pinn-base_channels64", "pinn-seed1", "pinn-seed1-base_channels64"}
    both = planned.methods["pinn-seed1-base_channels64"]
    assert (both.training.seed, both.network.base_channels, both.train_on) == (1, 64, ("leaves", "grains"))
    assert [each.values for each in planned.combinations["s"]][1] == {
        "training.seed": "0",
        "network.base_channels": "64",
    }


def test_a_value_that_the_model_has_already_is_the_model_itself():
    planned = _planned({"training.seed": [0, 1]})
    assert [each.method for each in planned.combinations["s"]] == ["pinn", "pinn-seed1"]
    assert planned.trainings() == ["pinn", "pinn-seed1"]


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("training.learning_rate", 0.05, "learning_rate0p05"),
        ("training.learning_rate", 1e-5, "learning_rate1e-5"),
        ("simulation.photons_per_pattern", 1e6, "photons_per_pattern1e6"),
        ("simulation.photons_per_pattern", 1200.0, "photons_per_pattern1200"),
        ("simulation.photons_per_pattern", 1.5e6, "photons_per_pattern1p5e6"),
        ("network.base_channels", 64, "base_channels64"),
        ("training.physics_loss", "amplitude", "amplitude"),
    ],
)
def test_names_of_numbers_can_be_names_of_files(key, value, name):
    assert _planned({key: [value]}).combinations["s"][0].method == f"pinn-{name}"


def test_scans_whose_simulation_is_swept_are_simulated_again_and_measured_ones_stay():
    planned = _planned({"simulation.photons_per_pattern": [1e4, 1e5]})
    dim, bright = planned.combinations["s"]
    assert dim.scans == {"star": "star", "measured": "measured"}, "the star has 1e4 photons already"
    assert bright.scans == {"star": "star-photons_per_pattern1e5", "measured": "measured"}
    assert planned.methods[dim.method].train_on == ("leaves-photons_per_pattern1e4", "grains-photons_per_pattern1e4")
    assert planned.section("simulation", scan="leaves-photons_per_pattern1e4").photons_per_pattern == 1e4
    assert planned.section("simulation", scan="leaves-photons_per_pattern1e4").object.size == (300, 300)
    assert bright.method == "pinn", "it trains on what pinn trains on"


ADAPTED = {
    "finetune_from": "pinn",
    "train_on": ["star"],
    "reconstruct": ["star"],
    "training": {"supervision": "amplitude"},
}


def test_an_adapted_model_goes_on_with_the_same_combination_of_what_it_adapts():
    over = {"training.seed": [0, 1], "network.base_channels": [32, 64]}
    for method in (["pinn", "adapted"], ["adapted", "pinn"]):
        planned = _planned(over, method, methods={"adapted": ADAPTED})
        found = {each.method: planned.methods[each.method].finetune_from for each in planned.combinations["s"]}
        assert {name: finetune_from for name, finetune_from in found.items() if finetune_from} == {
            "adapted": "pinn",
            "adapted-base_channels64": "pinn-base_channels64",
            "adapted-seed1": "pinn-seed1",
            "adapted-seed1-base_channels64": "pinn-seed1-base_channels64",
        }
        assert set(planned.trainings()) == set(found)
        assert planned.section("network", method="adapted-base_channels64").base_channels == 64


def test_an_adapted_model_goes_on_with_what_the_scans_of_the_other_were_varied_to():
    """The star has 1e4 photons already, the leaves have 1e5; and with one network however refinement varies."""
    planned = _planned(
        {"simulation.photons_per_pattern": [1e4, 1e5]}, ["pinn", "adapted"], methods={"adapted": ADAPTED}
    )
    dim, bright = (planned.methods[f"adapted-photons_per_pattern{dose}"] for dose in ("1e4", "1e5"))
    assert (dim.train_on, dim.finetune_from) == (("star",), "pinn-photons_per_pattern1e4")
    assert (bright.train_on, bright.finetune_from) == (("star-photons_per_pattern1e5",), "pinn")
    planned = _planned({"refinement.epochs": [10, 20]}, ["pinn", "adapted"], methods={"adapted": ADAPTED})
    assert {planned.methods[each.method].finetune_from for each in planned.combinations["s"]} == {None, "pinn"}
    assert planned.trainings() == ["pinn", "adapted"]


def test_an_adapted_model_that_is_varied_by_itself_goes_on_with_what_the_config_says():
    planned = _planned({"training.seed": [0, 1]}, "adapted", methods={"adapted": ADAPTED})
    assert [planned.methods[each.method].finetune_from for each in planned.combinations["s"]] == ["pinn", "pinn"]
    with pytest.raises(ConfigError, match="a fine-tuned network keeps the settings of pinn: remove it"):
        _planned({"network.base_channels": [64]}, "adapted", methods={"adapted": ADAPTED})


def test_only_the_scans_named_vary():
    planned = _planned({"simulation.photons_per_pattern": [500, 1e5]}, scans=["star"])
    assert [each.method for each in planned.combinations["s"]] == ["pinn", "pinn"]
    assert planned.trainings() == ["pinn"]
    assert ("pinn", "star-photons_per_pattern500") in planned.reconstructions()


def test_a_bare_name_leaves_the_other_settings_of_what_it_names():
    planned = _planned({"simulation.object": ["lines", "dead_leaves"]})
    assert planned.section("simulation", scan="leaves-lines").object.size == (300, 300)
    assert planned.section("simulation", scan="leaves-lines").object.name == "lines"


def test_a_training_is_shared_by_all_that_differ_only_in_what_follows_it():
    planned = _planned({"refinement.epochs": [12, 24], "stitching.weighting": ["illumination", "uniform"]})
    assert planned.trainings() == ["pinn"]
    assert planned.maker("train", "pinn-epochs24-uniform") == "pinn"
    assert planned.maker("infer", "pinn-epochs24-uniform") == "pinn"
    assert planned.maker("stitch", "pinn-epochs24-uniform") == "pinn-uniform"
    assert planned.maker("stitch", "pinn-epochs24") == "pinn"


def test_what_is_shared_has_the_same_name_whichever_values_are_swept():
    """Or another list of values would make again what is there."""
    planned = _planned({"training.seed": [1], "refinement.epochs": [24]})
    assert planned.maker("train", "pinn-seed1-epochs24") == "pinn-seed1"
    assert planned.trainings() == ["pinn", "pinn-seed1"]
    assert ("pinn-seed1", "star") not in planned.reconstructions(), "it only lends its network"
    assert planned.section("training", method="pinn-seed1").seed == 1


def test_a_scan_is_simulated_once_for_all_ways_to_pack_it():
    planned = _planned({"packing.binning": [1, 2]})
    assert planned.maker("simulate", "star-binning2") == "star"
    assert planned.section("packing", scan="star-binning2").binning == 2
    assert planned.maker("convert", "measured-binning2") == "measured"


def test_the_baseline_shares_what_it_does_not_read():
    planned = _planned(
        {"training.seed": [0, 1, 2], "simulation.photons_per_pattern": [1e4, 1e5]}, method=["pinn", "flat"]
    )
    flat = [each for each in planned.combinations["s"] if each.base == "flat"]
    assert {each.method for each in flat} == {"flat"}
    assert {each.scans["star"] for each in flat} == {"star", "star-photons_per_pattern1e5"}


def test_values_may_be_named():
    planned = _planned({"training.stages": STAGES, "train_on": {"1": ["leaves"], "2": ["leaves", "grains"]}})
    assert "pinn-physics-train_on1" in planned.methods and "pinn-physics" in planned.methods
    assert planned.methods["pinn-physics-train_on1"].train_on == ("leaves",)
    assert planned.methods["pinn-physics"].training.stages[0].physics_weight == 1


def test_scans_held_out_are_renamed_with_the_others():
    held_out = {"training.validation": {"grains": {"split": "scan", "scans": ["grains"]}}}
    planned = _planned(held_out | {"simulation.photons_per_pattern": [1e6]})
    model = planned.methods[planned.combinations["s"][0].method]
    assert model.training.validation.scans == ("grains-photons_per_pattern1e6",)


@pytest.mark.parametrize(
    ("over", "more", "message"),
    [
        ({"training.sed": [0]}, {}, "sweeps.s: training.sed: unknown key; did you mean seed?"),
        ({"training.seed": ["many"]}, {}, "sweeps.s: training.seed: input should be a valid integer"),
        ({"training": [0]}, {}, "sweeps.s.over.training: expected train_on or a setting of"),
        ({"runtime.devices": [1, 2]}, {}, "sweeps.s.over.runtime.devices: expected train_on or a setting of"),
        ({"training.stages": [[{"epochs": 1}]]}, {}, "has no short name: write {name: value, ...}"),
        ({"training.seed": []}, {}, "sweeps.s.over.training.seed is empty"),
        ({}, {}, "sweeps.s.over: dictionary should have at least 1 item"),
        ({"training.seed": [1]}, {"method": "pin"}, "sweeps.s.method: no such name: pin; did you mean pinn?"),
        ({"training.seed": [1]}, {"method": "flat"}, "over.training.seed changes nothing in flat: remove it"),
        (
            {"simulation.photons_per_pattern": [1.0]},
            {"scans": ["sta"]},
            "sweeps.s.scans: no such name: sta; did you mean star?",
        ),
        (
            {"simulation.photons_per_pattern": [1.0]},
            {"scans": ["measured"]},
            "over.simulation.photons_per_pattern changes nothing",
        ),
        ({"training.physics_loss": {"a/b": "mae"}}, {}, "name the values"),
        (
            {"training.physics_loss": NAMED_ALIKE[0], "training.supervision": NAMED_ALIKE[1]},
            {},
            "pinn-x would name two different methods",
        ),
        ({"train_on": {"none": ["moon"]}}, {}, "sweeps.s.over.train_on: no such scan: moon"),
    ],
)
def test_what_cannot_be_swept_is_told_in_one_line(over, more, message):
    with pytest.raises(ConfigError) as caught:
        _planned(over, **more)
    assert message in str(caught.value) and "\n" not in str(caught.value)
