"""Predicting and stitching in one go gives what the two steps give, on one device or two."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychoflow.commands.infer import infer
from ptychoflow.commands.reconstruct import reconstruct
from ptychoflow.commands.stitch import stitch
from ptychoflow.config import Inference, Network, Runtime
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.models.checkpoint import Model, write_model
from ptychoflow.networks.group_network import GroupReconstructor

CPU = Runtime(accelerator="cpu", threads=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("networks") / "pinn.ckpt"
    write_model(path, Model(GroupReconstructor(Network(base_channels=8, depth=2), window=24), 32, {}))
    return path


def test_it_makes_what_two_steps_make_and_nothing_else(model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "patches", runtime=CPU)
    stitch(tiny_dataset, tmp_path / "patches", tmp_path / "steps.h5")
    reconstruct(model, tiny_dataset, tmp_path / "once.h5", runtime=CPU)
    once, steps = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("once", "steps"))
    for name in ("object", "weight", "coverage"):
        np.testing.assert_array_equal(getattr(once, name), getattr(steps, name))
    assert once.origin == steps.origin and once.metadata["patches"] == steps.metadata["patches"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once.h5", "patches", "steps.h5"]
    assert set(once.metadata["provenance"]["inputs"]) == {"model", "dataset"}


def test_a_canvas_that_fits_nowhere_is_refused_before_anything_is_predicted(model, tiny_dataset, tmp_path, monkeypatch):
    scan = open_dataset(tiny_dataset)
    far = np.where(np.arange(100)[:, None] < 50, scan.positions, scan.positions + 1e6)
    write_dataset(tmp_path / "far", dataclasses.replace(scan, positions=far, truth=None, name="far"))
    monkeypatch.setattr("ptychoflow.inference.prediction.Prediction.run", lambda *_: pytest.fail("predicted"))
    with pytest.raises(OSError, match=r"a canvas of \d+ x \d+ px needs .*: free some, or check the unit"):
        reconstruct(model, tmp_path / "far", tmp_path / "a.h5", runtime=CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["far"]


def test_times_are_kept_from_counts_to_canvas(model, tiny_dataset, tmp_path):
    reconstruct(model, tiny_dataset, tmp_path / "a.h5", runtime=CPU.model_copy(update={"inference_batch_size": 8}))
    seconds = read_reconstruction(tmp_path / "a.h5").metadata["inference"]["seconds"]
    assert {
        "load",
        "host_to_device",
        "first_batch",
        "inference",
        "device_to_host",
        "synchronise",
        "assembly",
    } < seconds.keys()
    assert sum(seconds.values()) < 2 * seconds["total"]


def test_two_processes_make_the_same_image(model, tiny_dataset, tmp_path):
    reconstruct(model, tiny_dataset, tmp_path / "one.h5", Inference(dtype="float32"), runtime=CPU)
    runtime = json.dumps({"accelerator": "cpu", "devices": 2, "threads": 1, "inference_batch_size": 5})
    words = [str(model), str(tiny_dataset), str(tmp_path / "two.h5"), "--runtime", runtime]
    command = [sys.executable, "-m", "ptychoflow", "reconstruct", *words]
    config = '{"inference": {"dtype": "float32"}}'
    done = subprocess.run([*command, "--config", config], capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    one, two = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("one", "two"))
    np.testing.assert_allclose(two.object, one.object, atol=1e-6)
    np.testing.assert_array_equal(two.coverage, one.coverage)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.h5", "two.h5"]
    assert two.metadata["inference"]["processes"] == 2
