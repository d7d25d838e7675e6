"""Networks of PtychoPINN's torch backend: its checkpoints and MLflow runs, read without unpickling, as our own network.

Layers come from the names and shapes of the weights; what these cannot say comes from the settings in the checkpoint.
A checkpoint whose prediction would differ from PtychoPINN's is refused.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...config import Network
from ...io.tensor_file import read_tensors
from ...models.checkpoint import Model
from ...networks.group_network import GroupReconstructor

CONVERT = (
    "import dataclasses, torch; torch.save({'state_dict': model.state_dict(), 'hyper_parameters': {'model_config': "
    "dataclasses.asdict(model_config), 'data_config': dataclasses.asdict(data_config)}}, 'weights.ckpt')"
)
"""What turns a network in PtychoPINN's memory into a file that can be read without running code from it."""
NEUTRAL: dict[str, tuple[Any, str]] = {
    "architecture": ("cnn", "its layers are not published in enough detail"),
    "cnn_output_mode": ("amp_phase", "where its output is bounded is not published"),
    "use_shared_decoder": (False, "its layers are not published in enough detail"),
    "use_legacy_decoder_channel_override": (False, "its border is added in another way"),
    "cbam_bottleneck": (False, "where it acts is not published"),
}
"""Settings of the network that only one value of can be predicted with, and the reason."""
ACTIVATIONS: dict[str, Any] = dict.fromkeys(("silu", "SiLU", "swish"), "silu") | {
    name: name for name in ("sigmoid", "softplus", "relu")
}
"""Our name of each ``amp_activation``."""
COUNTS_SCALE = 0.5
"""Root mean square of the counts that PtychoPINN's networks see in its count-intensity contract, per pattern."""
ROOT = "autoencoder."
"""Beginning of the names of the weights that predict; the others belong to PtychoPINN's forward model."""
SIZE_OF_DEPTH = {3: 64, 4: 128, 5: 256}
"""Side of the patterns by the number of encoder blocks, px."""
DEAD_ATTENTION = ("cbam_decoder", "eca_decoder", "spatial_decoder")
"""Attention that is built, but not called."""
BATCH_NORM_EPS = 1e-5


def is_reference_checkpoint(path: Path) -> bool:
    """Return True for a checkpoint of PtychoPINN's torch backend that holds plain data, or the folder of a run."""
    if path.is_dir():
        return True
    try:
        content = _load_tensors(path)
    except (ValueError, OSError):
        return False
    weights = content.get("state_dict") if isinstance(content, Mapping) else None
    return isinstance(weights, Mapping) and any(ROOT in name for name in weights)


