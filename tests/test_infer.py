"""Inference as a verb: every pattern an anchor once, the same patches however they are computed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychoflow.config import Inference, Network, Runtime
from ptychoflow.data.packing import open_dataset, write_dataset
from ptychoflow.data.shards import read_patches
from ptychoflow.infer import infer
from ptychoflow.learning.checkpoints import Model, write_model
from ptychoflow.networks.canvas import CanvasNetwork

CPU = Runtime(accelerator="cpu")
FINE = Inference(dtype="float32")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("models") / "pinn.ckpt"
    write_model(path, Model(CanvasNetwork(Network(width=8, levels=2), window=24), 32, {}))
    return path


def _patches(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All patches, in the order of their anchors, and those anchors."""
    parts = [(patches, members[:, 0]) for patches, _, members in read_patches(folder).batches(1000)]
    patches, anchors = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return patches[np.argsort(anchors)], np.sort(anchors)


def test_every_pattern_is_the_anchor_of_one_patch_amid_its_group(model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "patches", FINE, CPU)
    found, scan = read_patches(tmp_path / "patches"), open_dataset(tiny_dataset)
    np.testing.assert_array_equal(np.sort(found.members[:, 0]), np.arange(len(scan)))
    offset = found.positions - scan.positions[found.members].mean(1)
    assert np.abs(offset).max() <= 0.5
    assert found.size <= 24 and found.size % 2 == 0
    assert set(found.facts["provenance"]["inputs"]) == {"model", "dataset"}


def test_timing_says_where_the_time_went(model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "patches", FINE, CPU)
    timing = json.loads((tmp_path / "patches" / "timing.json").read_text())
    assert {"load", "inference", "write", "seconds", "patterns_per_second"} <= timing.keys()
    assert timing["patterns"] == 100 and timing["load"] + timing["inference"] + timing["write"] <= timing["seconds"]


def test_patches_do_not_depend_on_the_batch(model, tiny_dataset, tmp_path):
    for batch in (7, 64):
        infer(model, tiny_dataset, tmp_path / str(batch), FINE, Runtime(accelerator="cpu", prediction_batch=batch))
    (few, _), (many, _) = _patches(tmp_path / "7"), _patches(tmp_path / "64")
    np.testing.assert_allclose(few, many, atol=1e-5)


def test_two_processes_find_what_one_finds(model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "one", FINE, CPU)
    runtime = '{"accelerator": "cpu", "devices": 2, "threads": 1}'
    words = [str(model), str(tiny_dataset), str(tmp_path / "two"), "--runtime", runtime]
    config = '{"inference": {"dtype": "float32"}}'
    command = [sys.executable, "-m", "ptychoflow", "infer", *words, "--config", config]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert len(read_patches(tmp_path / "two").shards) == 2
    (alone, anchors), (shared, same) = _patches(tmp_path / "one"), _patches(tmp_path / "two")
    np.testing.assert_array_equal(anchors, same)
    np.testing.assert_allclose(alone, shared, atol=1e-5)


def test_trim_keeps_the_middle(model, tiny_dataset, tmp_path):
    for trim in (12, 20):
        infer(model, tiny_dataset, tmp_path / str(trim), Inference(dtype="float32", trim=trim), CPU)
    small, large = _patches(tmp_path / "12")[0], _patches(tmp_path / "20")[0]
    np.testing.assert_array_equal(small, large[:, 4:-4, 4:-4])


def test_more_than_a_pattern_cannot_be_kept(model, tiny_dataset, tmp_path):
    with pytest.raises(ValueError, match=r"inference\.trim is 48 px, the patterns have 32"):
        infer(model, tiny_dataset, tmp_path / "patches", Inference(trim=48), CPU)


def test_patterns_of_another_size_are_refused(model, tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    inner = np.s_[:, 8:-8, 8:-8]
    write_dataset(tmp_path / "small", replace(scan, counts=scan.counts[inner], probe=scan.probe[inner], name="small"))
    with pytest.raises(ValueError, match=r"trained on patterns of 32 px, small has 16 px: .*packing.crop 32"):
        infer(model, tmp_path / "small", tmp_path / "patches", FINE, CPU)
    assert not (tmp_path / "patches").exists()


def test_a_failure_leaves_earlier_patches_as_they_were(model, tiny_dataset, tmp_path, monkeypatch):
    infer(model, tiny_dataset, tmp_path / "patches", FINE, CPU)
    before = _patches(tmp_path / "patches")[0]

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("ptychoflow.data.shards.ShardWriter.write", fail)
    with pytest.raises(OSError, match="disk full"):
        infer(model, tiny_dataset, tmp_path / "patches", Inference(), CPU)
    np.testing.assert_array_equal(_patches(tmp_path / "patches")[0], before)
    assert [path.name for path in tmp_path.iterdir()] == ["patches"]
