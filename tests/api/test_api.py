"""The commands as objects: what the documentation promises, from arrays to arrays, with no side effect."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import yaml

from ptychoflow import api
from ptychoflow.api import ConfigManager, Datagen, InferenceEngine, PtychoDataLoader, PtychoModel, Trainer
from ptychoflow.api.config import SECTIONS as CONFIG_SECTIONS
from ptychoflow.commands.infer import infer
from ptychoflow.commands.stitch import stitch
from ptychoflow.config import ConfigError, Network, Training
from ptychoflow.core.scan import Geometry
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.io.scan_cxi import write_scan

HERE = Path(__file__).parents[2]
PAGE = (HERE / "docs/how-to/python-api.md").read_text()
SECTIONS = {text.partition("\n")[0]: text for text in re.split("^## ", PAGE, flags=re.MULTILINE) if "```python" in text}
QUICK = ConfigManager(
    network={"base_channels": 8, "depth": 2},
    training={"stages": [{"epochs": 1}], "batch_size": 8, "groups_per_epoch": 16},
    runtime={"accelerator": "cpu", "threads": 1},
)
CPU = ConfigManager(runtime={"accelerator": "cpu", "threads": 1})


@pytest.fixture(scope="module")
def model(tiny_dataset, tmp_path_factory) -> PtychoModel:
    """A network that was never trained, but fits its data."""
    return PtychoModel.new(tiny_dataset, QUICK)


@pytest.fixture(scope="module")
def blobs(tiny_dataset):
    return open_dataset(tiny_dataset)


# --- what the documentation promises ---------------------------------------------------------------------------------


@pytest.fixture
def workplace(tmp_path, monkeypatch, tiny_dataset, model) -> dict:
    """A folder as the examples expect it, and the arrays they name."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_dataset, tmp_path / "datasets" / "blobs")
    model.save(tmp_path / "pinn.ckpt")
    profile = {"data_config": {"K": 8}, "model_config": {"cbam_encoder": True}}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    scan = open_dataset(tiny_dataset)
    return {"counts": np.asarray(scan.counts), "positions": scan.positions, "probe": scan.probe}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_example_runs(section, workplace):
    examples = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.S)
    exec("\n".join(examples), dict(workplace))


def test_every_class_has_a_section():
    assert set(SECTIONS) == {"# Python API in notebooks", *api.__all__} - {"ReconstructionResult"}


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/python-api.md"])
def test_three_lines_are_three_lines(page):
    example = re.findall(r"```python\n(.*?)```", (HERE / page).read_text(), re.S)[0]
    assert len([line for line in example.splitlines() if line]) == 3


# --- no side effects -------------------------------------------------------------------------------------------------


