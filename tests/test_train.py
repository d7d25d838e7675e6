"""Training as a verb: one checkpoint and one record, resumed exactly, refused early where it cannot work."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lightning
import pytest
import torch

from ptychoflow import train as module
from ptychoflow.config import (
    Grouping,
    Network,
    Runtime,
    Stage,
    Tracking,
    Training,
    Validation,
)
from ptychoflow.data.packing import open_dataset, write_dataset
from ptychoflow.learning.checkpoints import read_model
from ptychoflow.train import train

OFF = Tracking(uri=None)
CPU = Runtime(accelerator="cpu")
SMALL = Network(width=8, levels=2)
RECIPE = Training(
    stages=(Stage(epochs=1, physics_weight=0.0), Stage(epochs=2, physics_weight="linear")),
    batch_size=8,
    groups_per_epoch=48,
    grouping=Grouping(neighbours=4),
    validation=Validation(fraction=0.16),
)


def _weights(path: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for value in read_model(path).network.state_dict().values()])


def _train(dataset: Path, output: Path, training: Training = RECIPE) -> None:
    train([dataset], output, SMALL, training, CPU, OFF)


def test_training_lowers_the_loss_and_writes_model_and_record(tiny_dataset, tmp_path):
    output = tmp_path / "results" / "models" / "pinn.ckpt"
    training = RECIPE.model_copy(update={"stages": (Stage(epochs=3, physics_weight=0.5),), "groups_per_epoch": 160})
    _train(tiny_dataset, output, training)
    record = json.loads(output.with_suffix(".json").read_text())
    assert record["stages"][0]["loss_last"] < 0.9 * record["stages"][0]["loss_first"]
    assert record["steps"] == 60 and len(record["curves"]["loss"]) == 60 == len(record["curves"]["learning_rate"])
    assert len(record["validation"]["patch_error"]) == 3 == len(record["validation"]["correlation"])
    assert record["groups"]["blobs"]["validation"] > 0
    assert record["config"]["training"]["groups_per_epoch"] == 160
    assert record["provenance"]["inputs"]["blobs"]["sha256"]
    assert record["patterns_per_second"] > 0 and 0 <= record["data_wait_share"] < 1
    model = read_model(output)
    assert model.size == 32 and model.facts["config"] == record["config"]
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
def test_a_training_that_was_stopped_resumes_to_the_same_weights(tiny_dataset, tmp_path, monkeypatch, step, gently):
    _train(tiny_dataset, tmp_path / "a" / "models" / "pinn.ckpt")
    stopped = tmp_path / "b" / "models" / "pinn.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(module, "make_trainer", _ending_after(step, gently))
        with pytest.raises(SystemExit if gently else RuntimeError) as ending:
            _train(tiny_dataset, stopped)
    assert not gently or ending.value.code == 143
    assert not stopped.exists() and list((tmp_path / "b" / "checkpoints" / "pinn").rglob("latest.ckpt"))
    _train(tiny_dataset, stopped)
    torch.testing.assert_close(_weights(stopped), _weights(tmp_path / "a" / "models" / "pinn.ckpt"), rtol=0, atol=0)
    whole, resumed = (json.loads((tmp_path / d / "models" / "pinn.json").read_text()) for d in "ab")
    assert resumed["curves"] == whole["curves"]
    for name, column in resumed["validation"].items():  # the one that was interrupted is not made up for
        assert column[-2:] == whole["validation"][name][-2:]


def test_another_recipe_does_not_resume(tiny_dataset, tmp_path, monkeypatch):
    output = tmp_path / "models" / "pinn.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(module, "make_trainer", _ending_after(3))
        with pytest.raises(SystemExit):
            _train(tiny_dataset, output)
    other = RECIPE.model_copy(update={"learning_rate": 1e-3})
    _train(tiny_dataset, output, other)
    _train(tiny_dataset, tmp_path / "fresh" / "models" / "pinn.ckpt", other)
    torch.testing.assert_close(_weights(output), _weights(tmp_path / "fresh" / "models" / "pinn.ckpt"), rtol=0, atol=0)


def test_several_probes_train_one_network(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    write_dataset(tmp_path / "other", replace(scan, probe=scan.probe[:, ::-1], truth=None, name="other"))
    output = tmp_path / "models" / "pinn.ckpt"
    train([tiny_dataset, tmp_path / "other"], output, SMALL, RECIPE, CPU, OFF)
    record = json.loads(output.with_suffix(".json").read_text())
    assert set(record["groups"]) == {"blobs", "other"}


def test_labels_that_do_not_exist_are_missed_before_training_starts(tiny_dataset, tmp_path):
    write_dataset(tmp_path / "bare", replace(open_dataset(tiny_dataset), truth=None, name="bare"))
    with pytest.raises(ValueError, match=r"training.guide is truth, but bare has none: .*simulate"):
        train(
            [tiny_dataset, tmp_path / "bare"],
            tmp_path / "m" / "pinn.ckpt",
            SMALL,
            RECIPE.model_copy(update={"guide": "truth"}),
            CPU,
            OFF,
        )
    assert not (tmp_path / "m").exists()


def test_a_batch_that_devices_cannot_share_is_refused(tiny_dataset, tmp_path):
    with pytest.raises(ValueError, match="batch_size is 8, which 3 devices cannot share"):
        train([tiny_dataset], tmp_path / "pinn.ckpt", SMALL, RECIPE, Runtime(accelerator="cpu", devices=3), OFF)


def test_two_processes_learn_what_one_learns(tiny_dataset, tmp_path):
    training = RECIPE.model_copy(update={"stages": (Stage(epochs=2, physics_weight=0.0),)})
    _train(tiny_dataset, tmp_path / "one" / "models" / "pinn.ckpt", training)
    output = tmp_path / "two" / "models" / "pinn.ckpt"
    config = json.dumps({"network": SMALL.model_dump(mode="json"), "training": training.model_dump(mode="json")})
    options = {"--config": config, "--tracking": '{"uri": null}'}
    options["--runtime"] = '{"accelerator": "cpu", "devices": 2, "threads": 1}'
    words = [str(tiny_dataset), str(output), *(word for option in options.items() for word in option)]
    command = [sys.executable, "-m", "ptychoflow", "train", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(_weights(output), _weights(tmp_path / "one" / "models" / "pinn.ckpt"), rtol=0, atol=5e-4)
    one, two = (json.loads((tmp_path / n / "models" / "pinn.json").read_text()) for n in ("one", "two"))
    assert two["steps"] == one["steps"]
    assert two["validation"]["patch_error"] == pytest.approx(one["validation"]["patch_error"], rel=1e-2)
