"""One schema: what is wrong is told in one line, what a step reads is exactly what it is handed."""

import json
import re
from pathlib import Path

import pytest
import yaml

from ptychoflow.config import (
    READS,
    Config,
    ConfigError,
    Network,
    Training,
    load_config,
    step_sections,
    validate,
    whole_scan,
)
from ptychoflow.config.unique_keys import load_yaml

CONFIGS = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))


def _measured(**source) -> dict:
    return _config(scans={"a": {"source": source}})


def _config(**changes) -> dict:
    """A small valid config, with top-level keys replaced."""
    return {
        "scans": {
            "leaves": {"simulation": {"object": "dead_leaves", "seed": 1}},
            "star": {"simulation": {"object": "siemens_star", "photons_per_pattern": 1e4}},
            "measured": {"source": {"file": "a.npz", "reconstruction": "flat/star"}},
        },
        "methods": {
            "pinn": {"train_on": ["leaves"], "reconstruct": ["star"], "training": {"learning_rate": 1e-3}},
            "flat": {"initial_object": "uniform", "reconstruct": ["star", "measured"]},
        },
        **changes,
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_we_ship_is_valid(path):
    load_config(path)


def test_a_scan_or_a_model_overrides_what_it_names_and_nothing_else():
    config = load_config(
        _config(
            simulation={"photons_per_pattern": 5e5, "object": {"size": 300}},
            training={"batch_size": 8, "learning_rate": 1.0},
        )
    )
    star = config.section("simulation", scan="star")
    assert (star.photons_per_pattern, star.object.name, star.object.size) == (1e4, "siemens_star", (300, 300))
    assert config.section("simulation", scan="leaves").photons_per_pattern == 5e5
    pinn = config.section("training", method="pinn")
    assert (pinn.batch_size, pinn.learning_rate) == (8, 1e-3)
    assert config.section("training", scan="star", method="pinn") == pinn


def test_a_step_is_handed_exactly_what_it_reads():
    config = load_config(_config())
    for step, sections in READS.items():
        scan = "measured" if step == "convert" else "star"
        assert set(json.loads(config.settings(step, scan=scan, method="pinn"))) == set(sections)


def test_settings_are_canonical():
    """Key order, spelling of numbers, comments and defaults written out do not count as changes."""
    terse = load_config(
        yaml.safe_load("""
        scans: {star: {simulation: {photons_per_pattern: 1.0e+4, object: siemens_star}}}
        methods: {flat: {initial_object: uniform, reconstruct: [star]}}""")
    )
    wordy = load_config(
        yaml.safe_load("""
        # a comment
        methods: {flat: {reconstruct: [star], initial_object: uniform}}
        refinement: {}
        simulation: {seed: 0}
        scans: {star: {simulation: {object: {name: siemens_star}, photons_per_pattern: 10000}}}""")
    )
    for step in ("simulate", "pack", "refine", "evaluate"):
        assert terse.settings(step, scan="star", method="flat") == wordy.settings(step, scan="star", method="flat")


def test_what_a_step_is_handed_comes_back_as_its_sections():
    config = load_config(_config())
    for step in set(READS) - {"convert"}:
        sections = step_sections(step, json.loads(config.settings(step, scan="star", method="pinn")))
        for name, section in sections.items():
            assert section == config.section(name, scan="star", method="pinn")


def test_a_half_belongs_to_its_scan():
    assert [whole_scan(name) for name in ("star", "star.even", "star.odd")] == ["star"] * 3
    config = load_config(_config())
    assert config.settings("pack", scan="star.odd") == config.settings("pack", scan="star")
    assert config.probe_source("measured.even") == "flat/star"


def _without(section: str, name: str) -> dict:
    config = _config()
    del config[section][name]
    return config


def _method(**changes) -> dict:
    return _config(methods={"m": {"train_on": ["leaves"], "reconstruct": ["star"], **changes}})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (_config(trainig={}), "trainig: unknown key; did you mean training?"),
        (
            _config(simulation={"photons_per_patern": 1}),
            "simulation.photons_per_patern: unknown key; did you mean photons_per_pattern?",
        ),
        (
            _method(training={"learning_rat": 1}),
            "methods.m.training.learning_rat: unknown key; did you mean learning_rate?",
        ),
        (
            _method(training={"learning_rate": "fast"}),
            "methods.m.training.learning_rate: input should be a valid number",
        ),
        (_config(packing={"crop": 63}), "packing.crop: input should be a multiple of 2, got 63"),
        (_config(refinement=7), "refinement: input should be a valid dictionary or instance of Refinement, got 7"),
        (_config(simulation={"object": {"phase_rad": [1, -1]}}), "expected [low, high], got [1.0, -1.0]"),
        (_method(train_on=[]), "methods.m.train_on is empty"),
        (_method(reconstruct=[]), "methods.m.reconstruct is empty"),
        (_method(train_on=["leavs"]), "methods.m.train_on: no such scan: leavs; did you mean leaves?"),
        (_method(reconstruct=["sun"]), "methods.m.reconstruct: no such scan: sun"),
        (_method(initial_object="uniform"), "methods.m: initial_object: uniform trains nothing, remove train_on"),
        (_config(scans={}), "scans is empty"),
        (_config(methods={}), "methods is empty"),
        (_config(scans={"a.b": {"simulation": {}}}), "scans.a.b: expected letters, digits, - and _"),
        (_config(scans={"a": {}}), "scans.a: expected either simulation (made here) or source (measured)"),
        (_without("methods", "flat"), "scans.measured: takes its probe from flat/star, which is not reconstructed"),
        ({"methods": {}}, "scans: missing, it has no default"),
        (_config(scans={"a" * 101: {"simulation": {}}}), "letters, digits, - and _ in a name (at most 100)"),
        (_config(scans={"../a": {"simulation": {}}}), "scans.../a: expected letters, digits, - and _"),
        (_config(scans={"-a": {"simulation": {}}}), "scans.-a: expected letters, digits, - and _"),
        (_config(training={"learning_rate": float("nan")}), "training.learning_rate: input should be a finite number"),
        (_config(simulation={"photons_per_pattern": float("inf")}), "input should be a finite number, got inf"),
        (_config(simulation={"object": {"phase_rad": [0, float("inf")]}}), "input should be a finite number, got inf"),
        (_measured(file="{scan}.cxi"), "scans.a: {scan}.cxi holds a brace, which stands for a wildcard"),
        (_measured(file="-rf.cxi"), "scans.a: -rf.cxi begins with a dash, as options do: write ./-rf.cxi"),
        (_measured(file="a.npy", positions="p\n.csv"), "'p\\n.csv' is empty or holds a control character"),
        (_measured(file="../a.h5", url="https://host/a.h5"), "expected the name of the download in the data cache"),
        (_measured(file="/tmp/a.h5", url="https://host/a.h5"), "expected the name of the download in the data cache"),
        (_measured(file="a.h5", url="file:///etc/passwd"), "source.url: string should match pattern"),
    ],
)
def test_a_wrong_config_is_told_in_one_line(config, message):
    with pytest.raises(ConfigError) as caught:
        load_config(config)
    assert message in str(caught.value)
    assert str(caught.value).startswith("config: ") and "\n" not in str(caught.value)


