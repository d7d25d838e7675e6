"""Learned refinement of a whole scan: training, reconstruction, on one device or two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ptychoflow.commands.infer import infer
from ptychoflow.commands.reconstruct import reconstruct
from ptychoflow.commands.train import train
from ptychoflow.config import Grouping, Inference, Network, Runtime, Stage, Tracking, Training, Validation
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.metrics.alignment import align
from ptychoflow.metrics.image import phase_error, rms

CPU = Runtime(accelerator="cpu", threads=1)
OFF = Tracking(uri=None)
NETWORK = Network(input="object_estimate", group_size=4, base_channels=8, depth=2)
RECIPE = Training(
    stages=(Stage(epochs=4, physics_weight=0.0),),
    batch_size=8,
    learning_rate=5e-3,
    grouping=Grouping(k_nearest=6),
    validation=Validation(fraction=0.16),
)


@pytest.fixture(scope="module")
def model(tiny_dataset, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fits") / "models" / "fit.ckpt"
    train([tiny_dataset], path, NETWORK, RECIPE, CPU, OFF)
    return path


def _phase_error(path: Path, dataset: Path) -> float:
    """Rms over what is known, rad."""
    result, truth = read_reconstruction(path), open_dataset(dataset).truth
    pair = align(result.object, result.origin, result.coverage, np.asarray(truth.object), truth.origin)
    return rms(phase_error(pair.object, pair.truth), pair.mask)


def test_it_learns_and_its_object_is_nearer_to_the_ground_truth_than_that_of_as_many_rpie_epochs(
    model, tiny_dataset, tmp_path
):
    record = json.loads(model.with_suffix(".json").read_text())
    assert record["validation"]["patch_error"][-1] < 0.8 * record["validation"]["patch_error"][0]
    reconstruct(model, tiny_dataset, tmp_path / "learned.h5", runtime=CPU)
    untrained = tmp_path / "models" / "untrained.ckpt"
    train([tiny_dataset], untrained, NETWORK, RECIPE.model_copy(update={"learning_rate": 1e-12}), CPU, OFF)
    reconstruct(untrained, tiny_dataset, tmp_path / "rpie.h5", runtime=CPU)
    learned, rpie = (_phase_error(tmp_path / f"{name}.h5", tiny_dataset) for name in ("learned", "rpie"))
    assert learned < 0.8 * rpie


def test_it_learns_from_counts_alone(tiny_dataset, tmp_path):
    counts_only = {
        "supervision": "amplitude",
        "held_out_neighbours": 2,
        "stages": (Stage(epochs=4, physics_weight=1.0),),
    }
    output = tmp_path / "models" / "free.ckpt"
    train([tiny_dataset], output, NETWORK, RECIPE.model_copy(update=counts_only), CPU, OFF)
    record = json.loads(output.with_suffix(".json").read_text())
    assert "patch_error" not in record["validation"]
    assert record["validation"]["data_error"][-1] < record["validation"]["data_error"][0]


def test_timing_and_history_are_recorded(model, tiny_dataset, tmp_path):
    reconstruct(model, tiny_dataset, tmp_path / "a.h5", runtime=CPU)
    result = read_reconstruction(tmp_path / "a.h5")
    timing = result.metadata["inference"]
    assert {"refinement", "inference", "total"} == timing["seconds"].keys()
    assert timing["seconds"]["refinement"] + timing["seconds"]["inference"] <= timing["seconds"]["total"]
    assert timing["patterns_per_second"]["end_to_end"] == pytest.approx(100 / timing["seconds"]["total"])
    assert result.history["epoch"] == [1, 2, 3] and result.history["error"][-1] < result.history["error"][0]


def test_a_progress_bar_counts_the_epochs(model, tiny_dataset, tmp_path, monkeypatch):
    shown = []

    def track(errors, what, total):
        shown.append((what, total, list(errors)))
        return iter(shown[0][2])

    monkeypatch.setattr("ptychoflow.inference.learned_refinement.track", track)
    reconstruct(model, tiny_dataset, tmp_path / "a.h5", runtime=CPU)
    ((what, total, errors),) = shown
    assert (what, total) == ("refining", len(errors))


def test_two_ranks_reconstruct_the_same_object(model, tiny_dataset, tmp_path):
    reconstruct(model, tiny_dataset, tmp_path / "one.h5", runtime=CPU)
    runtime = json.dumps({"accelerator": "cpu", "devices": 2, "threads": 1})
    words = [str(model), str(tiny_dataset), str(tmp_path / "two.h5"), "--runtime", runtime]
    command = [sys.executable, "-m", "ptychoflow", "reconstruct", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    one, two = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("one", "two"))
    np.testing.assert_allclose(two.object, one.object, atol=2e-4)
    assert two.metadata["inference"]["processes"] == 2


def test_an_interrupted_training_resumes_to_the_same_weights(model, tiny_dataset, tmp_path, monkeypatch):
    from ptychoflow.models.checkpoint import read_model
    from ptychoflow.training.lightning_module import GroupTask

    output, whole = tmp_path / "models" / "fit.ckpt", GroupTask.training_step
    with monkeypatch.context() as patched:

        def stop(task, batch, index):
            if task.global_step == 15:
                raise KeyboardInterrupt
            return whole(task, batch, index)

        patched.setattr(GroupTask, "training_step", stop)
        with pytest.raises(BaseException):  # noqa: B017 - Lightning decides what an interruption becomes
            train([tiny_dataset], output, NETWORK, RECIPE, CPU, OFF)
    train([tiny_dataset], output, NETWORK, RECIPE, CPU, OFF)
    weights, resumed = (read_model(path).network.state_dict() for path in (model, output))
    for name, value in weights.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


def test_half_precision_comes_to_nearly_the_same_object(model, tiny_dataset, tmp_path):
    reconstruct(model, tiny_dataset, tmp_path / "full.h5", runtime=CPU)
    reconstruct(model, tiny_dataset, tmp_path / "half.h5", Inference(precision="bfloat16"), runtime=CPU)
    full, half = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("full", "half"))
    difference = np.abs(half.object - full.object)[full.coverage]
    assert 0 < difference.mean() < 0.02


def test_infer_refuses_a_learned_refinement(model, tiny_dataset, tmp_path):
    with pytest.raises(ValueError, match="use reconstruct"):
        infer(model, tiny_dataset, tmp_path / "patches", Inference(), CPU)
    assert not (tmp_path / "patches").exists()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_refines_as_the_cpu_does(gpu, model, tiny_dataset, tmp_path, precision):
    reconstruct(model, tiny_dataset, tmp_path / "cpu.h5", runtime=CPU)
    runtime = Runtime(accelerator="gpu")
    reconstruct(model, tiny_dataset, tmp_path / "gpu.h5", Inference(precision=precision), runtime=runtime)
    by_cpu, by_gpu = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("cpu", "gpu"))
    assert np.abs(by_gpu.object - by_cpu.object)[by_cpu.coverage].mean() < (1e-3 if precision == "float32" else 0.02)
    assert by_gpu.metadata["inference"]["device"] == "cuda"
