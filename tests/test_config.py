"""One schema: what is wrong is told in one line, what a step reads is exactly what it is handed."""

import json
from pathlib import Path

import pytest
import yaml

from ptychoflow.config import READS, Config, ConfigError, load_config, step_sections, whole_scan

CONFIGS = sorted((Path(__file__).parents[1] / "config").glob("*.yaml"))


def _config(**changes) -> dict:
    """A small valid config, with top-level keys replaced."""
    return {
        "scans": {
            "leaves": {"simulation": {"object": "dead_leaves", "seed": 1}},
            "star": {"simulation": {"object": "siemens_star", "photons": 1e4}},
            "measured": {"source": {"file": "a.npz", "reconstruction": "flat/star"}},
        },
        "models": {
            "pinn": {"train_on": ["leaves"], "reconstructs": ["star"], "training": {"learning_rate": 1e-3}},
            "flat": {"start": "flat", "reconstructs": ["star", "measured"]},
        },
        **changes,
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_we_ship_is_valid(path):
    load_config(path)


def test_a_scan_or_a_model_overrides_what_it_names_and_nothing_else():
    config = load_config(
        _config(simulation={"photons": 5e5, "object": {"size": 300}}, training={"batch_size": 8, "learning_rate": 1.0})
    )
    star = config.section("simulation", scan="star")
    assert (star.photons, star.object.name, star.object.size) == (1e4, "siemens_star", (300, 300))
    assert config.section("simulation", scan="leaves").photons == 5e5
    pinn = config.section("training", model="pinn")
    assert (pinn.batch_size, pinn.learning_rate) == (8, 1e-3)
    assert config.section("training", scan="star", model="pinn") == pinn


def test_a_step_is_handed_exactly_what_it_reads():
    config = load_config(_config())
    for step, sections in READS.items():
        scan = "measured" if step == "convert" else "star"
        assert set(json.loads(config.settings(step, scan=scan, model="pinn"))) == set(sections)


def test_settings_are_canonical():
    """Key order, spelling of numbers, comments and defaults written out do not count as changes."""
    terse = load_config(
        yaml.safe_load("""
        scans: {star: {simulation: {photons: 1.0e+4, object: siemens_star}}}
        models: {flat: {start: flat, reconstructs: [star]}}""")
    )
    wordy = load_config(
        yaml.safe_load("""
        # a comment
        models: {flat: {reconstructs: [star], start: flat}}
        refinement: {}
        simulation: {seed: 0}
        scans: {star: {simulation: {object: {name: siemens_star}, photons: 10000}}}""")
    )
    for step in ("simulate", "pack", "refine", "evaluate"):
        assert terse.settings(step, scan="star", model="flat") == wordy.settings(step, scan="star", model="flat")


def test_what_a_step_is_handed_comes_back_as_its_sections():
    config = load_config(_config())
    for step in set(READS) - {"convert"}:
        sections = step_sections(step, json.loads(config.settings(step, scan="star", model="pinn")))
        for name, section in sections.items():
            assert section == config.section(name, scan="star", model="pinn")


def test_a_half_belongs_to_its_scan():
    assert [whole_scan(name) for name in ("star", "star.even", "star.odd")] == ["star"] * 3
    config = load_config(_config())
    assert config.settings("pack", scan="star.odd") == config.settings("pack", scan="star")
    assert config.probe_source("measured.even") == "flat/star"


def _without(section: str, name: str) -> dict:
    config = _config()
    del config[section][name]
    return config


def _model(**changes) -> dict:
    return _config(models={"m": {"train_on": ["leaves"], "reconstructs": ["star"], **changes}})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (_config(trainig={}), "trainig: unknown key; did you mean training?"),
        (_config(simulation={"photns": 1}), "simulation.photns: unknown key; did you mean photons?"),
        (
            _model(training={"learning_rat": 1}),
            "models.m.training.learning_rat: unknown key; did you mean learning_rate?",
        ),
        (_model(training={"learning_rate": "fast"}), "models.m.training.learning_rate: input should be a valid number"),
        (_config(packing={"crop": 63}), "packing.crop: input should be a multiple of 2, got 63"),
        (_config(refinement=7), "refinement: input should be a valid dictionary or instance of Refinement, got 7"),
        (_config(simulation={"object": {"phase_rad": [1, -1]}}), "expected [low, high], got [1.0, -1.0]"),
        (_model(train_on=[]), "models.m.train_on is empty"),
        (_model(reconstructs=[]), "models.m.reconstructs is empty"),
        (_model(train_on=["leavs"]), "models.m.train_on: there is no scan leavs; did you mean leaves?"),
        (_model(reconstructs=["sun"]), "models.m.reconstructs: there is no scan sun"),
        (_model(start="flat"), "models.m: start: flat trains nothing, remove train_on"),
        (_config(scans={}), "scans is empty"),
        (_config(models={}), "models is empty"),
        (_config(scans={"a.b": {"simulation": {}}}), "scans.a.b: expected letters, digits, - and _"),
        (_config(scans={"a": {}}), "scans.a: expected either simulation (made here) or source (measured)"),
        (_without("models", "flat"), "scans.measured: takes its probe from flat/star, which is not reconstructed"),
        ({"models": {}}, "scans: missing, it has no default"),
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
    config["models"]["pinn"]["train_on"] = ["measured"]
    with pytest.raises(ConfigError, match=r"scans\.measured.*itself made from this scan"):
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
    with pytest.raises(FileNotFoundError, match="there is no config"):
        load_config(tmp_path / "a.yaml")


def test_a_setting_has_one_reader():
    sections = [name for names in READS.values() for name in names]
    assert len(sections) == len(set(sections))
    assert set(sections) | {"title", "scans", "models", "sweeps", "runtime", "tracking"} == set(Config.model_fields) | {
        "source"
    }