def test_importing_is_quick_and_changes_nothing(tmp_path):
    code = """
import sys, os, time, logging
began = time.process_time()
import ptychoflow.api
assert time.process_time() - began < 2, time.process_time() - began
heavy = {"torch", "lightning", "mlflow", "matplotlib", "scipy", "h5py"} & set(sys.modules)
assert not heavy, heavy
assert not os.listdir("."), os.listdir(".")
assert not logging.getLogger().handlers
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_work_in_memory_leaves_nothing_behind(model, blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    InferenceEngine(model, CPU).predict_and_stitch(blobs)
    Trainer(blobs, QUICK).train()
    assert not list(tmp_path.iterdir())


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_come_from_a_config_of_the_workflow_or_from_sections(tmp_path):
    config = ConfigManager.from_yaml(HERE / "config" / "config.yaml")
    assert config.training.learning_rate == 2e-3 and config.tracking.uri is None
    (tmp_path / "a.json").write_text('{"training": {"batch_size": 3}, "tracking": {"uri": "sqlite:///a.db"}}')
    assert ConfigManager.from_json(tmp_path / "a.json").training.batch_size == 3
    assert ConfigManager.from_json(tmp_path / "a.json").tracking.uri == "sqlite:///a.db"


def test_update_merges_what_is_nested_and_is_all_or_nothing():
    config = ConfigManager(simulation={"object": {"size": 99}})
    config.update(simulation={"object": "siemens_star"}, network=Network(base_channels=16))
    assert config.simulation.object.name == "siemens_star" and config.network.base_channels == 16
    assert config.simulation.object.size == (99, 99)
    before = config.to_dict()
    with pytest.raises(ConfigError, match=r"training\.batch_size"):
        config.update(network={"base_channels": 64}, training={"batch_size": 0})
    assert config.to_dict() == before


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("training", {"learning_rat": 1}, "training.learning_rat: unknown key; did you mean learning_rate?"),
        ("trainig", {}, "trainig: unknown section; did you mean training?"),
        ("training", {"learning_rate": -1}, "training.learning_rate: input should be greater than 0"),
        ("scans", {}, "scans belongs to a workflow"),
        ("training", Network(), "training"),
    ],
)
def test_wrong_settings_are_refused(section, settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        ConfigManager(**{section: settings})


@pytest.mark.parametrize(
    ("text", "message"), [("- 1", "holds list"), ("a: [", "is not YAML"), ("colour: {}", "colour")]
)
def test_a_file_without_settings_is_refused(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        ConfigManager.from_yaml(tmp_path / "a.yaml")


def test_missing_files_are_refused(tmp_path):
    for read in (ConfigManager.from_yaml, ConfigManager.from_reference_json, ConfigManager.from_checkpoint):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


def test_an_unknown_section_is_refused():
    with pytest.raises(AttributeError, match="no such section: trainig; did you mean training"):
        ConfigManager().trainig  # noqa: B018


def test_settings_are_not_assigned_past_their_check():
    config = ConfigManager()
    with pytest.raises(AttributeError, match=r"config\.update\(refinement=\.\.\.\)"):
        config.refinement = {"epochs": 3}
    assert config.refinement.epochs == 12


def test_the_sections_are_those_of_the_config():
    assert (
        get_type_hints(ConfigManager)
        == CONFIG_SECTIONS
        == {name: type(getattr(QUICK, name)) for name in CONFIG_SECTIONS}
    )


def test_a_checkpoint_knows_its_settings(model, tmp_path):
    model.save(tmp_path / "a.ckpt")
    config = ConfigManager.from_checkpoint(tmp_path / "a.ckpt")
    assert config.network == QUICK.network and config.training == QUICK.training
    assert yaml.safe_load(config.to_yaml())["network"]["base_channels"] == 8


# --- data ------------------------------------------------------------------------------------------------------------


def test_a_scan_is_the_same_from_wherever_it_comes(blobs, tiny_dataset, tmp_path):
    write_scan(tmp_path / "blobs.cxi", blobs)
    arrays = PtychoDataLoader(np.asarray(blobs.counts), positions=blobs.positions, probe=blobs.probe)
    for data in (tiny_dataset, str(tiny_dataset), tmp_path / "blobs.cxi", blobs, arrays.scans[0]):
        (scan,) = PtychoDataLoader(data).scans
        np.testing.assert_array_equal(scan.counts, blobs.counts)
        np.testing.assert_allclose(scan.positions, blobs.positions, atol=1e-9)
        np.testing.assert_array_equal(scan.probe, blobs.probe)


def test_training_and_validation_share_no_pattern(tiny_dataset):
    loader = PtychoDataLoader([tiny_dataset, tiny_dataset], QUICK)
    train = {(int(s), int(m)) for b in loader for s, row in zip(b.scan, b.members, strict=True) for m in row}
    held = {
        (int(s), int(m)) for b in loader.val_dataloader() for s, row in zip(b.scan, b.members, strict=True) for m in row
    }
    assert train and held and not train & held
    assert len(loader) == 2


@pytest.mark.parametrize(
    ("data", "arrays", "message"),
    [
        (np.ones((3, 8, 8)), {}, "needs positions"),
        (
            np.ones((3, 8, 8)),
            {"positions": np.zeros((2, 2)), "probe": np.ones((8, 8))},
            "for 3 diffraction patterns",
        ),
        (-np.ones((3, 8, 8)), {"positions": np.zeros((3, 2)), "probe": np.ones((8, 8))}, "negative"),
        ([], {}, "expected at least one scan, got none"),
        (3, {}, "expected a Scan, a path or an array of counts, got int"),
        ("here", {"probe": np.ones((8, 8))}, "probe go with an array"),
    ],
)
def test_data_that_are_no_scan_are_refused(data, arrays, message):
    with pytest.raises(ValueError, match=message):
        PtychoDataLoader(data, **arrays)


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        PtychoDataLoader(tmp_path / "none")


def test_simulated_scans_follow_the_settings_and_the_seed():
    config = ConfigManager(
        simulation={"size": 32, "object": {"size": 80}, "probe": {"name": "gaussian", "diameter_px": 8, "defocus": 0.2}}
    )
    one, same, other = (Datagen(config).scan("a", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.counts, same.counts)
    assert one.truth is not None and not np.array_equal(one.truth.object, other.truth.object)
    with pytest.raises(ConfigError, match="did you mean photons_per_pattern"):
        Datagen(config).scan(photons_per_patern=3)


# --- networks --------------------------------------------------------------------------------------------------------


def test_a_network_comes_back_from_its_file(model, tiny_dataset, tmp_path):
    model.save(tmp_path / "a.ckpt")
    result = [
        np.concatenate([patches for patches, _, _ in m.predict(tiny_dataset).batches(64)])
        for m in (model, PtychoModel.load(tmp_path / "a.ckpt"))
    ]
    np.testing.assert_array_equal(*result)


def test_objects_give_what_the_commands_give(model, tiny_dataset, blobs, tmp_path):
    model.save(tmp_path / "a.ckpt")
    infer(tmp_path / "a.ckpt", tiny_dataset, tmp_path / "patches", runtime=CPU.runtime)
    stitch(tiny_dataset, tmp_path / "patches", tmp_path / "a.h5")
    by_commands = read_reconstruction(tmp_path / "a.h5")
    engine = InferenceEngine(tmp_path / "a.ckpt", CPU)
    arrays = {"positions": blobs.positions, "probe": blobs.probe[0]}
    by_folder, by_arrays = engine.predict_and_stitch(tiny_dataset), engine.predict_and_stitch(blobs.counts, **arrays)
    np.testing.assert_array_equal(by_folder.image, by_commands.object)
    np.testing.assert_array_equal(by_folder.coverage, by_commands.coverage)
    assert by_folder.origin == by_commands.origin
    # without a truth, groups lie on another grid
    assert by_arrays.coverage.any() and by_arrays.image.dtype == np.complex64
    assert {"load", "first_batch", "synchronise", "assembly", "total"} <= by_folder.timing.keys()


def test_refinement_starts_from_a_result_or_from_a_uniform_object(model, blobs, tmp_path):
    engine = InferenceEngine(model, ConfigManager(runtime={"accelerator": "cpu"}, refinement={"epochs": 2}))
    result = engine.predict_and_stitch(blobs)
    errors = [engine.refine(blobs, start).reconstruction.history["error"][0] for start in (result, None)]
    assert errors[0] != errors[1]
    result.save(tmp_path / "a.h5")
    np.testing.assert_array_equal(read_reconstruction(tmp_path / "a.h5").object, result.image)
    assert engine.refine(blobs, tmp_path / "a.h5").reconstruction.history["error"][0] == errors[0]
    with pytest.raises(FileNotFoundError, match=r"reconstruction not found: .*b\.h5"):
        engine.refine(blobs, str(tmp_path / "b.h5"))


def test_a_result_is_shown_in_a_line_and_saved_as_a_product_only(model, blobs, tmp_path):
    result = InferenceEngine(model, CPU).predict_and_stitch(blobs)
    assert re.fullmatch(r"ReconstructionResult\(\S+, \d+ x \d+ px, \d+% of them covered\)", repr(result))
    (tmp_path / "scan.cxi").write_text("a scan")
    with pytest.raises(ValueError, match=r"called scan\.cxi, expected a name that ends in \.h5"):
        result.save(tmp_path / "scan.cxi")
    assert (tmp_path / "scan.cxi").read_text() == "a scan"


def test_a_mask_of_ones_and_zeros_is_one_of_truths(blobs):
    arrays = {"positions": blobs.positions, "probe": blobs.probe}
    mask = np.ones((32, 32), int)
    mask[0, :] = 0
    (scan,) = PtychoDataLoader(np.asarray(blobs.counts), mask=mask, **arrays).scans
    assert scan.mask.dtype == bool and scan.mask.sum() == 31 * 32


def test_lengths_are_kept_where_they_are_given(model, blobs):
    geometry = Geometry(3e-8, 1e-10, 1.0)
    result = InferenceEngine(model, CPU).predict_and_stitch(
        np.asarray(blobs.counts), positions=blobs.positions, probe=blobs.probe, geometry=geometry
    )
    assert result.reconstruction.geometry.pixel_size_m == pytest.approx(3e-8)


def test_one_scan_at_a_time(model, blobs):
    with pytest.raises(ValueError, match="expected one scan, got 2: reconstruct them one by one"):
        InferenceEngine(model, CPU).predict_and_stitch([blobs, blobs])


def test_patterns_of_another_size_are_refused(model):
    counts = np.ones((30, 16, 16), np.uint16)
    with pytest.raises(ValueError, match="trained on patterns of 32 px"):
        InferenceEngine(model, CPU).predict(counts, positions=np.random.rand(30, 2) * 9, probe=np.ones((16, 16)))


def test_training_learns_and_keeps_its_record(tiny_dataset, tmp_path):
    trained = Trainer(tiny_dataset, QUICK).train(tmp_path / "networks" / "a.ckpt")
    assert trained.config.training == QUICK.training and trained.run is None
    assert trained.record["steps"] == 2 and trained.record["method"] == "a"
    assert PtychoModel.load(tmp_path / "networks" / "a.ckpt").record == trained.record


def test_settings_of_another_loader_may_be_replaced(tiny_dataset):
    loader = PtychoDataLoader(tiny_dataset, QUICK)
    other = ConfigManager(training=Training(batch_size=4))
    assert Trainer(loader).config is QUICK and Trainer(loader, other).config is other
    assert loader.config is QUICK