def read_reference_model(path: Path) -> Model:
    """Read a network of PtychoPINN; runs no code from the file.

    Args:
        path: a Lightning checkpoint, or the folder of an MLflow run that holds one.

    Raises:
        FileNotFoundError: if no checkpoint is found.
        ValueError: if it is damaged, holds pickled objects, is a TensorFlow archive, or is a network that cannot be
            predicted with; the message says what to do in PtychoPINN.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} not found: check the path")
    if path.is_dir():
        return _model_of_run(path)
    if path.name.endswith(".h5.zip") or (path.suffix == ".h5"):
        raise ValueError(_archive_message(path))
    content = _load_tensors(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        raise ValueError(f"{path} holds no state_dict: expected a Lightning checkpoint of PtychoPINN")
    hyper_parameters = content.get("hyper_parameters")
    return model_of(content["state_dict"], hyper_parameters if isinstance(hyper_parameters, Mapping) else {}, path)


def model_of(weights: Mapping[str, Tensor], hyper_parameters: Mapping[str, Any], path: Path) -> Model:
    """Build the network that weights belong to.

    Args:
        weights: state dict of PtychoPINN's module.
        hyper_parameters: its settings, ``model_config`` and ``data_config`` among them.
        path: of the file, for messages.

    Raises:
        ValueError: if the network cannot be predicted with.
    """
    sections = {
        name: dict(value)
        for name, value in hyper_parameters.items()
        if name.endswith("_config") and isinstance(value, Mapping)
    }
    settings, data = sections.get("model_config", {}), sections.get("data_config", {})
    _check_settings(hyper_parameters, settings, path)
    own = {name.partition(ROOT)[2]: value for name, value in weights.items() if ROOT in name}
    if not all(isinstance(value, Tensor) for value in own.values()):
        raise ValueError(f"{path} holds weights that are not tensors: copy it again")
    if not own:
        raise ValueError(f"{path} holds no weights named {ROOT}*: expected a network of PtychoPINN's torch backend")
    try:
        found = _network_settings(own, settings, data)
        size = int(data.get("N") or SIZE_OF_DEPTH.get(found.depth, 0))
        network, renamed = GroupReconstructor(found, size), _rename(own, settings)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} cannot be imported: {reason}") from None
    _load_weights(network, renamed, path)
    if network.settings.input == "counts":
        network.input_scale.fill_(COUNTS_SCALE)
    metadata = {"imported": {"program": "PtychoPINN", "file": path.name, "settings": json.loads(_as_json(sections))}}
    return Model(network.eval(), size, metadata)


def _as_json(sections: Mapping[str, Any]) -> str:
    """Return settings as JSON; tensors among them, such as a probe mask, become text."""
    return json.dumps(sections, default=str)


def _check_settings(hyper_parameters: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> None:
    """Refuse settings that change the prediction in a way that is not known."""
    problems = [
        f"{name} {settings[name]!r} ({reason})"
        for name, (accepted, reason) in NEUTRAL.items()
        if settings.get(name, accepted) != accepted
    ]
    if settings and "cnn_output_mode" not in settings:
        problems.append("a version before July 2026, whose border is added over the whole patch")
    if settings.get("eca_encoder") and settings.get("cbam_encoder"):
        problems.append("eca_encoder with cbam_encoder (the order of the two is not published)")
    if (mode := hyper_parameters.get("parity_scale_mode", "off")) != "off":
        problems.append(f"parity_scale_mode {mode!r} (how it scales the input is not published)")
    if settings.get("amp_activation", "silu") not in ACTIVATIONS:
        problems.append(f"amp_activation {settings['amp_activation']!r} (expected one of {', '.join(ACTIVATIONS)})")
    if problems:
        raise ValueError(
            f"{path} cannot be imported: {'; '.join(problems)}. Save what it predicts in PtychoPINN instead, and "
            "compare reconstructions"
        )


def _network_settings(own: Mapping[str, Tensor], settings: Mapping[str, Any], data: Mapping[str, Any]) -> Network:
    """Return the settings of our network with these layers."""
    first = own["encoder.blocks.0.conv1.weight"]
    depth = len(_blocks(own, "encoder.blocks."))
    patterns, images = first.shape[1], own["decoder_phase.phase.conv1.weight"].shape[0]
    if images != patterns or own["decoder_amp.amp.conv1.weight"].shape[0] != patterns:
        raise ValueError(
            f"it makes {images} phases and {own['decoder_amp.amp.conv1.weight'].shape[0]} amplitudes of groups of "
            f"{patterns} patterns: expected as many of each"
        )
    return Network(
        architecture="cnn",
        input="amplitude" if data.get("measurement_domain") == "normalized_amplitude" else "counts",
        output="patches" if patterns > 1 else "canvas",
        head="polar",
        amplitude_activation=ACTIVATIONS[settings.get("amp_activation", "silu")],
        group_size=patterns,
        base_channels=first.shape[0],
        depth=depth,
        attention=bool(settings.get("cbam_encoder")),
    )


def _rename(own: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights under the names of our network.

    Raises:
        ValueError: if a weight has no counterpart.
    """
    remaining = dict(own)
    renamed: dict[str, Tensor] = {}
    for block in _blocks(own, "encoder.blocks."):
        theirs, ours = f"encoder.blocks.{block}.", f"encoders.{block}."
        renamed |= _move_convolutions(remaining, theirs, ours)
        others = _take(remaining, theirs)
        if settings.get("cbam_encoder"):
            renamed |= {f"{ours}attention.{name}": value for name, value in _attention_gates(others).items()}
        elif not settings.get("eca_encoder"):  # built, but called with CBAM only
            remaining |= others
    for number, part in enumerate(("amp", "phase")):
        renamed |= _rename_decoder(own, remaining, settings, number, part)
    if remaining:
        raise ValueError(f"weights without counterpart: {', '.join(remaining)}")
    return {f"backbones.0.{name}": value for name, value in renamed.items()}


