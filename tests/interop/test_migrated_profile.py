"""A profile of PtychoPINN, migrated, trains the method that it describes to a picture."""

import json

import numpy as np
import yaml

from ptychoflow.api import ConfigManager, Datagen, InferenceEngine, Trainer
from ptychoflow.config import load_config
from ptychoflow.interop.ptychopinn.migrate_config import migrate

from .test_config_translation import PUBLISHED


def test_the_published_profile_trains_to_a_picture(tmp_path):
    """The method and its scan density as published; fewer patterns, filters and epochs."""
    profile = json.loads(json.dumps(PUBLISHED))
    profile["datagen_config"] |= {"image_size": [84, 84], "diff_per_object": 100}
    profile["model_config"]["n_filters_scale"] = 1
    profile["training_config"] |= {"epochs": 1, "stage_1_epochs": 1, "epochs_fine_tune": 1, "n_devices": 1}
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    config = load_config(yaml.safe_load(migrate(tmp_path / "profile.json")))
    names = ("simulation", "network", "training", "inference", "stitching")
    manager = ConfigManager(**{name: getattr(config, name) for name in names}, runtime={"accelerator": "cpu"})
    scan = Datagen(manager).scan("leaves", seed=1)
    assert 1.9 < np.sort(np.hypot(*(scan.positions - scan.positions[44]).T))[1] < 3
    model = Trainer(scan, manager).train()
    assert model.model.network.settings.architecture == "cnn"
    result = InferenceEngine(model, manager).predict_and_stitch(scan)
    assert np.isfinite(result.image).all() and result.coverage.mean() > 0.3
    assert np.abs(result.image[result.coverage]).std() > 1e-3
