"""The engine behind ptychodus: what its settings do, what it trains on, and where a result lies."""

import dataclasses
import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ptychoflow.api import ConfigManager, PtychoDataLoader, PtychoModel
from ptychoflow.api.inference import ReconstructionResult
from ptychoflow.cli.main import main
from ptychoflow.commands.export import export
from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.plugins.ptychodus import backend, launcher
from ptychoflow.plugins.ptychodus.launcher import FACADE

FIELDS = {"DataConfig": 18, "ModelConfig": 33, "TrainingConfig": 34, "InferenceConfig": 6, "DatagenConfig": 0}


@pytest.fixture
def facade(monkeypatch):
    """The modules that ptychodus imports, forgotten afterwards."""
    monkeypatch.syspath_prepend(str(FACADE))
    names = ("config_params", "api.base_api", "model", "lightning_utils")
    found = {name.rpartition(".")[2]: importlib.import_module(f"ptycho_torch.{name}") for name in names}
    yield SimpleNamespace(**found)
    for name in [name for name in sys.modules if name.split(".")[0] == "ptycho_torch"]:
        del sys.modules[name]


def configs(facade, **changes) -> SimpleNamespace:
    """Configs as ptychodus makes them from its panels, with changes such as ``training={"epochs": 2}``."""
    kinds = {"data": "DataConfig", "model": "ModelConfig", "training": "TrainingConfig", "inference": "InferenceConfig"}
    return facade.base_api.ConfigManager(
        **{
            f"{name}_config": getattr(facade.config_params, kind)(**changes.get(name, {}))
            for name, kind in kinds.items()
        }
    )


def test_every_keyword_of_ptychodus_is_there(facade):
    counts = {name: len(dataclasses.fields(getattr(facade.config_params, name))) for name in FIELDS}
    assert counts == FIELDS and sum(counts.values()) == 91


def test_a_keyword_of_a_newer_ptychodus_is_taken_with_a_warning(facade, caplog):
    config = facade.config_params.DataConfig(N=64, curvature=2.0)
    assert config.N == 64 and "DataConfig.curvature is unknown" in caplog.text


def test_the_defaults_of_its_panels_are_settings_of_ours(facade, caplog):
    settings = backend.settings_of(configs(facade))
    assert settings["network"] == {"group_size": 4, "base_channels": 32}
    assert settings["training"]["stages"] == [{"epochs": 50, "physics_weight": 1.0}]
    assert settings["training"]["batch_size"] == 16 and settings["training"]["learning_rate"] == 1e-3
    assert settings["runtime"]["accelerator"] == "auto"  # cuda, where there is one
    assert not caplog.text


def test_choices_act(facade):
    settings = backend.settings_of(
        configs(
            facade,
            data={"C": 1, "neighbor_function": "4_quadrant", "max_neighbor_distance": 9.0},
            model={"mode": "Supervised", "n_filters_scale": 1},
            training={"epochs": 8, "scheduler": "Cosine", "warmup_epochs": 2, "min_lr_ratio": 0.2, "device": "cpu"},
            inference={"patch_weighting": "uniform", "middle_trim": 16},
        )
    )
    assert settings["network"] == {"group_size": 1, "base_channels": 16}
    assert settings["training"]["grouping"]["method"] == "quadrant"
    assert settings["training"]["grouping"]["max_distance_px"] == 9.0
    assert settings["training"]["supervision"] == "ground_truth" and settings["training"]["stages"][0]["epochs"] == 8
    assert settings["training"]["warmup_fraction"] == 0.25 and settings["training"]["final_lr_fraction"] == 0.2
    assert settings["inference"] == {"patch_crop_px": 16} and settings["stitching"] == {"weighting": "uniform"}
    assert settings["runtime"]["accelerator"] == "cpu"