def _rename_decoder(
    own: Mapping[str, Tensor], remaining: dict[str, Tensor], settings: Mapping[str, Any], number: int, part: str
) -> dict[str, Tensor]:
    """Return the weights of one decoder under our names; take them from ``remaining``."""
    theirs, ours = f"decoder_{part}.", f"decoders.{number}."
    renamed: dict[str, Tensor] = {}
    for block in _blocks(own, f"{theirs}blocks."):
        convolutions = _move_convolutions(remaining, f"{theirs}blocks.{block}.", f"{ours}blocks.{block}.")
        others = _take(remaining, f"{theirs}blocks.{block}.")
        _fold_batch_norm(convolutions, others)
        renamed |= convolutions
        if not any(settings.get(name) for name in DEAD_ATTENTION):
            remaining |= others
    head = f"{theirs}{part}."
    renamed |= _move(remaining, f"{head}conv1", f"{ours}centre")
    if settings.get("probe_big", True):
        renamed |= _move_convolutions(remaining, f"{head}conv_up_block.", f"{ours}border_block.")
        return renamed | _move(remaining, f"{head}conv2", f"{ours}border")
    _take(remaining, head)  # built, but not called
    return renamed | _without_border(ours, *renamed[f"{ours}centre.weight"].shape[:2])


