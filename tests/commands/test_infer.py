"""Inference as a command: every pattern in a group, the same patches however they are computed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychoflow.commands.infer import infer
from ptychoflow.config import Inference, Network, Runtime
from ptychoflow.inference import prediction
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.patch_store import read_patches
from ptychoflow.io.product_kinds import PATCHES
from ptychoflow.models.checkpoint import Model, write_model
from ptychoflow.networks.group_network import GroupReconstructor

CPU = Runtime(accelerator="cpu")
FINE = Inference(dtype="float32")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("networks") / "pinn.ckpt"
    write_model(path, Model(GroupReconstructor(Network(base_channels=8, depth=2), window=24), 32, {}))
    return path


def _patches(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All patches, in the order of their anchors, and those anchors."""
    parts = [(patches, members[:, 0]) for patches, _, members in read_patches(folder).batches(1000)]
    patches, anchors = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return patches[np.argsort(anchors)], np.sort(anchors)


def test_every_pattern_is_in_a_group_and_each_patch_lies_amid_its_own(model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "patches", FINE, CPU)
    assert PATCHES.is_product(tmp_path / "patches")
    patches, scan = read_patches(tmp_path / "patches"), open_dataset(tiny_dataset)
    np.testing.assert_array_equal(np.unique(patches.members), np.arange(len(scan)))
    assert len(patches) < len(scan) / 2
    offset = patches.positions - scan.positions[patches.members].mean(1)
    assert np.abs(offset).max() <= 0.5
    assert patches.size <= 24 and patches.size % 2 == 0
    assert set(patches.metadata["provenance"]["inputs"]) == {"model", "dataset"}


def test_all_groups_are_those_that_cover_and_more(model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "few", FINE, CPU)
    infer(model, tiny_dataset, tmp_path / "all", FINE.model_copy(update={"groups": "all"}), CPU)
    (few, anchors), (every, each) = _patches(tmp_path / "few"), _patches(tmp_path / "all")
    np.testing.assert_array_equal(each, np.arange(100))
    np.testing.assert_allclose(few, every[anchors], atol=1e-6)


def test_timing_says_where_the_time_went(model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "patches", FINE, Runtime(accelerator="cpu", inference_batch_size=8))
    timing = json.loads((tmp_path / "patches" / "timing.json").read_text())
    seconds, rates = timing["seconds"], timing["patterns_per_second"]
    buckets = {"load", "host_to_device", "first_batch", "inference", "device_to_host", "write"}
    assert seconds.keys() == buckets | {"total"}
    assert sum(seconds[bucket] for bucket in buckets) <= seconds["total"]
    assert rates["end_to_end"] == pytest.approx(100 / seconds["total"])
    # the first batch of 8 groups is apart
    share = 1 - 8 / timing["groups"]
    assert rates["inference"] == pytest.approx(100 * share / seconds["inference"])
    assert timing["patterns"] == 100 and timing["device"] == "cpu" and timing["processes"] == 1


def test_a_gpu_is_timed_by_its_own_clock(simulated_gpu, model, tiny_dataset, tmp_path):
    simulated_gpu.seconds_per_operation = 5e-4
    infer(model, tiny_dataset, tmp_path / "patches", FINE, Runtime(accelerator="gpu", inference_batch_size=8))
    timing = json.loads((tmp_path / "patches" / "timing.json").read_text())
    seconds = timing["seconds"]
    assert timing["device"] == "cuda" and seconds["inference"] > 0.05
    assert seconds["device_to_host"] < 0.2 * seconds["inference"], "what is fetched was waited for by inference"
    assert sum(spent for bucket, spent in seconds.items() if bucket != "total") <= seconds["total"]


