"""Names of PtychoPINN's API that are the same here, each used as a script of its users would."""

import json

import pytest

from ptychoflow.api import ConfigManager, PtychoDataLoader, PtychoModel

from ..interop.reference_network import reference_weights, write_reference_checkpoint


def test_a_profile_is_read_under_their_name(tmp_path):
    profile = {"data_config": {"C": 4}, "training_config": {"batch_size": 8}}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    manager, loaded = ConfigManager._from_json(tmp_path / "profile.json")
    assert loaded == profile and manager.training.batch_size == 8 and manager.network.group_size == 4
    manager.update(training={"learning_rate": 1e-4})
    assert manager.training.learning_rate == 1e-4


def test_a_loader_gives_its_two_loaders_under_their_names(tiny_dataset):
    loader = PtychoDataLoader(tiny_dataset)
    assert len(loader.module_train_dataloader()) == len(loader.train_dataloader())
    assert len(loader.module_val_dataloader()) == len(loader.val_dataloader())


def test_their_checkpoints_and_ours_are_loaded_under_their_names(tmp_path):
    theirs = write_reference_checkpoint(tmp_path / "theirs.ckpt", reference_weights(patterns=2), patterns=2)
    model = PtychoModel._load(strategy="lightning", run_path=theirs)
    model.save(tmp_path / "ours.ckpt")
    again = PtychoModel.load_from_checkpoint(tmp_path / "ours.ckpt")
    assert again.model.network.settings == model.model.network.settings
    with pytest.raises(FileNotFoundError, match="model not found"):
        PtychoModel.load_from_checkpoint(tmp_path / "missing.ckpt")
    with pytest.raises(ValueError, match="strategy 'mlflow' needs run_id and mlflow_tracking_uri"):
        PtychoModel._load()


def test_a_run_is_loaded_under_their_names(tmp_path):
    with pytest.raises(FileNotFoundError):
        PtychoModel._load(run_id="abc", mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(FileNotFoundError):
        ConfigManager._from_mlflow("abc", f"sqlite:///{tmp_path}/mlflow.db")
