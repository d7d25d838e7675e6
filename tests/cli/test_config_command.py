"""A config is shown, validated, explained and translated truly."""

import json
from pathlib import Path

import pytest
import yaml

from ptychoflow.cli.config_command import STEPS_OF_A_SCAN, explain, migrate, show, validate
from ptychoflow.cli.main import main
from ptychoflow.config import READS, ConfigError, load_config
from ptychoflow.interop.ptychopinn.field_map import ROWS
from ptychoflow.interop.ptychopinn.flat_config import tensorflow_form
from ptychoflow.interop.ptychopinn.glossary import every_name, page

HERE = Path(__file__).parents[2]
CONFIGS = sorted((HERE / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_what_is_shown_is_the_same_config(path):
    config, shown = load_config(path), load_config(yaml.safe_load(show(path)))
    for step in READS:
        for scan in config.scans if step in STEPS_OF_A_SCAN else [None]:
            if (step == "convert") == (scan is not None and config.scans[scan].source is not None):
                for method in [None] if step in STEPS_OF_A_SCAN else config.methods:
                    assert config.settings(step, scan, method) == shown.settings(step, scan, method)
    assert shown.tracking == config.tracking and shown.runtime == config.runtime


def test_what_hangs_on_a_setting_that_a_model_overrides_is_not_filled_in(tmp_path):
    method = "{train_on: [a], reconstruct: [a]"
    (tmp_path / "a.yaml").write_text(
        f"{{scans: {{a: {{simulation: {{}}}}}}, network: {{input: object_estimate}}, methods: {{fit: {method}}},"
        f" groups: {method}, network: {{input: backprojection}}}}}}}}"
    )
    config = load_config(tmp_path / "a.yaml")
    shown = load_config(yaml.safe_load(show(tmp_path / "a.yaml")))
    for name in config.methods:
        assert shown.settings("train", method=name) == config.settings("train", method=name)
    assert yaml.safe_load(show(tmp_path / "a.yaml", method="fit"))["network"]["cascades"] == 3


def test_no_tracking_is_shown_as_none(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "{scans: {a: {simulation: {}}}, methods: {f: {initial_object: uniform, reconstruct: [a]}}, "
        "tracking: {uri: null}}"
    )
    assert yaml.safe_load(show(tmp_path / "a.yaml"))["tracking"]["uri"] is None


def test_a_scan_and_a_model_are_shown_as_their_steps_see_them():
    shown = yaml.safe_load(show(HERE / "config" / "config.yaml", scan="star", method="pinn"))
    assert shown["simulation"]["object"]["name"] == "siemens_star" and "training" in shown
    with pytest.raises(ConfigError, match="has no scan strr; did you mean star"):
        show(HERE / "config" / "config.yaml", scan="strr")


def test_a_valid_config_is_summarised():
    assert "is valid: 5 scans, 1 networks to train, 4 reconstr" in validate(HERE / "config" / "config.yaml")


@pytest.mark.parametrize(
    ("subject", "metadata"),
    [
        ("training.learning_rate", ["Peak", "> 0", "default: 0.002", "read by: train", "_config.learning_rate"]),
        ("simulation.photons_per_pattern", ["unit: photons", "read by: simulate", "tensorflow: nphotons"]),
        ("network.group_size", ["data_config.grid_size", "gridsize", "data_config.C", "unit: patterns"]),
        ("training.stages", ["training_config.stage_2_epochs", "legacy: model_type, nepochs"]),
        ("inference.patch_crop_px", ["unit: px", "inference_config.middle_trim"]),
        ("network", ["network has", "network.base_channels", "\n  network.group_size (7): "]),
        ("nphotons", ["data_config.nphotons = nphotons in PtychoPINN: `simulation.photons_per_pattern`"]),
        ("probe_scale", ["refused: a probe is in sqrt(photons)"]),
        ("pad_object", ["accepted as true, otherwise refused"]),
        ("data_config.K", ["`training.grouping.k_nearest`"]),
        ("object.big", ["`network.group_size`"]),
    ],
)  # fmt: skip
def test_a_setting_is_explained(subject, metadata):
    text = explain(subject)
    assert not [fact for fact in metadata if fact not in text]


@pytest.mark.parametrize(
    ("subject", "nearest"), [("training.learning_rat", "training.learning_rate"), ("nphoton", "nphotons")]
)
def test_an_unknown_setting_is_told_with_the_nearest_one(subject, nearest):
    with pytest.raises(ConfigError, match=f"did you mean .*{nearest}?"):
        explain(subject)


def test_the_page_of_names_stands_in_the_repository():
    name = "docs/reference/ptychopinn-settings.md"
    assert (HERE / name).read_text() == page(), f"run: ptychoflow config mapping > {name}"


def test_every_field_can_be_asked_for():
    text = page()
    assert all(f"{name.rpartition('.')[2]}`" in text for name in every_name())
    assert text.count("\n| ") - 1 == len(ROWS)


# --- migration -------------------------------------------------------------------------------------------------------


def _migrated(path: Path, data: dict, **more):
    (path / "theirs.json").write_text(json.dumps(data))
    text = migrate(path / "theirs.json", **more)
    (path / "ours.yaml").write_text(text)
    return load_config(path / "ours.yaml"), text


def test_a_profile_becomes_a_config_that_runs(tmp_path):
    config, text = _migrated(
        tmp_path,
        {"data_config": {"C": 1, "probe_scale": 2.0}, "training_config": {"model_name": "mine", "notes": "a try"}},
        ignore=["data_config.probe_scale"],
    )
    assert config.network.group_size == 1 and config.methods["mine"].train_on == tuple(
        f"training{n}" for n in range(1, 5)
    )
    assert config.title == "a try" and "Ignored on request: data_config.probe_scale" in text


def test_a_tensorflow_config_brings_its_data(tmp_path):
    form = tensorflow_form("training", {"gridsize": 2}, train_data_file="a.npz", test_data_file="b.npz", nepochs=9)
    config, _ = _migrated(tmp_path, form)
    assert {name: scan.source.file for name, scan in config.scans.items()} == {"training": "a.npz", "held_out": "b.npz"}
    assert config.training.stages[0].epochs == 9 and config.reconstructions() == [("pinn", "held_out")]


def test_a_legacy_dictionary_is_known_by_its_keys(tmp_path):
    config, _ = _migrated(tmp_path, {"object.big": True, "gridsize": 2, "train_data_file_path": "a.npz"})
    assert config.network.group_size == 4 and config.reconstructions() == [("pinn", "training")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "holds list"),
        ("{", "is neither JSON nor YAML"),
        ('{"colour": 1}', "colour: unknown"),
        ('{"data_config": 3}', "expected sections"),
        ('{"training_config": {"model_name": "a/b"}}', "expected letters"),
    ],
)
def test_a_file_of_another_kind_is_told_in_one_line(tmp_path, capsys, text, message):
    (tmp_path / "a.json").write_text(text)
    assert main(["config", "migrate", str(tmp_path / "a.json")]) == 2
    text = capsys.readouterr()
    assert message in text.err and text.err.count("\n") == 1 and not text.out


def test_the_command_line_prints_the_answer(tmp_path, capsys):
    assert main(["config", "explain", "packing.crop"]) == 0
    assert "read by: pack" in capsys.readouterr().out
    (tmp_path / "theirs.json").write_text('{"data_config": {"probe_scale": 2.0, "C": 1}}')
    assert main(["config", "migrate", str(tmp_path / "theirs.json"), "--ignore", "data_config.probe_scale"]) == 0
    assert "Ignored on request: data_config.probe_scale" in capsys.readouterr().out
    assert main(["config", "validate"]) == 2
    assert "CONFIG: expected the configuration; got no values" in capsys.readouterr().err
    assert main(["config", "validate", "nowhere.yaml"]) == 2
    assert "config not found: nowhere.yaml" in capsys.readouterr().err