def test_every_culprit_is_named_at_once():
    with pytest.raises(ConfigError, match=r"packing\.crp.*refinement\.epochs"):
        load_config(_config(packing={"crp": 1}, refinement={"epochs": 0}))


@pytest.mark.parametrize("reference", ["flat/measured", "pinn/star"])
def test_a_scan_cannot_take_its_probe_from_what_is_made_of_it(reference):
    config = _config()
    config["scans"]["measured"]["source"]["reconstruction"] = reference
    config["methods"]["pinn"]["train_on"] = ["measured"]
    with pytest.raises(ConfigError, match=r"scans\.measured.*depends on this scan itself"):
        load_config(config)


def test_a_step_refuses_sections_it_does_not_read():
    with pytest.raises(ConfigError, match="pack reads packing, not training"):
        step_sections("pack", {"training": {}})


@pytest.mark.parametrize("text", ["scans: [", "\t:"])
def test_a_file_that_is_no_yaml_is_told_in_one_line(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match="is not YAML") as caught:
        load_config(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1", "words"])
def test_a_file_that_holds_no_settings_is_told_so(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "a.yaml")


def test_a_missing_file_is_told_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="config not found"):
        load_config(tmp_path / "a.yaml")


def test_a_setting_has_one_reader():
    sections = [name for names in READS.values() for name in names]
    assert len(sections) == len(set(sections))
    assert set(sections) | {"title", "scans", "methods", "sweeps", "runtime", "tracking"} == set(
        Config.model_fields
    ) | {"source"}