def _without_border(ours: str, images: int, features: int) -> dict[str, Tensor]:
    """Return weights with which the border of a decoder is 0.

    Args:
        ours: name of the decoder.
        images: that it makes.
        features: channels that make their centre; the border has ``images`` more.
    """
    last = images + features
    shapes = {
        "border_block.conv1": (last, images),
        "border_block.conv2": (last, last),
        "border": (images, last),
    }
    weights = {f"{ours}{name}.weight": torch.zeros(*shape, 3, 3) for name, shape in shapes.items()}
    return weights | {f"{ours}{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}


def _attention_gates(others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the gates of an attention layer (CBAM), recognised by their shapes."""
    weights = {name: value for name, value in others.items() if value.ndim >= 2}
    kernels = [value for value in weights.values() if value.ndim == 4 and value.shape[-1] > 1]
    layers = [(name, value) for name, value in weights.items() if value[0, 0].numel() == 1]
    if len(layers) != 2 or len(kernels) != 1 or len(others) != 5:
        raise ValueError(f"expected two layers with biases and a kernel in the attention, got {', '.join(others)}")
    layers.sort(key=lambda layer: layer[1].shape[0])
    gates = {"spatial_gate.weight": kernels[0]}
    for place, (name, weight) in zip((0, 2), layers, strict=True):
        gates[f"channel_gate.{place}.weight"] = weight.reshape(*weight.shape[:2], 1, 1)
        gates[f"channel_gate.{place}.bias"] = others[name.removesuffix("weight") + "bias"]
    return gates


def _move(remaining: dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """Take a layer's weight and bias from ``remaining``; return them under our name."""
    return {f"{ours}.{kind}": remaining.pop(f"{theirs}.{kind}") for kind in ("weight", "bias")}


def _move_convolutions(remaining: dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """Take the two convolutions of a block from ``remaining``; return them under our names."""
    return _move(remaining, f"{theirs}conv1", f"{ours}conv1") | _move(remaining, f"{theirs}conv2", f"{ours}conv2")


def _take(remaining: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take everything under a prefix from ``remaining``."""
    return {name: remaining.pop(name) for name in [*remaining] if name.startswith(prefix)}


def _fold_batch_norm(convolutions: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    """Fold batch normalisations between a convolution and its rectifier into the convolution; take them from others.

    ASSUME the first normalisation of a block follows its first convolution. A normalisation after the rectifier has
    seen positive values only, which its running mean tells.
    """
    norms = [name.removesuffix("running_mean") for name in others if name.endswith("running_mean")]
    layers = [name.removesuffix("weight") for name in convolutions if name.endswith("weight")]
    for norm, layer in zip(norms, layers, strict=False):
        parts = {name.removeprefix(norm): value for name, value in _take(others, norm).items()}
        mean, variance = parts["running_mean"], parts["running_var"]
        if bool((mean >= 0).all()) and bool((mean > 0).any()):
            raise ValueError(f"{norm} normalises rectified features (no running mean is negative), which does not fit")
        scale = parts["weight"] / (variance + BATCH_NORM_EPS).sqrt()
        convolutions[f"{layer}weight"] = convolutions[f"{layer}weight"] * scale[:, None, None, None]
        convolutions[f"{layer}bias"] = (convolutions[f"{layer}bias"] - mean) * scale + parts["bias"]


def _blocks(own: Mapping[str, Tensor], prefix: str) -> list[int]:
    """Return the numbers of the blocks under a prefix, in order."""
    found = (re.match(re.escape(prefix) + r"(\d+)\.conv1\.weight$", name) for name in own)
    return sorted(int(match[1]) for match in found if match)


def _load_weights(network: GroupReconstructor, renamed: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict({"input_scale": network.input_scale, **renamed})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path} cannot be imported: its layers are not those of the published CNN ({reason})"
        ) from None


def _load_tensors(path: Path) -> Any:
    try:
        return read_tensors(path)
    except ValueError as error:
        if "UnpicklingError" not in str(error):
            raise
        raise ValueError(
            f"{path} holds pickled objects, which run code when they are opened: load it in PtychoPINN and save it as "
            f"plain data there: {CONVERT}"
        ) from None


def _archive_message(path: Path) -> str:
    """Return why a model archive of PtychoPINN is not read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return f"{path} is not a ZIP archive or is truncated: copy it again"
    if any(name.endswith((".pth", ".pt", ".ckpt")) for name in names):
        return (
            f"{path} lists its models in a pickled manifest, which runs code when it is opened: load it in PtychoPINN "
            f"and save the torch network as plain data there: {CONVERT}"
        )
    return (
        f"{path} holds networks of TensorFlow with a pickled manifest, which runs code when it is opened; their layers "
        "differ from those of the torch backend. Train the torch backend of PtychoPINN, or ptychoflow, on the same data"
    )


def _model_of_run(folder: Path) -> Model:
    """Read the network of an MLflow run's folder: the newest checkpoint below it that holds plain data."""
    candidates = [
        path for pattern in ("*.ckpt", "*.pt", "*.pth") for path in sorted(folder.rglob(pattern)) if path.is_file()
    ]
    if not candidates:
        raise FileNotFoundError(
            f"no checkpoint (.ckpt, .pt, .pth) in {folder}: give a checkpoint, or an MLflow run with its artifacts"
        )
    problems = []
    for path in sorted(candidates, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            content = _load_tensors(path)
            if not isinstance(content, Mapping):
                raise ValueError(f"{path} holds no state_dict")
            weights = content.get("state_dict", content)
            recorded = content.get("hyper_parameters")
            return model_of(weights, recorded if isinstance(recorded, Mapping) else _recorded_settings(folder), path)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError("; ".join(dict.fromkeys(problems)))


def _recorded_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that PtychoPINN logged as parameters of a run, ``ModelConfig_params`` and the like."""
    return {name: settings for path in sorted(folder.rglob("*Config_params")) for name, settings in _section(path)}


def _section(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        settings = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        return
    if isinstance(settings, dict):
        yield f"{path.name.removesuffix('Config_params').lower()}_config", settings
