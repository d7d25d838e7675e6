"""The train command: one checkpoint and one record, resumed exactly, refused early where it cannot work."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from ptychoflow.commands.train import train
from ptychoflow.config import (
    Grouping,
    Network,
    Regularisation,
    Runtime,
    Stage,
    Tracking,
    Training,
    Validation,
    load_config,
)
from ptychoflow.data.datamodule import TrainingData
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.product_kinds import CHECKPOINT, TRAINING_LOG
from ptychoflow.io.provenance import sha256
from ptychoflow.io.tensor_file import write_tensors
from ptychoflow.models.checkpoint import read_model
from ptychoflow.training import run as module
from ptychoflow.training.network_setup import build_network

from ..simulated_gpu import needs_cpu_build, simulate_gpus

OFF = Tracking(uri=None)
CPU = Runtime(accelerator="cpu")
SMALL = Network(group_size=4, base_channels=8, depth=2, physics_iterations=5)
RECIPE = Training(
    stages=(Stage(epochs=1, physics_weight=0.0), Stage(epochs=2, physics_weight="linear")),
    batch_size=8,
    groups_per_epoch=48,
    grouping=Grouping(k_nearest=4),
    validation=Validation(fraction=0.16),
)


def _weights(path: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for value in read_model(path).network.state_dict().values()])


def _train(dataset: Path, output: Path, training: Training = RECIPE) -> None:
    train([dataset], output, SMALL, training, CPU, OFF)


@pytest.fixture(scope="module")
def undisturbed(tiny_dataset, tmp_path_factory) -> Path:
    """The model of a training by RECIPE that nothing stopped."""
    output = tmp_path_factory.mktemp("undisturbed") / "networks" / "pinn.ckpt"
    _train(tiny_dataset, output)
    return output


def test_training_lowers_the_loss_and_writes_model_and_record(tiny_dataset, tmp_path):
    output = tmp_path / "results" / "networks" / "pinn.ckpt"
    training = RECIPE.model_copy(update={"stages": (Stage(epochs=3, physics_weight=0.5),), "groups_per_epoch": 160})
    _train(tiny_dataset, output, training)
    assert CHECKPOINT.is_product(output) and TRAINING_LOG.is_product(output.with_suffix(".json"))
    record = json.loads(output.with_suffix(".json").read_text())
    assert record["checkpoint_sha256"] == sha256(output)
    assert record["stages"][0]["loss_last"] < 0.9 * record["stages"][0]["loss_first"]
    assert record["steps"] == 60 and len(record["curves"]["loss"]) == 60 == len(record["curves"]["learning_rate"])
    assert len(record["validation"]["patch_error"]) == 3 == len(record["validation"]["correlation"])
    assert record["groups"]["blobs"]["validation"] > 0
    assert record["config"]["training"]["groups_per_epoch"] == 160
    assert record["provenance"]["inputs"]["blobs"]["sha256"]
    assert record["patterns_per_second"] > 0 and 0 <= record["data_wait_share"] < 1
    model = read_model(output)
    assert model.size == 32 and model.metadata["config"] == record["config"]
    assert record["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert not list((tmp_path / "results" / "checkpoints" / "pinn").iterdir())


class _End(lightning.Callback):
    """Ends a training after some steps, gently or not."""

    def __init__(self, step: int, gently: bool) -> None:
        self.step, self.gently = step, gently

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step and self.gently:
            signal.raise_signal(signal.SIGTERM)
        elif trainer.global_step == self.step:
            raise RuntimeError("the machine went away")


def _ending_after(step: int, gently: bool = True):
    make = module.make_trainer
    return lambda runtime, callbacks, **settings: make(runtime, [*callbacks, _End(step, gently)], **settings)


@pytest.mark.parametrize(("step", "gently"), [(3, True), (6, True), (10, True), (9, False)])
def test_a_training_that_was_stopped_resumes_to_the_same_weights(
    tiny_dataset, undisturbed, tmp_path, monkeypatch, step, gently
):
    stopped, began = tmp_path / "networks" / "pinn.ckpt", time.perf_counter()
    with monkeypatch.context() as patch:
        patch.setattr(module, "make_trainer", _ending_after(step, gently))
        with pytest.raises(SystemExit if gently else RuntimeError) as ending:
            _train(tiny_dataset, stopped)
    assert not gently or ending.value.code == 143
    assert not stopped.exists() and list((tmp_path / "checkpoints" / "pinn").rglob("latest.ckpt"))
    _train(tiny_dataset, stopped)
    torch.testing.assert_close(_weights(stopped), _weights(undisturbed), rtol=0, atol=0)
    whole, resumed = (json.loads(path.with_suffix(".json").read_text()) for path in (undisturbed, stopped))
    assert resumed["curves"] == whole["curves"] and resumed["validation"] == whole["validation"]
    assert 0 < resumed["training_seconds"] < time.perf_counter() - began  # of both attempts, no clock read before them


def _spoil(content: dict) -> None:
    next(iter(content["state_dict"].values())).fill_(torch.nan)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_spoil, "holds NaN or infinity"),
        (lambda content: content["state_dict"].clear(), "weights of another network"),
        (lambda content: content.pop("loops"), "lacks loops"),
        (lambda content: content.update(global_step=10**30), "lacks the number of steps"),
        (None, "changed since it was written"),
    ],
)
def test_an_unusable_state_is_set_aside_and_the_training_begins_anew(
    tiny_dataset, undisturbed, tmp_path, monkeypatch, caplog, change, reason
):
    stopped = tmp_path / "networks" / "pinn.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(module, "make_trainer", _ending_after(6))
        with pytest.raises(SystemExit):
            _train(tiny_dataset, stopped)
    (state,) = (tmp_path / "checkpoints").glob("*/*/latest.ckpt")
    content = torch.load(state, weights_only=True)
    if change is None:
        content["epoch"] += 1
        torch.save(content, state)
    else:
        change(content)
        write_tensors(state, content)
    _train(tiny_dataset, stopped)
    assert re.search(rf"cannot resume \(.*{reason}.*\): moved to latest\.ckpt\.unusable, starting anew", caplog.text)
    torch.testing.assert_close(_weights(stopped), _weights(undisturbed), rtol=0, atol=0)


def test_a_training_whose_epochs_are_single_steps_stops_after_one_of_them(tiny_dataset, tmp_path, monkeypatch):
    recipe = RECIPE.model_copy(update={"groups_per_epoch": 8})
    stopped, whole = (tmp_path / name / "networks" / "pinn.ckpt" for name in ("stopped", "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "make_trainer", _ending_after(1))
        with pytest.raises(SystemExit) as ending:
            _train(tiny_dataset, stopped, recipe)
    assert ending.value.code == 143
    (state,) = (tmp_path / "stopped" / "checkpoints").glob("*/*/latest.ckpt")
    assert torch.load(state, weights_only=True)["global_step"] == 1
    for output in (stopped, whole):
        _train(tiny_dataset, output, recipe)
    torch.testing.assert_close(_weights(stopped), _weights(whole), rtol=0, atol=0)


class _Cut(lightning.Callback):
    """Ends a training after some batches, which may be parts of a step."""

    def __init__(self, batches: int, gently: bool) -> None:
        self.left, self.gently = batches, gently

    def on_train_batch_end(self, *_):
        self.left -= 1
        if self.left == 0 and self.gently:
            signal.raise_signal(signal.SIGTERM)
        elif self.left == 0:
            raise RuntimeError("the machine went away")


EVERYTHING = RECIPE.model_copy(
    update={
        "stages": (Stage(epochs=1, physics_weight="cosine"), Stage(epochs=2, freeze_encoder=True)),
        "ema_decay": 0.8,
        "checkpoint": "best",
        "early_stopping_patience": 2,
        "regularisation": Regularisation(phase="total_variation", phase_weight=0.01),
        "precision": "bf16-mixed",
    }
)
IN_PARTS = Runtime(accelerator="cpu", gradient_accumulation_steps=2, checkpoint_interval_min=1e-9)
"""Batches of half a step; the state is written after each, as it otherwise is every half hour."""


@pytest.fixture(scope="module")
def undisturbed_with_everything(tiny_dataset, tmp_path_factory) -> Path:
    """The model of a training by EVERYTHING that nothing stopped."""
    output = tmp_path_factory.mktemp("undisturbed") / "networks" / "pinn.ckpt"
    train([tiny_dataset], output, SMALL, EVERYTHING, IN_PARTS, OFF)
    return output


@pytest.mark.parametrize(("batches", "gently"), [(12, True), (19, False)])
def test_in_the_middle_of_a_step_and_with_everything_on_it_resumes_to_the_same_weights(
    tiny_dataset, undisturbed_with_everything, tmp_path, monkeypatch, batches, gently
):
    whole, cut = undisturbed_with_everything, tmp_path / "networks" / "pinn.ckpt"
    make = module.make_trainer
    with monkeypatch.context() as patch:
        patch.setattr(
            module,
            "make_trainer",
            lambda runtime, callbacks, **settings: make(runtime, [*callbacks, _Cut(batches, gently)], **settings),
        )
        with pytest.raises(SystemExit if gently else RuntimeError):
            train([tiny_dataset], cut, SMALL, EVERYTHING, IN_PARTS, OFF)
    train([tiny_dataset], cut, SMALL, EVERYTHING, IN_PARTS, OFF)
    torch.testing.assert_close(_weights(cut), _weights(whole), rtol=0, atol=0)
    resumed, record = (json.loads(path.with_suffix(".json").read_text()) for path in (cut, whole))
    assert resumed["curves"] == record["curves"] and resumed["kept"] == record["kept"]
    assert len(record["curves"]["loss"]) == 18 == record["steps"]


def test_parts_of_a_step_add_up_to_the_step(tiny_dataset, tmp_path):
    """But for the count that the physics loss is divided by, which is that of each part."""
    for parts in (1, 4):
        runtime = Runtime(accelerator="cpu", gradient_accumulation_steps=parts)
        guided = RECIPE.model_copy(update={"stages": (Stage(epochs=1, physics_weight=0.0),)})
        train([tiny_dataset], tmp_path / str(parts) / "m.ckpt", SMALL, guided, runtime, OFF)
    torch.testing.assert_close(
        _weights(tmp_path / "4" / "m.ckpt"), _weights(tmp_path / "1" / "m.ckpt"), rtol=0, atol=1e-4
    )


def test_training_stops_early_where_nothing_gets_better_and_keeps_the_best(tiny_dataset, tmp_path):
    stages = (Stage(epochs=1, physics_weight=0.0), Stage(epochs=5, physics_weight=0.0, lr_factor=30.0))
    recipe = RECIPE.model_copy(
        update={"stages": stages, "early_stopping_patience": 2, "checkpoint": "best", "final_lr_fraction": 1.0,
                "warmup_fraction": 0.0, "on_collapse": "warn"}
    )  # fmt: skip
    _train(tiny_dataset, tmp_path / "m" / "best.ckpt", recipe)
    record = json.loads((tmp_path / "m" / "best.json").read_text())
    errors = record["validation"]["patch_error"]
    assert record["kept"]["epoch"] == 1 + errors.index(min(errors)) < record["epochs"] < 6
    assert record["kept"]["error"] == pytest.approx(min(errors))
    _train(tiny_dataset, tmp_path / "m" / "last.ckpt", recipe.model_copy(update={"checkpoint": "last"}))
    assert (_weights(tmp_path / "m" / "last.ckpt") - _weights(tmp_path / "m" / "best.ckpt")).abs().max() > 1e-3


def test_the_average_of_the_weights_is_what_is_validated_and_kept(tiny_dataset, tmp_path):
    """One that hardly forgets stays where the first step left it."""
    one_step = RECIPE.model_copy(update={"groups_per_epoch": 8, "stages": (Stage(epochs=1, physics_weight=0.0),)})
    constant = {"warmup_fraction": 0.0, "final_lr_fraction": 1.0, "stages": (Stage(epochs=1, physics_weight=0.0),)}
    slow = RECIPE.model_copy(update=constant | {"ema_decay": 1 - 1e-9})
    _train(tiny_dataset, tmp_path / "m" / "slow.ckpt", slow)
    _train(tiny_dataset, tmp_path / "m" / "plain.ckpt", slow.model_copy(update={"ema_decay": None}))
    _train(tiny_dataset, tmp_path / "m" / "one.ckpt", one_step.model_copy(update=constant))
    learned = [read_model(tmp_path / "m" / f"{name}.ckpt").network.parameters() for name in ("one", "slow", "plain")]
    first, kept, last = (torch.cat([p.flatten() for p in parameters]) for parameters in learned)
    assert (kept - first).abs().mean() < 0.05 * (last - first).abs().mean()
    slow_error, error = (
        json.loads((tmp_path / "m" / f"{name}.json").read_text())["validation"]["patch_error"][0]
        for name in ("slow", "plain")
    )
    assert slow_error != error


def test_half_precision_learns_as_well(tiny_dataset, undisturbed, tmp_path):
    output = tmp_path / "m" / "half.ckpt"
    _train(tiny_dataset, output, RECIPE.model_copy(update={"precision": "bf16-mixed"}))
    half, full = (json.loads(path.with_suffix(".json").read_text()) for path in (output, undisturbed))
    assert half["validation"]["patch_error"] != full["validation"]["patch_error"]
    assert half["validation"]["patch_error"] == pytest.approx(full["validation"]["patch_error"], rel=0.2)
    assert _weights(output).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch compiles for a processor with g++, there is none"
)
def test_compiled_networks_learn_what_plain_ones_do(tiny_dataset, tmp_path):
    smallest = Network(group_size=4, base_channels=8, depth=1, physics_iterations=1, cascades=1)
    short = {
        "stages": (Stage(epochs=1, physics_weight=0.5),),
        "groups_per_epoch": 24,
        "validation": Validation(fraction=0),
    }
    before = counters["stats"]["unique_graphs"]
    for name, compiled in {"plain": False, "compiled": True}.items():
        assert counters["stats"]["unique_graphs"] == before
        runtime = Runtime(accelerator="cpu", compile=compiled)
        train([tiny_dataset], tmp_path / f"{name}.ckpt", smallest, RECIPE.model_copy(update=short), runtime, OFF)
    assert counters["stats"]["unique_graphs"] > before
    torch.testing.assert_close(
        _weights(tmp_path / "compiled.ckpt"), _weights(tmp_path / "plain.ckpt"), rtol=0, atol=1e-4
    )


def test_precision_that_the_device_lacks_is_refused(tiny_dataset, tmp_path):
    with pytest.raises(ValueError, match="16-mixed needs a GPU, got a CPU: set it to bf16-mixed"):
        _train(tiny_dataset, tmp_path / "m.ckpt", RECIPE.model_copy(update={"precision": "16-mixed"}))


def test_a_config_that_provokes_a_collapse_is_stopped_with_an_explanation(tiny_dataset, tmp_path, caplog):
    config = load_config(Path(__file__).parent / "collapse.yaml")
    sections = [config.section(name, method="flattened") for name in ("network", "training")]
    with pytest.raises(ValueError, match=r"collapsed in epoch \d+: .* of the contrast .*training.regularisation"):
        train([tiny_dataset], tmp_path / "m" / "stopped.ckpt", *sections, CPU, OFF)
    assert not (tmp_path / "m" / "stopped.ckpt").exists()
    warned = sections[1].model_copy(update={"on_collapse": "warn"})
    train([tiny_dataset], tmp_path / "m" / "warned.ckpt", sections[0], warned, CPU, OFF)
    assert (tmp_path / "m" / "warned.ckpt").exists()
    assert sum("training collapsed" in record.getMessage() for record in caplog.records) == 1


def test_another_recipe_does_not_resume(tiny_dataset, tmp_path, monkeypatch):
    output = tmp_path / "networks" / "pinn.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(module, "make_trainer", _ending_after(3))
        with pytest.raises(SystemExit):
            _train(tiny_dataset, output)
    other = RECIPE.model_copy(update={"learning_rate": 1e-3})
    _train(tiny_dataset, output, other)
    _train(tiny_dataset, tmp_path / "fresh" / "networks" / "pinn.ckpt", other)
    torch.testing.assert_close(
        _weights(output), _weights(tmp_path / "fresh" / "networks" / "pinn.ckpt"), rtol=0, atol=0
    )


def test_several_probes_modes_and_sizes_of_scan_train_one_network(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    two_modes = np.concatenate([0.9 * scan.probe[:, ::-1], 0.4 * scan.probe])
    write_dataset(tmp_path / "two_modes", replace(scan, probe=two_modes, truth=None, name="two_modes"))
    half = replace(scan, counts=scan.counts[:60], positions=scan.positions[:60], name="half")
    write_dataset(tmp_path / "half", half)
    output = tmp_path / "networks" / "pinn.ckpt"
    train([tiny_dataset, tmp_path / "two_modes", tmp_path / "half"], output, SMALL, RECIPE, CPU, OFF)
    record = json.loads(output.with_suffix(".json").read_text())
    assert {name: groups["patterns"] for name, groups in record["groups"].items()} == {
        "blobs": 100, "two_modes": 100, "half": 60}  # fmt: skip
    assert np.isfinite(record["curves"]["loss"]).all()


def test_a_trained_network_adapts_to_the_counts_of_a_scan_it_is_to_reconstruct(
    tiny_dataset, undisturbed, tmp_path, caplog
):
    scan = open_dataset(tiny_dataset)
    measured = replace(scan, probe=1.1 * scan.probe, truth=None, name="measured")  # the probe is never known exactly
    write_dataset(tmp_path / "measured", measured)
    pinn, adapted = undisturbed, tmp_path / "networks" / "adapted.ckpt"
    fine_tuning = Stage(epochs=2, physics_weight=1.0, freeze_encoder=True)
    recipe = RECIPE.model_copy(update={"stages": (fine_tuning,), "groups_per_epoch": 160})
    caplog.clear()
    train([tmp_path / "measured"], adapted, Network(), recipe, CPU, OFF, start=pinn)
    assert "set training.held_out_neighbours" in caplog.text
    before, after = (read_model(path).network for path in (pinn, adapted))
    assert after.settings == SMALL and after.window == before.window
    torch.testing.assert_close(after.input_scale, before.input_scale)
    frozen = set(after.encoder_parameters())
    for (name, mine), theirs in zip(after.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(mine, theirs) == (mine in frozen), name
    record = json.loads(adapted.with_suffix(".json").read_text())
    assert record["stages"][0]["physics_last"] < record["stages"][0]["physics_first"]
    assert record["provenance"]["inputs"]["start"]["name"] == "pinn.ckpt"
    assert record["config"]["network"]["base_channels"] == 8


def test_a_network_that_does_not_suit_is_not_gone_on_with(tiny_dataset, tmp_path):
    pinn, output = tmp_path / "pinn.ckpt", tmp_path / "m" / "other.ckpt"
    once = RECIPE.model_copy(update={"stages": (Stage(epochs=1),), "groups_per_epoch": 8})
    _train(tiny_dataset, pinn, once)
    with pytest.raises(ValueError, match=r"network.base_channels is 16, but .*pinn.ckpt was trained with 8: remove it"):
        train([tiny_dataset], output, Network(base_channels=16), once, CPU, OFF, start=pinn)
    with pytest.raises(FileNotFoundError, match="model not found"):
        train([tiny_dataset], output, Network(), once, CPU, OFF, start=tmp_path / "none.ckpt")
    scan = open_dataset(tiny_dataset)
    smaller = replace(scan, counts=scan.counts[:, 8:24, 8:24], probe=scan.probe[:, 8:24, 8:24], name="smaller")
    write_dataset(tmp_path / "smaller", smaller)
    with pytest.raises(ValueError, match=r"trained on patterns of 32 px, smaller has 16 px: pack the scan with .*32"):
        train([tmp_path / "smaller"], output, Network(), once, CPU, OFF, start=pinn)


def test_labels_that_do_not_exist_are_missed_before_training_starts(tiny_dataset, tmp_path):
    write_dataset(tmp_path / "bare", replace(open_dataset(tiny_dataset), truth=None, name="bare"))
    with pytest.raises(ValueError, match=r"supervision is ground_truth, but no ground truth in bare: .*simulate"):
        train(
            [tiny_dataset, tmp_path / "bare"],
            tmp_path / "m" / "pinn.ckpt",
            SMALL,
            RECIPE.model_copy(update={"supervision": "ground_truth"}),
            CPU,
            OFF,
        )
    assert not (tmp_path / "m").exists()


def test_a_batch_that_devices_cannot_share_is_refused(tiny_dataset, tmp_path):
    with pytest.raises(ValueError, match="batch_size is 8, which 3 devices cannot share"):
        train([tiny_dataset], tmp_path / "pinn.ckpt", SMALL, RECIPE, Runtime(accelerator="cpu", devices=3), OFF)


def _words(dataset: Path, output: Path, training: Training, **runtime: object) -> list[str]:
    """A training on a processor as a command, its state written every tenth of a second."""
    config = {"network": SMALL.model_dump(mode="json"), "training": training.model_dump(mode="json")}
    runtime = {"accelerator": "cpu", "threads": 1, "checkpoint_interval_min": 0.002} | runtime
    options = {"--config": config, "--runtime": runtime, "--tracking": {"uri": None}}
    texts = (word for name, value in options.items() for word in (name, json.dumps(value)))
    return ["ptychoflow", "train", str(dataset), str(output), *texts]


def _wait_for_state(folder: Path, process: subprocess.Popen) -> Path:
    deadline = time.monotonic() + 120
    while not list(folder.glob("*/*/latest.ckpt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    (state,) = folder.glob("*/*/latest.ckpt")
    return state


def test_a_killed_process_loses_at_most_what_came_after_its_last_state(tiny_dataset, tmp_path):
    stages = (Stage(epochs=1, physics_weight="linear"), Stage(epochs=1))
    recipe = RECIPE.model_copy(update={"stages": stages, "groups_per_epoch": 320})
    killed, whole = (tmp_path / name / "networks" / "pinn.ckpt" for name in ("killed", "whole"))
    words = _words(tiny_dataset, killed, recipe)
    process = subprocess.Popen([sys.executable, "-m", *words], stderr=subprocess.DEVNULL)
    state = _wait_for_state(tmp_path / "killed" / "checkpoints", process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < torch.load(state, weights_only=True)["global_step"] < 80
    for output in (killed, whole):
        train([tiny_dataset], output, SMALL, recipe, Runtime(accelerator="cpu", threads=1), OFF)
    torch.testing.assert_close(_weights(killed), _weights(whole), rtol=0, atol=0)


TWO = RECIPE.model_copy(update={"stages": (Stage(epochs=1, physics_weight=0.0),), "groups_per_epoch": 320})


def _started_by(launcher: str, words: list[str]) -> list[subprocess.Popen]:
    """The processes of a training of two, as each launcher starts them."""
    python = [sys.executable, "-m"]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")} | {
        "OMP_NUM_THREADS": "1"
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    if launcher == "torchrun":
        words = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *words]
    if launcher != "srun":
        return [subprocess.Popen([*python, *words], env=variables, **pipes)]
    job = {"JOB_ID": str(20000 + os.getpid() % 10000), "JOB_NAME": "train", "NNODES": "1", "NODELIST": "127.0.0.1"}
    task = {"NTASKS": "2", "STEP_NUM_TASKS": "2", "NODEID": "0"}
    slurm = {f"SLURM_{name}": value for name, value in (job | task).items()}
    return [
        subprocess.Popen(
            [*python, *words], env=variables | slurm | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}, **pipes
        )
        for rank in "01"
    ]


@pytest.fixture(scope="module")
def one(tiny_dataset, tmp_path_factory) -> Path:
    """The model that one process trains by TWO."""
    output = tmp_path_factory.mktemp("one") / "networks" / "pinn.ckpt"
    _train(tiny_dataset, output, TWO)
    return output


@pytest.mark.parametrize(("launcher", "stopped"), [("lightning", True), ("torchrun", False), ("srun", False)])
def test_two_processes_learn_what_one_learns_also_when_they_were_stopped(
    tiny_dataset, one, tmp_path, launcher, stopped
):
    output = tmp_path / "networks" / "pinn.ckpt"
    words = _words(tiny_dataset, output, TWO, devices=2)
    if stopped:
        (process,) = _started_by(launcher, words)
        _wait_for_state(tmp_path / "checkpoints", process)
        process.terminate()
        output_text = process.communicate(timeout=180)[0]
        assert process.returncode == 143 and output_text.count("checkpoint saved, rerun to resume") == 1, output_text
    processes = _started_by(launcher, words)
    output_text = [process.communicate(timeout=180)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), output_text
    torch.testing.assert_close(_weights(output), _weights(one), rtol=0, atol=1e-3)
    of_one, of_two = (json.loads(path.with_suffix(".json").read_text()) for path in (one, output))
    assert of_two["steps"] == of_one["steps"] and of_two["processes"] == 2
    assert of_two["validation"]["patch_error"] == pytest.approx(of_one["validation"]["patch_error"], rel=1e-2)


GPU = Runtime(accelerator="gpu")
TINY = Network(group_size=4, base_channels=8, depth=1, physics_iterations=1, cascades=1)
SHORT = RECIPE.model_copy(
    update={"stages": (Stage(epochs=2, physics_weight=0.5),), "groups_per_epoch": 24, "batch_size": 8}
)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16-mixed", "ema_decay": 0.5, "early_stopping_patience": 2, "checkpoint": "best"},
        {"precision": "16-mixed"},
    ],
)
def test_a_gpu_learns_what_the_cpu_learns(gpu, tiny_dataset, tmp_path, settings):
    errors = []
    for runtime, training in ((CPU, {"precision": "32-true"}), (GPU, {})):
        output = tmp_path / f"{runtime.accelerator}.ckpt"
        train([tiny_dataset], output, TINY, SHORT.model_copy(update=settings | training), runtime, OFF)
        record = json.loads(output.with_suffix(".json").read_text())
        errors.append(record["validation"]["patch_error"])
    assert record["device"] == "cuda:0" and not _weights(output).is_cuda
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


def test_a_training_on_a_gpu_resumes_where_it_was_stopped(gpu, tiny_dataset, tmp_path, monkeypatch):
    stopped, whole = (tmp_path / name / "networks" / "pinn.ckpt" for name in ("stopped", "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "make_trainer", _ending_after(4))
        with pytest.raises(SystemExit):
            train([tiny_dataset], stopped, TINY, SHORT, GPU, OFF)
    for output in (stopped, whole):
        train([tiny_dataset], output, TINY, SHORT, GPU, OFF)
    torch.testing.assert_close(_weights(stopped), _weights(whole), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("sees", "where"), [("backprojection", "never"), ("object_estimate", "always")])
def test_no_step_of_a_training_waits_for_the_gpu(simulated_gpu, tiny_dataset, tmp_path, monkeypatch, sees, where):
    monkeypatch.setattr("ptychoflow.training.trainer.terminal", lambda: io.StringIO())  # somebody looks
    monkeypatch.setattr("ptychoflow.training.trainer.ThrottledProgressBar.EVERY_S", 1e6)
    network = TINY.model_copy(update={"input": sees})
    waits = []
    for steps in (20, 26):  # after twenty of them they are logged
        recipe = {"stages": (Stage(epochs=1, physics_weight=0.5),), "groups_per_epoch": 2 * steps, "batch_size": 2}
        simulated_gpu.forget()
        runtime = GPU.model_copy(update={"counts_on_device": where})
        train([tiny_dataset], tmp_path / f"{steps}.ckpt", network, RECIPE.model_copy(update=recipe), runtime, OFF)
        waits.append(Counter(simulated_gpu.waits_in()))
    assert waits[1] - waits[0] == Counter()


@needs_cpu_build
def test_a_network_is_made_without_touching_every_gpu(tiny_dataset, monkeypatch):
    monkeypatch.setattr("torch.random._fork_rng_warned_already", False)
    data = TrainingData([open_dataset(tiny_dataset)], SMALL.group_size, RECIPE, CPU)
    with simulate_gpus(count=2), warnings.catch_warnings():
        warnings.simplefilter("error")
        build_network(SMALL, RECIPE, data)


class _Operations(lightning.Callback):
    """Counts what an epoch hands over."""

    def __init__(self, gpu) -> None:
        self._gpu = gpu

    def on_train_epoch_start(self, trainer, task) -> None:
        self._before = self._gpu.operations

    def on_train_batch_end(self, trainer, task, outputs, batch, index) -> None:
        self.count = self._gpu.operations - self._before


def test_the_speed_of_a_training_is_that_of_the_gpu(simulated_gpu, tiny_dataset, tmp_path):
    simulated_gpu.seconds_per_operation = 1e-3
    recipe = {"stages": (Stage(epochs=1, physics_weight=1.0),), "groups_per_epoch": 24}
    training = RECIPE.model_copy(update=recipe | {"validation": Validation(fraction=0.0)})
    handed_over = _Operations(simulated_gpu)
    train([tiny_dataset], tmp_path / "m.ckpt", TINY, training, GPU, OFF, [handed_over])
    record = json.loads((tmp_path / "m.json").read_text())
    assert record["training_seconds"] > 0.95 * handed_over.count * simulated_gpu.seconds_per_operation


@pytest.mark.parametrize(
    ("sees", "remedy"),
    [
        ("backprojection", "raise runtime.gradient_accumulation_steps"),
        ("object_estimate", "set runtime.accelerator to cpu"),
    ],
)
def test_a_gpu_that_is_too_small_is_told_and_what_to_do(simulated_gpu, tiny_dataset, tmp_path, sees, remedy):
    simulated_gpu.largest = 1e5
    network, runtime = TINY.model_copy(update={"input": sees}), GPU.model_copy(update={"counts_on_device": "never"})
    with pytest.raises(ValueError, match=rf"^CUDA out of memory[^:]*: {remedy}"):
        train([tiny_dataset], tmp_path / "m.ckpt", network, SHORT, runtime, OFF)