def test_what_cannot_act_is_warned_of(facade, caplog):
    backend.settings_of(
        configs(facade, model={"cbam_encoder": False}, training={"scheduler": "Exponential", "n_devices": 2})
    )
    for words in ("cbam_encoder False", "scheduler 'Exponential'", "n_devices 2"):
        assert words in caplog.text


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_dataset) -> SimpleNamespace:
    """A network trained through the facade on a standard directory, for one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    export(tiny_dataset, folder / "in")
    sys.path.insert(0, str(FACADE))
    try:
        from ptycho_torch import config_params, lightning_utils
        from ptycho_torch.api import base_api
        from ptycho_torch.model import PtychoPINN_Lightning

        made = SimpleNamespace(config_params=config_params, base_api=base_api)
        manager = configs(made, model={"n_filters_scale": 1}, training={"epochs": 1})
        loader = base_api.PtychoDataLoader(
            folder / "in", manager, base_api.DataloaderFormats("lightning_only_module"), folder / "out"
        )
        model = base_api.PtychoModel._new_model(PtychoPINN_Lightning, manager)
        trainer = base_api.Trainer._from_lightning(model, loader, "lightning", manager)
        watcher = _Watcher(model.model.loss_name, model.model.val_loss_name)
        trainer._trainer.callbacks.append(watcher)
        trainer.train(orchestration="lightning", experiment_name="")
        checkpoint = lightning_utils.find_best_checkpoint(loader.output_dir)
        yield SimpleNamespace(
            base_api=base_api, network=PtychoPINN_Lightning, checkpoint=checkpoint, watcher=watcher, manager=manager
        )
    finally:
        sys.path.remove(str(FACADE))
        for name in [name for name in sys.modules if name.split(".")[0] == "ptycho_torch"]:
            del sys.modules[name]


class _Watcher(importlib.import_module("lightning.pytorch.callbacks").Callback):
    """Collects what ptychodus collects."""

    def __init__(self, training: str, validation: str) -> None:
        self.names = {"training": training, "validation": validation}
        self.seen: dict[str, list[float]] = {"training": [], "validation": []}

    def on_train_epoch_end(self, trainer, task):
        self.seen["training"].append(float(trainer.callback_metrics[self.names["training"]]))

    def on_validation_epoch_end(self, trainer, task):
        self.seen["validation"].append(float(trainer.callback_metrics[self.names["validation"]]))


def test_a_training_leaves_a_checkpoint_and_tells_its_losses(trained):
    assert trained.checkpoint.is_file()
    assert all(len(values) == 1 and np.isfinite(values).all() for values in trained.watcher.seen.values())


def test_the_model_of_ptychodus_is_a_model_of_ours_and_says_how_it_was_made(trained):
    assert PtychoModel.load(trained.checkpoint).model.size == 32
    data, model, training, inference = trained.base_api.PtychoModel._extract_configs_from_checkpoint(
        str(trained.checkpoint)
    )
    assert (data.N, data.C, model.mode) == (32, 4, "Unsupervised") and training is not None and inference is not None


def test_a_model_that_the_workflow_trained_is_one_that_ptychodus_takes(tmp_path, tiny_dataset):
    config = ConfigManager(network={"base_channels": 8, "depth": 2, "group_size": 2})
    PtychoModel.new(PtychoDataLoader(tiny_dataset, config)).save(tmp_path / "model.ckpt")
    data, model, _, inference = backend.configs_of(tmp_path / "model.ckpt")
    assert data == {"N": 32, "C": 2} and model == {"mode": "Unsupervised"} and inference == {}


def test_ptychodus_is_started_with_our_engine_first_on_its_path(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execve", lambda *what: started.append(what))
    monkeypatch.setattr(launcher, "_python", lambda: Path("/somewhere/python"))
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert main(["ptychodus", "--", "-b", "train", "-i", "in"]) == 0
    ((program, words, environment),) = started
    assert program == words[0] == "/somewhere/python" and words[-4:] == ["-b", "train", "-i", "in"]
    first, *others = environment["PYTHONPATH"].split(os.pathsep)
    assert Path(first) == FACADE and others[-1] == "/elsewhere"


def test_where_ptychodus_is_not_installed_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["ptychodus"]) == 2
    assert "ptychodus is not installed: pip install ptychodus==1.7.0" in capsys.readouterr().err


def _reconstruct(trained, counts, probe, positions) -> np.ndarray:
    """As ptychodus's child process does it."""
    api = trained.base_api
    data, model, training, inference = api.PtychoModel._extract_configs_from_checkpoint(str(trained.checkpoint))
    held = api.PtychoModel(model_config=model, data_config=data, training_config=training, inference_config=inference)
    held.model = trained.network.load_from_checkpoint(trained.checkpoint, model_config=model)
    manager = api.ConfigManager.from_loaded_model(held)
    manager.validate_arch_compatibility(held)
    loader = api.PtychoDataLoader.from_np(
        diff_patterns=counts, probe=probe, positions=positions, config_manager=manager
    )
    return np.asarray(api.InferenceEngine(config_manager=manager, ptycho_model=held).predict_and_stitch(loader))


