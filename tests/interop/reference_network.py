"""Checkpoints as PtychoPINN's torch backend writes them, with random weights."""

from pathlib import Path

import torch

WIDTHS = {64: (32, 64, 128), 128: (16, 32, 64, 128), 256: (8, 16, 32, 64, 128)}
MODEL_CONFIG = {"architecture": "cnn", "cnn_output_mode": "amp_phase", "amp_activation": "silu", "probe_big": True}


def reference_weights(size=64, patterns=1, scale=1, attention=False, norm=False) -> dict[str, torch.Tensor]:
    """Random weights under the names and in the shapes of PtychoPINN's CNN."""
    rng = torch.Generator().manual_seed(3)
    weights: dict[str, torch.Tensor] = {}

    def conv(name: str, before: int, after: int) -> None:
        spread = (9 * before) ** -0.5
        weights[f"model.autoencoder.{name}.weight"] = torch.randn(after, before, 3, 3, generator=rng) * spread
        weights[f"model.autoencoder.{name}.bias"] = torch.randn(after, generator=rng) * 0.1

    before = patterns
    for block, width in enumerate(WIDTHS[size]):
        name = f"encoder.blocks.{block}"
        conv(f"{name}.conv1", before, before := width * scale)
        conv(f"{name}.conv2", before, before)
        if attention:
            hidden, gate = before // 16, f"model.autoencoder.{name}.cbam"
            weights[f"{gate}.channel.mlp.0.weight"] = torch.randn(hidden, before, generator=rng)
            weights[f"{gate}.channel.mlp.0.bias"] = torch.randn(hidden, generator=rng)
            weights[f"{gate}.channel.mlp.2.weight"] = torch.randn(before, hidden, generator=rng)
            weights[f"{gate}.channel.mlp.2.bias"] = torch.randn(before, generator=rng)
            weights[f"{gate}.spatial.conv.weight"] = torch.randn(1, 2, 7, 7, generator=rng) * 0.1
    for part in ("amp", "phase"):
        before, width = 128 * scale, 32 * scale
        for block, level in enumerate(reversed(range(len(WIDTHS[size]) - 1))):
            name = f"decoder_{part}.blocks.{block}"
            conv(f"{name}.conv1", before, before := width * 2**level)
            conv(f"{name}.conv2", before, before)
            if norm and part == "phase":
                for number in (1, 2):
                    stem = f"model.autoencoder.{name}.bn{number}."
                    weights[f"{stem}weight"] = 1 + 0.2 * torch.randn(before, generator=rng)
                    weights[f"{stem}bias"] = 0.1 * torch.randn(before, generator=rng)
                    weights[f"{stem}running_mean"] = 0.1 * torch.randn(before, generator=rng)
                    weights[f"{stem}running_var"] = 0.5 + torch.rand(before, generator=rng)
                    weights[f"{stem}num_batches_tracked"] = torch.tensor(4)
        head = f"decoder_{part}.{part}"
        conv(f"{head}.conv1", width - patterns, patterns)
        conv(f"{head}.conv_up_block.conv1", patterns, width)
        conv(f"{head}.conv_up_block.conv2", width, width)
        conv(f"{head}.conv2", width, patterns)
    return weights | {"model.forward_model.alpha": torch.ones(1), "model.forward_model.rect_scaler.s1": torch.ones(1)}


def write_reference_checkpoint(path: Path, weights: dict, size=64, patterns=1, **model_config) -> Path:
    settings = MODEL_CONFIG | {"C_model": patterns} | model_config
    hyper_parameters = {"model_config": settings, "data_config": {"N": size, "C": patterns}}
    torch.save({"state_dict": weights, "hyper_parameters": hyper_parameters}, path)
    return path