@pytest.mark.parametrize("where", ["always", "never"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_predicts_what_the_cpu_predicts(gpu, model, tiny_dataset, tmp_path, precision, where):
    inference = FINE.model_copy(update={"precision": precision})
    infer(model, tiny_dataset, tmp_path / "on_cpu", inference, CPU)
    infer(model, tiny_dataset, tmp_path / "on_gpu", inference, Runtime(accelerator="gpu", counts_on_device=where))
    (on_cpu, _), (on_gpu, _) = _patches(tmp_path / "on_cpu"), _patches(tmp_path / "on_gpu")
    assert _lost(on_gpu, on_cpu) < (1e-4 if precision == "float32" else 1e-2)


@pytest.mark.parametrize("batch", [7, 64])
def test_patches_do_not_depend_on_the_batch(model, tiny_dataset, tmp_path, batch):
    infer(model, tiny_dataset, tmp_path / "auto", FINE, CPU)
    infer(model, tiny_dataset, tmp_path / "set", FINE, Runtime(accelerator="cpu", inference_batch_size=batch))
    np.testing.assert_allclose(_patches(tmp_path / "auto")[0], _patches(tmp_path / "set")[0], atol=1e-6)


def test_a_gpu_that_is_too_small_is_given_fewer_groups(simulated_gpu, model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "whole", FINE, CPU)
    simulated_gpu.largest = 500e3  # what the network sees of five groups
    infer(model, tiny_dataset, tmp_path / "parts", FINE, Runtime(accelerator="gpu", inference_batch_size=16))
    assert json.loads((tmp_path / "parts" / "timing.json").read_text())["groups_at_once"] == 4
    np.testing.assert_allclose(_patches(tmp_path / "parts")[0], _patches(tmp_path / "whole")[0], atol=1e-6)
    simulated_gpu.largest = 300e3  # less than the counts of sixteen groups
    with pytest.raises(ValueError, match=r"^CUDA out of memory[^:]*: lower runtime.inference_batch_size"):
        infer(model, tiny_dataset, tmp_path / "none", FINE, Runtime(accelerator="gpu", inference_batch_size=16))


@pytest.mark.parametrize(
    "refusal",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("can't allocate memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=str,
)
def test_batches_that_do_not_fit_are_halved_until_they_do(model, tiny_dataset, tmp_path, monkeypatch, caplog, refusal):
    infer(model, tiny_dataset, tmp_path / "whole", FINE, CPU)
    predict_groups, most = prediction.predict_groups, 3

    def refuse(network, batch):
        if len(batch.counts) > most:
            raise refusal
        return predict_groups(network, batch)

    monkeypatch.setattr(prediction, "predict_groups", refuse)
    infer(model, tiny_dataset, tmp_path / "parts", FINE, Runtime(accelerator="cpu", inference_batch_size=16))
    np.testing.assert_allclose(_patches(tmp_path / "parts")[0], _patches(tmp_path / "whole")[0], atol=1e-6)
    assert "continuing with 2" in caplog.text and caplog.text.count("do not fit") == 3
    assert json.loads((tmp_path / "parts" / "timing.json").read_text())["groups_at_once"] == 2
    most = 0
    expected = ValueError if isinstance(refusal, torch.OutOfMemoryError) else RuntimeError
    with pytest.raises(expected, match=str(refusal)):
        infer(model, tiny_dataset, tmp_path / "none", FINE, CPU)


def test_other_errors_are_no_reason_to_halve(model, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "predict_groups", lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
    with pytest.raises(RuntimeError, match="broken"):
        infer(model, tiny_dataset, tmp_path / "patches", FINE, CPU)


def test_bfloat16_costs_little_and_changes_something(model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "fine", FINE, CPU)
    infer(model, tiny_dataset, tmp_path / "coarse", FINE.model_copy(update={"precision": "bfloat16"}), CPU)
    (fine, _), (coarse, _) = _patches(tmp_path / "fine"), _patches(tmp_path / "coarse")
    assert np.abs(coarse - fine).max() > 0 and _lost(coarse, fine) < 1e-2


def test_float16_costs_less_than_a_thousandth(model, tiny_dataset, tmp_path):
    infer(model, tiny_dataset, tmp_path / "fine", FINE, CPU)
    infer(model, tiny_dataset, tmp_path / "half", Inference(), CPU)
    (fine, _), (half, _) = _patches(tmp_path / "fine"), _patches(tmp_path / "half")
    assert 0 < _lost(half, fine) < 1e-3


def _lost(actual: np.ndarray, reference: np.ndarray) -> float:
    """Error relative to how far the reference is from empty space."""
    return float(np.linalg.norm(actual - reference) / np.linalg.norm(reference - 1))


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
    np.testing.assert_allclose(alone, shared, atol=1e-6)


def test_trim_keeps_the_middle(model, tiny_dataset, tmp_path):
    for trim in (12, 20):
        infer(model, tiny_dataset, tmp_path / str(trim), Inference(dtype="float32", patch_crop_px=trim), CPU)
    small, large = _patches(tmp_path / "12")[0], _patches(tmp_path / "20")[0]
    np.testing.assert_array_equal(small, large[:, 4:-4, 4:-4])


def test_more_than_a_pattern_cannot_be_kept(model, tiny_dataset, tmp_path):
    with pytest.raises(ValueError, match=r"inference\.patch_crop_px is 48 px, the patterns have 32"):
        infer(model, tiny_dataset, tmp_path / "patches", Inference(patch_crop_px=48), CPU)


@pytest.mark.parametrize("unit_px", [0, 5e-8], ids=["still", "metres"])
def test_a_scan_of_one_place_is_no_scan(model, tiny_dataset, tmp_path, unit_px):
    scan = open_dataset(tiny_dataset)
    write_dataset(tmp_path / "still", replace(scan, positions=scan.positions * unit_px, truth=None, name="still"))
    with pytest.raises(ValueError, match=r"all 100 positions of still lie within .* px of \(.*\) px, .* their unit"):
        infer(model, tmp_path / "still", tmp_path / "patches", FINE, CPU)


def test_a_scan_without_overlap_is_refused_before_anything_is_predicted(model, tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    write_dataset(tmp_path / "apart", replace(scan, positions=scan.positions * 40, truth=None, name="apart"))
    with pytest.raises(ValueError, match="patterns have 32 px: the patterns do not overlap; check the positions"):
        infer(model, tmp_path / "apart", tmp_path / "patches", FINE, CPU)


def test_a_scan_smaller_than_a_group_is_refused(model, tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    few = replace(scan, counts=scan.counts[:3], positions=scan.positions[:3], truth=None, name="few")
    write_dataset(tmp_path / "few", few)
    with pytest.raises(ValueError, match=r"few has 3 patterns, the network takes groups of 7: use a larger scan"):
        infer(model, tmp_path / "few", tmp_path / "patches", FINE, CPU)


def test_patterns_of_another_size_are_refused(model, tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    inner = np.s_[:, 8:-8, 8:-8]
    write_dataset(tmp_path / "small", replace(scan, counts=scan.counts[inner], probe=scan.probe[inner], name="small"))
    with pytest.raises(ValueError, match=r"trained on patterns of 32 px, small has 16 px: train on patterns of 16 px"):
        infer(model, tmp_path / "small", tmp_path / "patches", FINE, CPU)
    wide = [(0, 0)] + [(8, 8)] * 2
    counts, probe = np.pad(scan.counts, wide), np.pad(scan.probe, wide)
    write_dataset(tmp_path / "large", replace(scan, counts=counts, probe=probe, name="large"))
    with pytest.raises(ValueError, match=r"large has 48 px: pack the scan with packing.crop 32, or train on"):
        infer(model, tmp_path / "large", tmp_path / "patches", FINE, CPU)
    assert not (tmp_path / "patches").exists()


def test_a_full_disk_is_refused_before_anything_is_predicted(model, tiny_dataset, tmp_path, mount):
    disk = mount("disk", "size=8k")
    command = [sys.executable, "-m", "ptychoflow", "infer", model, tiny_dataset, disk / "patches"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 2 and "patches does not fit on the disk" in done.stderr
    assert not list(disk.iterdir())


def test_patches_take_the_place_of_patches_and_of_nothing_else(model, tiny_dataset, tmp_path):
    for dtype in ("float16", "float32"):
        infer(model, tiny_dataset, tmp_path / "patches", Inference(dtype=dtype), CPU)
    assert read_patches(tmp_path / "patches").metadata["dtype"] == "float32"
    write_dataset(tmp_path / "scan", open_dataset(tiny_dataset))
    with pytest.raises(ValueError, match="scan holds other files"):
        infer(model, tiny_dataset, tmp_path / "scan", FINE, CPU)
    assert len(open_dataset(tmp_path / "scan"))


def test_a_failure_leaves_earlier_patches_as_they_were(model, tiny_dataset, tmp_path, monkeypatch):
    infer(model, tiny_dataset, tmp_path / "patches", FINE, CPU)
    before = _patches(tmp_path / "patches")[0]

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("ptychoflow.io.patch_store.ShardWriter.write", fail)
    with pytest.raises(OSError, match="disk full"):
        infer(model, tiny_dataset, tmp_path / "patches", Inference(), CPU)
    np.testing.assert_array_equal(_patches(tmp_path / "patches")[0], before)
    assert [path.name for path in tmp_path.iterdir()] == ["patches"]
