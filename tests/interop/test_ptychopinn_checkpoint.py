"""Networks of PtychoPINN: read without running code, predicting as there, refused where they would not."""

import json
import math
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, interpolate, max_pool2d, pad, relu, sigmoid, silu

from ptychoflow.api import PtychoModel
from ptychoflow.cli.main import main
from ptychoflow.config import Network
from ptychoflow.interop.ptychopinn.checkpoint import read_reference_model
from ptychoflow.models.checkpoint import read_model
from ptychoflow.networks.registry import build

from .reference_network import MODEL_CONFIG, WIDTHS, reference_weights, write_reference_checkpoint

ORACLES = Path(os.environ.get("PTYCHOFLOW_DATA", "data")).parent / "oracles"


def _predict_as_published(weights: dict[str, torch.Tensor], x: torch.Tensor, activation=silu, border=True):
    """The published layers, one function after another, for any of the weights above."""

    def conv(name: str, images: torch.Tensor) -> torch.Tensor:
        name = f"model.autoencoder.{name}"
        return conv2d(images, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    def two(name: str, images: torch.Tensor) -> torch.Tensor:
        for number in (1, 2):
            images = conv(f"{name}.conv{number}", images)
            stem = f"model.autoencoder.{name}.bn{number}."
            if f"{stem}weight" in weights:
                norm = [weights[stem + part] for part in ("running_mean", "running_var", "weight", "bias")]
                images = torch.nn.functional.batch_norm(images, *norm)
            images = relu(images)
        return images

    def attend(gate: str, images: torch.Tensor) -> torch.Tensor:
        def dense(pooled: torch.Tensor) -> torch.Tensor:
            for layer in (0, 2):
                stem = f"{gate}.channel.mlp.{layer}"
                pooled = torch.nn.functional.linear(pooled, weights[f"{stem}.weight"], weights[f"{stem}.bias"])
                pooled = relu(pooled) if layer == 0 else pooled
            return pooled

        gates = sigmoid(dense(images.mean((2, 3))) + dense(images.amax((2, 3))))
        images = images * gates[:, :, None, None]
        extremes = torch.stack([images.amax(1), images.mean(1)], 1)
        return images * sigmoid(conv2d(extremes, weights[f"{gate}.spatial.conv.weight"], padding=3))

    blocks = len({name for name in weights if "encoder.blocks" in name and name.endswith("conv1.weight")})
    for block in range(blocks):
        x = two(f"encoder.blocks.{block}", x)
        gate = f"model.autoencoder.encoder.blocks.{block}.cbam"
        x = max_pool2d(attend(gate, x) if f"{gate}.spatial.conv.weight" in weights else x, 2)
    parts = []
    for part, function in (("amp", activation), ("phase", lambda y: math.pi * torch.tanh(y))):
        y, head = x, f"decoder_{part}.{part}"
        for block in range(blocks - 1):
            y = interpolate(two(f"decoder_{part}.blocks.{block}", y), scale_factor=2)
        outer = weights[f"model.autoencoder.{head}.conv1.weight"].shape[0]
        side = y.shape[-1]
        image = pad(function(conv(f"{head}.conv1", y[:, :-outer])), [side // 2] * 4)
        if border:
            rim = silu(conv(f"{head}.conv2", interpolate(two(f"{head}.conv_up_block", y[:, -outer:]), scale_factor=2)))
            rim[..., side // 2 : -side // 2, side // 2 : -side // 2] = 0
            image = image + rim
        parts.append(image)
    return parts[0] * torch.exp(1j * parts[1])


@pytest.mark.parametrize("name", ["ptychopinn_torch_c1_f1", "ptychopinn_torch_c4_f1"])
def test_checkpoints_of_the_reference_predict_the_same(name):
    if not (ORACLES / f"{name}.ckpt").is_file():
        pytest.skip(f"{name}.ckpt, which PtychoPINN wrote, is not in oracles/ beside PTYCHOFLOW_DATA")
    model, oracle = PtychoModel.from_ptychopinn(ORACLES / f"{name}.ckpt"), np.load(ORACLES / f"{name}.npz")
    patches = model.forward_predict(oracle["x"], oracle["input_scale_factor"])
    np.testing.assert_allclose(patches, oracle["patches"], rtol=1e-4, atol=1e-6)


CASES = [
    ({"size": 64, "patterns": 4}, {}),
    ({"size": 64, "patterns": 1, "scale": 2}, {}),
    ({"size": 128, "patterns": 9}, {}),
    ({"size": 256, "patterns": 2}, {}),
    ({"attention": True, "patterns": 3}, {"cbam_encoder": True}),
    ({"norm": True, "patterns": 3}, {"batch_norm": True}),
    ({"patterns": 2}, {"probe_big": False}),
    ({"patterns": 2}, {"amp_activation": "sigmoid"}),
    ({"patterns": 2}, {"amp_activation": "SiLU", "mode": "Supervised", "object_big": False}),
]


@pytest.mark.parametrize(("shape", "settings"), CASES)
def test_networks_of_any_size_and_kind_predict_as_published(tmp_path, shape, settings):
    weights = reference_weights(**shape)
    size, patterns = shape.get("size", 64), shape.get("patterns", 1)
    path = write_reference_checkpoint(tmp_path / "theirs.ckpt", weights, size, patterns, **settings)
    x = torch.rand(2, patterns, size, size, generator=torch.Generator().manual_seed(5))
    activation = sigmoid if settings.get("amp_activation") == "sigmoid" else silu
    expected = _predict_as_published(weights, 0.7 * x, activation, settings.get("probe_big", True))
    patches = PtychoModel.from_ptychopinn(path).forward_predict(x, 0.7)
    assert np.abs(expected.numpy()).max() > 0.1
    np.testing.assert_allclose(patches, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_network_for_single_patterns_takes_groups(tmp_path):
    model = PtychoModel.from_ptychopinn(write_reference_checkpoint(tmp_path / "theirs.ckpt", reference_weights()))
    x = torch.rand(2, 3, 64, 64)
    np.testing.assert_allclose(model.forward_predict(x)[:, 1:2], model.forward_predict(x[:, 1:2]), atol=1e-6)


def test_import_makes_a_checkpoint_that_predicts_the_same(tmp_path):
    theirs = write_reference_checkpoint(tmp_path / "theirs.ckpt", reference_weights(patterns=4), patterns=4)
    assert main(["import", str(theirs), str(tmp_path / "ours.ckpt")]) == 0
    x = torch.rand(1, 4, 64, 64)
    ours = PtychoModel.load(tmp_path / "ours.ckpt")
    assert (ours.forward_predict(x) == PtychoModel.from_ptychopinn(theirs).forward_predict(x)).all()
    assert ours.model.metadata["imported"]["program"] == "PtychoPINN"


@pytest.mark.parametrize(("domain", "sees"), [("count_intensity", "counts"), ("normalized_amplitude", "amplitude")])
def test_the_measurement_domain_says_what_the_network_sees(tmp_path, domain, sees):
    path = write_reference_checkpoint(tmp_path / "theirs.ckpt", reference_weights())
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["data_config"]["measurement_domain"] = domain
    torch.save(content, path)
    assert read_reference_model(path).network.settings.input == sees


def test_the_folder_of_an_mlflow_run_is_read(tmp_path):
    run = tmp_path / "mlruns" / "1" / "abc"
    (run / "artifacts" / "checkpoints").mkdir(parents=True)
    (run / "params").mkdir()
    torch.save(reference_weights(patterns=2), run / "artifacts" / "checkpoints" / "weights.pth")
    (run / "params" / "ModelConfig_params").write_text(json.dumps(MODEL_CONFIG | {"amp_activation": "relu"}))
    (run / "params" / "DataConfig_params").write_text(json.dumps({"N": 64, "C": 2}))
    settings = read_reference_model(run).network.settings
    assert (settings.group_size, settings.amplitude_activation) == (2, "relu")


class _Config:
    """Stands for a dataclass of the other program."""


def _pickled(path: Path) -> Path:
    torch.save({"state_dict": reference_weights(), "hyper_parameters": {"model_config": _Config()}}, path)
    return path


def _archive(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.dill", pickle.dumps({"models": ["diffraction_to_obj"]}))
        for member in members:
            archive.writestr(member, b"")
    return path


def _run_without_checkpoint(path: Path) -> Path:
    path.mkdir()
    return path


REFUSED = {
    "pickled": (lambda folder: _pickled(folder / "a.ckpt"), r"holds pickled objects.*dataclasses.asdict\(model_config"),
    "tensorflow": (lambda folder: _archive(folder / "wts.h5.zip", "obj/model.keras"), "networks of TensorFlow with a"),
    "torch_archive": (lambda folder: _archive(folder / "wts.h5.zip", "obj/model.pth"), "save the torch network as"),
    "broken_archive": (lambda folder: _text(folder / "wts.h5.zip"), "is not a ZIP archive or is truncated"),
    "text": (lambda folder: _text(folder / "a.ckpt"), "is not a file of PyTorch or is truncated"),
    "nothing": (lambda folder: folder / "a.ckpt", "not found: check the path"),
    "empty_run": (lambda folder: _run_without_checkpoint(folder / "run"), "no checkpoint .*MLflow run"),
    "architecture": (lambda folder: _with(folder, architecture="ffno"), "architecture 'ffno'"),
    "real_imag": (lambda folder: _with(folder, cnn_output_mode="real_imag"), "cnn_output_mode 'real_imag'"),
    "bottleneck": (lambda folder: _with(folder, cbam_bottleneck=True), "cbam_bottleneck True"),
    "activation": (lambda folder: _with(folder, amp_activation="tanh"), "amp_activation 'tanh'"),
    "shared": (lambda folder: _with(folder, use_shared_decoder=True), "use_shared_decoder True"),
    "size": (lambda folder: _with(folder, size=[64]), "cannot be imported"),
    "text_for_a_weight": (
        lambda folder: _with(folder, more={"model.autoencoder.x.weight": "text"}),
        "holds weights that are not tensors",
    ),
    "another_weight": (lambda folder: _with(folder, more={"model.autoencoder.x.weight": torch.ones(1)}), "x.weight"),
    "missing_weight": (
        lambda folder: _with(folder, but="model.autoencoder.decoder_amp.amp.conv2.bias"),
        "decoder_amp.amp.conv2.bias is missing",
    ),
    "other_widths": (
        lambda folder: _with(folder, more={"model.autoencoder.encoder.blocks.1.conv1.bias": torch.ones(5)}),
        "its layers are not those of the published CNN",
    ),
}


def _text(path: Path) -> Path:
    path.write_text("no archive")
    return path


def _with(folder: Path, more: dict | None = None, but: str | None = None, size: object = 64, **model_config) -> Path:
    weights = reference_weights() | (more or {})
    weights.pop(but, None)
    return write_reference_checkpoint(folder / "a.ckpt", weights, size, **model_config)


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_predict_the_same_is_refused_with_the_reason(tmp_path, case):
    make, message = REFUSED[case]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_reference_model(make(tmp_path))


def test_infer_says_how_to_import_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="one of PtychoPINN: translate it with ptychoflow import"):
        read_model(write_reference_checkpoint(tmp_path / "theirs.ckpt", reference_weights()))


SIZES = {
    (64, 1, False): 2_328_370, (64, 4, False): 2_340_208, (64, 1, True): 2_339_892, (64, 4, True): 2_351_730,
    (128, 1, False): 4_716_114, (128, 4, False): 4_727_088, (128, 1, True): 4_727_896, (128, 4, True): 4_738_870,
    (256, 1, False): 12_982_498, (256, 4, False): 12_993_040, (256, 4, True): 13_004_969,
}  # fmt: skip
"""Weights of PtychoPINN's CNN with ``n_filters_scale`` 2, by side of the patterns, group and attention."""


@pytest.mark.parametrize(("size", "patterns", "attention"), SIZES)
def test_the_cnn_is_as_large_as_the_references(size, patterns, attention):
    depth = len(WIDTHS[size])
    settings = Network(
        architecture="cnn", head="polar", base_channels=2 * WIDTHS[size][0], depth=depth, attention=attention
    )
    network = build(settings, patterns, 2 * patterns)
    assert sum(weight.numel() for weight in network.parameters()) == SIZES[size, patterns, attention]
