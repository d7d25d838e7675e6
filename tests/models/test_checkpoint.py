"""A model file: tensors and plain data that open without being trusted."""

import pickle

import pytest
import torch

from ptychoflow.config import Network
from ptychoflow.io.product_kinds import CHECKPOINT
from ptychoflow.models.checkpoint import FORMAT, Model, read_model, write_model
from ptychoflow.networks.group_network import GroupReconstructor


@pytest.fixture
def model() -> Model:
    network = GroupReconstructor(Network(base_channels=8, depth=2), window=16)
    network.input_scale.fill_(0.7)
    return Model(network, 32, {"config": {"network": {"base_channels": 8}}})


def test_a_model_comes_back_with_weights_normalisation_and_facts(tmp_path, model):
    write_model(tmp_path / "m.ckpt", model)
    assert CHECKPOINT.is_product(tmp_path / "m.ckpt")
    back = read_model(tmp_path / "m.ckpt")
    assert (back.size, back.metadata, back.network.window) == (32, model.metadata, 16)
    assert back.network.settings == model.network.settings
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(back.network.state_dict()[name], value)


def test_the_file_holds_plain_data_only(tmp_path, model):
    write_model(tmp_path / "m.ckpt", model)
    content = torch.load(tmp_path / "m.ckpt", weights_only=True)
    assert content["network"]["base_channels"] == 8


def test_a_full_disk_is_told_in_words(model, mount):
    disk = mount("disk", "size=8k")
    with pytest.raises(OSError, match=r"m\.ckpt does not fit on the disk"):
        write_model(disk / "m.ckpt", model)
    assert not list(disk.iterdir())


def test_a_missing_model_says_to_train_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="train one first"):
        read_model(tmp_path / "m.ckpt")


@pytest.mark.parametrize("damage", ["truncate", "other", "uniform", "pickle"])
def test_a_file_that_is_no_model_gives_one_clear_error(tmp_path, model, damage):
    path = tmp_path / "m.ckpt"
    write_model(path, model)
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "pickle":
        path.write_bytes(pickle.dumps({"format": model.__class__}))
    else:
        path.write_bytes(b"no model" if damage == "other" else b"")
    with pytest.raises(ValueError, match=r"m.ckpt is not a ptychoflow checkpoint or is truncated: train it again"):
        read_model(path)


def test_another_format_is_refused(tmp_path):
    torch.save({"format": 0}, tmp_path / "m.ckpt")
    with pytest.raises(ValueError, match=f"is in format 0, this version reads {FORMAT}: train the model again"):
        read_model(tmp_path / "m.ckpt")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"conv.weight": torch.zeros(2)}, "another program's"),
        ([1, 2], "another program's"),
        ({"state_dict": {}, "optimizer_states": []}, "the state of an interrupted training"),
    ],
)
def test_what_is_no_model_of_ours_is_told_apart(tmp_path, content, what):
    torch.save(content, tmp_path / "m.ckpt")
    with pytest.raises(
        ValueError, match=rf"m\.ckpt is not a ptychoflow checkpoint but {what}: give the checkpoint that train"
    ):
        read_model(tmp_path / "m.ckpt")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content["network"].update(base_channels=16), "size mismatch"),
        (lambda content: content["network"].update(input="pictures"), "input should be"),
        (lambda content: content.update(window=0), "window of 0 px, expected 1 to 32"),
        (lambda content: content.update(window=64), "window of 64 px"),
        (lambda content: content.update(size="large"), "invalid literal"),
        (lambda content: content["weights"].clear(), "Missing key"),
    ],
)
def test_a_model_that_does_not_hold_together_is_refused(tmp_path, model, change, reason):
    write_model(tmp_path / "m.ckpt", model)
    content = torch.load(tmp_path / "m.ckpt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "m.ckpt")
    message = rf"m\.ckpt does not hold the network it names \(.*{reason}.*\): train the model again"
    with pytest.raises(ValueError, match=message):
        read_model(tmp_path / "m.ckpt")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content["weights"].update(input_scale=torch.full((15,), torch.nan)), "does not hold"),
        (lambda content: content["network"].update(base_channels=800_000), "less than or equal to 1024"),
        (lambda content: content["network"].update(physics_iterations=10**9), "less than or equal to 1000"),
        (lambda content: content.update(size=10**9), "size|window"),
        (lambda content: content.update(metadata=[]), "metadata"),
        (lambda content: content.update(weights=[]), "does not hold"),
        (lambda content: content["metadata"].update(note="another"), "changed since it was written"),
    ],
)
def test_a_model_that_asks_for_too_much_or_was_changed_is_refused(tmp_path, model, change, reason):
    write_model(tmp_path / "m.ckpt", model)
    content = torch.load(tmp_path / "m.ckpt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "m.ckpt")
    with pytest.raises(ValueError, match=rf"m\.ckpt.*({reason}).*") as caught:
        read_model(tmp_path / "m.ckpt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, model, value):
    model.network.input_scale.fill_(value)
    write_model(tmp_path / "m.ckpt", model)
    with pytest.raises(ValueError, match=r"m\.ckpt does not hold the network it names \(input_scale holds NaN or inf"):
        read_model(tmp_path / "m.ckpt")


def test_a_wide_network_without_its_weights_takes_no_memory(tmp_path, model):
    """At 1024 channels and five levels the weights alone would take tens of gigabytes."""
    write_model(tmp_path / "m.ckpt", model)
    content = torch.load(tmp_path / "m.ckpt", weights_only=True)
    content["network"].update(base_channels=1024, depth=5)
    torch.save(content, tmp_path / "m.ckpt")
    with pytest.raises(ValueError, match="does not hold the network it names"):
        read_model(tmp_path / "m.ckpt")