# --- the network and its training ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "fno", "attention": True}, "attention acts on unet, cnn, not on fno: remove it"),
        ({"architecture": "cnn", "fourier_modes": 4}, "fourier_modes acts on fno, not on cnn: remove it"),
        ({"amplitude_activation": "relu", "architecture": "cnn"}, "amplitude_activation acts on head: polar, not on"),
        ({"patch_weighting": "central"}, "patch_weighting acts on output: patches, not on output: canvas"),
        ({"head": "polar"}, "head: polar is that of the cnn, not of the unet: set architecture: cnn"),
        ({"input": "counts", "cascades": 3}, "cascades acts on backprojection, object_estimate, not on counts"),
        (
            {"input": "amplitude", "cascades": 3},
            "cascades acts on backprojection, object_estimate, not on amplitude: remove it",
        ),
        (
            {"input": "amplitude", "physics_iterations": 1},
            "physics_iterations acts on backprojection, object_estimate, not on amplitude",
        ),
        (
            {"input": "object_estimate", "output": "patches"},
            "output acts on backprojection, amplitude, counts, not on object_estimate: remove it",
        ),
        ({"output": "patches", "group_size": 1}, "output: patches merges the patches of a group"),
    ],
)
def test_a_setting_that_does_not_act_on_the_chosen_network_is_refused(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        validate(Network, settings)


def test_a_fit_is_corrected_after_each_of_three_epochs_unless_told_otherwise():
    network = validate(Network, {"input": "object_estimate"})
    assert (network.physics_iterations, network.cascades) == (1, 3)
    assert validate(Network, {"input": "object_estimate", "cascades": 5}).cascades == 5
    assert validate(Network, {"input": "backprojection"}) == Network()


def test_what_a_fit_is_corrected_by_unless_told_does_not_reach_a_model_that_sees_something_else():
    method = {"train_on": ["a"], "reconstruct": ["a"]}
    other = method | {"network": {"input": "backprojection"}}
    methods = {"fit": method, "groups": other, "amplitudes": method | {"network": {"input": "amplitude"}}}
    config = validate(
        Config, {"scans": {"a": {"simulation": {}}}, "network": {"input": "object_estimate"}, "methods": methods}
    )
    assert config.section("network", method="fit").cascades == 3
    assert config.section("network", method="groups") == Network()
    assert config.section("network", method="amplitudes").input == "amplitude"


@pytest.mark.parametrize(
    ("section", "settings"), [("stitching", {"phase": "none"}), ("inference", {"patch_crop_px": 16})]
)
def test_a_model_without_patches_does_not_take_settings_of_patches(section, settings):
    model = {"train_on": ["a"], "reconstruct": ["a"], "network": {"input": "object_estimate"}, section: settings}
    with pytest.raises(ConfigError, match=f"methods.m.{section}.*no patches.*remove"):
        validate(Config, {"scans": {"a": {"simulation": {}}}, "methods": {"m": model}})


def _stages(**words) -> list[tuple]:
    stages = validate(Training, words).stages
    return [(stage.epochs, stage.physics_weight, stage.lr_factor, stage.freeze_encoder) for stage in stages]


def test_the_references_words_stand_for_stages():
    words = {"stage_1_epochs": 4, "stage_2_epochs": 3, "stage_3_epochs": 2, "physics_weight_schedule": "linear"}
    first, ramp, last = (4, 0.0, 1.0, False), (3, "linear", 0.1, False), (2, 1.0, 0.1, False)
    assert _stages(**words) == [first, ramp, last]
    assert _stages(**words, epochs_fine_tune=5, fine_tune_gamma=0.5) == [first, ramp, last, (5, 1.0, 0.5, True)]
    assert _stages(epochs_fine_tune=1) == [(1, 1.0, 0.1, True)]
    assert _stages(stage_1_epochs=1, stage_3_epochs=1, stage_3_lr_factor=0.3) == [
        (1, 0.0, 1.0, False), (1, 1.0, 0.3, False)]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"stage_1_epochs": 1, "stages": [{"epochs": 1}]}, "give stages or stage_1_epochs, not both"),
        ({"stage_1_epochs": 1, "stage_3_lr_factor": 0.1}, "stage_3_lr_factor has no effect without epochs"),
        ({"stage_3_epochs": 1, "physics_weight_schedule": "linear"}, "physics_weight_schedule has no effect"),
        ({"stage_3_epochs": 1, "fine_tune_gamma": 0.2}, "fine_tune_gamma has no effect"),
        ({"stage_1_epochs": 0}, "sum to 0 epochs"),
        ({"stage_1_epochs": -1}, "stage_1_epochs"),
    ],
)
def test_words_that_would_do_nothing_are_refused(words, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        validate(Training, words)
    assert "\n" not in str(caught.value)


def test_a_model_may_say_its_stages_either_way():
    changes = {
        "methods": {"pinn": {"train_on": ["leaves"], "reconstruct": ["star"], "training": {"stage_1_epochs": 2}}}
    }
    scans = {name: entry for name, entry in _config()["scans"].items() if name != "measured"}
    config = load_config(_config(**changes, scans=scans, training={"stages": [{"epochs": 9}], "seed": 3}))
    training = config.section("training", method="pinn")
    assert [stage.epochs for stage in training.stages] == [2] and training.seed == 3


# --- adaptation ------------------------------------------------------------------------------------------------------


def _adapting(**methods) -> dict:
    scans = {name: entry for name, entry in _config()["scans"].items() if name != "measured"}
    pinn = {"train_on": ["leaves"], "reconstruct": ["star"], "network": {"base_channels": 16}}
    flat = {"initial_object": "uniform", "reconstruct": ["star"]}
    return {"scans": scans, "methods": {"pinn": pinn, "flat": flat, **methods}}


def test_an_adapted_model_has_the_network_it_adapts():
    adapted = {"finetune_from": "pinn", "train_on": ["star"], "reconstruct": ["star"]}
    config = load_config(_adapting(adapted=adapted, again=adapted | {"finetune_from": "adapted"}))
    assert config.section("network", method="again") == config.section("network", method="pinn") != Network()
    assert config.section("training", method="adapted") == Training()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finetune_from": "pin"}, "methods.adapted.finetune_from: no such method: pin; did you mean pinn?"),
        ({"finetune_from": "adapted"}, "methods.adapted.finetune_from: circular: adapted -> adapted"),
        ({"finetune_from": "flat"}, "finetune_from needs a trained network"),
        (
            {"finetune_from": "pinn", "network": {"base_channels": 8}},
            "a fine-tuned network keeps the settings of pinn: remove it",
        ),
        ({"finetune_from": "pinn", "train_on": []}, "methods.adapted.train_on is empty"),
    ],
)
def test_what_cannot_be_adapted_is_told(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(_adapting(adapted={"train_on": ["star"], "reconstruct": ["star"], **changes}))


def test_a_probe_cannot_come_from_what_was_adapted_to_its_own_scan():
    config = _adapting(adapted={"finetune_from": "pinn", "train_on": ["star"], "reconstruct": ["star"]})
    config["scans"]["leaves"] = {"simulation": {"probe": {"name": "reconstruction", "reconstruction": "adapted/star"}}}
    with pytest.raises(
        ConfigError, match=r"scans.leaves: takes its probe from adapted/star, .* depends on this scan itself"
    ):
        load_config(config)


@pytest.mark.parametrize(
    "text",
    [
        "title: a\ntitle: b\n",
        "scans:\n  a: {simulation: {seed: 1}}\n  a: {simulation: {seed: 2}}\n",
        "refinement: {epochs: 3, epochs: 4}\n",
        "? [1, 2]\n: a\n? [1, 2]\n: b\n",
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml: .* stands twice \(lines \d and \d\): remove one of them"):
        load_config(tmp_path / "config.yaml")


def test_a_merged_mapping_may_be_overridden(tmp_path):
    """The merge key of YAML is made for that."""
    text = "common: &common {epochs: 3, alpha: 0.1}\nrefinement: {<<: *common, epochs: 4}\n"
    assert load_yaml(text)["refinement"] == {"epochs": 4, "alpha": 0.1}


def test_aliases_that_expand_without_end_are_refused(tmp_path):
    levels = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]" for n in range(1, 9)]
    for text in ("\n".join(levels), "a: &a [*a]", "a: &a {b: *a}"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(ConfigError, match="its aliases expand to more than 100000 values"):
            load_config(tmp_path / "config.yaml")
    with pytest.raises(ValueError, match="nested too deeply"):
        load_yaml("[" * 5000 + "]" * 5000)
    assert load_yaml("") is None
