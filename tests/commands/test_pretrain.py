"""Tests of the command that trains the learned prior."""

import inspect
import json

import pytest
from safetensors.torch import load_file

from ptychoflow.cli.main import main
from ptychoflow.commands.pretrain import pretrain
from ptychoflow.io.provenance import sha256
from ptychoflow.networks.object_prior import ObjectPrior
from ptychoflow.training import prior_training
from ptychoflow.training.prior_training import PriorTraining


def test_pretrain_writes_weights_and_a_card_that_belong_together(tmp_path):
    output = tmp_path / "tiny.safetensors"
    words = ["--scans", "2", "--steps", "2", "--rounds", "1", "--base-channels", "8"]
    assert main(["pretrain", str(output), *words]) == 0
    card = json.loads(output.with_suffix(".json").read_text())
    assert card["sha256"] == sha256(output) and card["made_with"]["scans"] == 2
    ObjectPrior(**card["network"]).load_state_dict(load_file(output))


def test_an_interrupted_pretrain_leaves_the_weights_of_the_rounds_that_ended(tmp_path, monkeypatch):
    train_round, rounds = prior_training._train_round, []

    def interrupted(*arguments):
        rounds.append(1)
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return train_round(*arguments)

    monkeypatch.setattr(prior_training, "_train_round", interrupted)
    output = tmp_path / "tiny.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pretrain(output, scans=2, steps=2, rounds=3, base_channels=8)
    card = json.loads(output.with_suffix(".json").read_text())
    assert len(card["history"]) == 1 and card["sha256"] == sha256(output)
    ObjectPrior(**card["network"]).load_state_dict(load_file(output))


def test_the_defaults_of_the_command_are_those_of_the_training():
    options = inspect.signature(pretrain).parameters
    assert {name: option.default for name, option in options.items() if name != "output"} == {
        name: getattr(PriorTraining, name) for name in ("scans", "steps", "rounds", "base_channels", "seed")
    }


def test_models_are_listed_and_shown(capsys):
    assert main(["models", "list"]) == 0
    assert "object_prior" in capsys.readouterr().out
    assert main(["models", "show", "object_prior"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] > 1e5
    assert main(["models", "show", "atoms"]) == 2
