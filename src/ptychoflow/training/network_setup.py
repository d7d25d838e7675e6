"""The network that a training starts from: fresh, or from a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ..config import Network, Training
from ..core.scan import Scan
from ..data.datamodule import TrainingData
from ..models.checkpoint import read_model
from ..networks.group_network import GroupReconstructor, window_side
from ..networks.object_network import ObjectCorrector
from ..physics.forward_model import intensity, shift_probe


def build_network(network: Network, training: Training, data: TrainingData) -> GroupReconstructor | ObjectCorrector:
    """Build a fresh network: weights from the seed, window and normalisation from the first groups of the data.

    Args:
        network: architecture, size, input and output.
        training: seed.
        data: to train on.

    Raises:
        ValueError: if patterns are too small for the network.
    """
    rows = data.sampler().rows()[:256, : 1 + network.group_size]
    batch = data.batch(rows)
    with torch.random.fork_rng(devices=[]):  # the network is made on the CPU
        torch.manual_seed(training.seed)
        if batch.features is not None:
            corrector = ObjectCorrector(network, batch.features.shape[-1])
            corrector.normalise(batch.features)
            return corrector
        probes = shift_probe(batch.probe[:, None], batch.relative)
        reconstructor = GroupReconstructor(network, window_side(network, intensity(probes).sum((1, 2))))
    reconstructor.normalise(batch.counts, probes, batch.mask, batch.propagators())
    return reconstructor


def pretrained_network(start: Path, network: Network, scans: Sequence[Scan]) -> GroupReconstructor | ObjectCorrector:
    """Read the network of a checkpoint to continue its training.

    Args:
        start: the checkpoint.
        network: settings; those that are set must be those of the checkpoint.
        scans: to train on.

    Raises:
        FileNotFoundError: if the checkpoint is missing.
        ValueError: if it has other settings or was trained on patterns of another size.
    """
    model = read_model(start)
    for name in network.model_fields_set:
        expected, actual = getattr(network, name), getattr(model.network.settings, name)
        if expected != actual:
            raise ValueError(f"network.{name} is {expected}, but {start} was trained with {actual}: remove it")
    if model.size != scans[0].size:
        raise ValueError(
            f"{start} was trained on patterns of {model.size} px, {scans[0].name} has {scans[0].size} px: pack the "
            f"scan with packing.crop {model.size}"
        )
    return model.network.train()