def test_a_reconstruction_lies_on_the_grid_of_its_positions_and_its_inputs_stay(trained, tiny_dataset):
    scan = open_dataset(tiny_dataset)
    # positions as ptychodus counts them on the pixels of the truth, whose canvas it would have been given
    positions = scan.positions - scan.truth.origin - 0.5
    given = [np.array(scan.counts), 7 * scan.probe, positions.copy()]
    kept = [array.copy() for array in given]
    image = _reconstruct(trained, *given)
    assert all((a == b).all() for a, b in zip(given, kept))
    assert image.dtype.kind == "c" and image.ndim == 2
    truth, seen = scan.truth.object, np.s_[20:60, 20:60]
    correlations = {
        (dy, dx): abs(np.vdot((truth - truth.mean())[seen], np.roll(image - image.mean(), (dy, dx), (0, 1))[seen]))
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert max(correlations, key=correlations.get) == (0, 0)


def test_patterns_of_another_size_are_refused_in_words(trained, tiny_dataset):
    scan = open_dataset(tiny_dataset)
    counts = np.pad(np.array(scan.counts), ((0, 0), (16, 16), (16, 16)))
    with pytest.raises(ValueError, match="got patterns of 64 x 64 px, the network was trained on 32 x 32 px"):
        _reconstruct(trained, counts, np.pad(scan.probe, ((0, 0), (16, 16), (16, 16))), scan.positions)


def _found(shape, origin) -> ReconstructionResult:
    y, x = np.indices(shape)
    image = np.exp(0.3j * np.sin(y / 5 + origin[0] / 5) * np.cos(x / 7 + origin[1] / 7)).astype(np.complex64)
    parts = (np.zeros((1, 8, 8)), np.zeros((1, 2)), None, np.ones(shape, np.float32), np.ones(shape, bool))
    return ReconstructionResult(Reconstruction(image, origin, *parts), {})


@pytest.mark.parametrize(("origin", "middle"), [((3.0, 5.0), 39.5), ((3.3, 4.6), 40.0), ((-2.5, 1.5), 39.7)])
def test_a_result_is_moved_to_the_grid_whole_or_in_part(origin, middle):
    low, high = np.array([10.0, 12.0]), 2 * middle - np.array([10.0, 12.0])
    image = backend.on_grid(_found((90, 84), origin), np.stack([low, high]), 16)
    assert image.shape == tuple(np.round(low + high + 1).astype(int))
    y, x = np.indices(image.shape)
    expected = np.exp(0.3j * np.sin(y / 5) * np.cos(x / 7))
    np.testing.assert_allclose(image[12:70, 12:70], expected[12:70, 12:70], atol=2e-3)


def test_a_canvas_that_was_not_made_for_the_scan_gives_one_around_its_middle():
    positions = np.array([[2.0, 3.0], [42.0, 23.0]])
    image = backend.on_grid(_found((60, 40), (-6.0, -5.0)), positions, 16)
    assert image.shape == (56, 36)


def test_training_archives_are_trained_on_where_there_is_no_standard_directory(tmp_path, tiny_dataset):
    scan = dataclasses.replace(open_dataset(tiny_dataset), truth=None)
    write_dataset(tmp_path / "dataset", scan)
    (tmp_path / "in").mkdir()
    export(tmp_path / "dataset", tmp_path / "in" / "a.ptychopinn.npz")
    (found,) = backend.training_scans(tmp_path / "in", labelled=False)
    np.testing.assert_array_equal(found.counts, scan.counts)
    with pytest.raises(ValueError, match="is uniform: reconstruct it first, or train Unsupervised"):
        backend.training_scans(tmp_path / "in", labelled=True)
    with pytest.raises(FileNotFoundError, match=r"diffraction\.h5 or \.npz files not found"):
        backend.training_scans(tmp_path, labelled=False)


def test_a_supervised_training_learns_from_the_object_of_the_product(tmp_path, tiny_dataset):
    export(tiny_dataset, tmp_path / "in")
    (found,) = backend.training_scans(tmp_path / "in", labelled=True)
    assert found.truth is not None and np.ptp(np.angle(found.truth.object)) > 0.5
