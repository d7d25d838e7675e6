"""Checkpoint of a trained network: tensors and plain data, so that reading it runs no code from the file."""

import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import Network, validate
from ..core.scan import Scan, check_scan_extent
from ..io.metadata import check_metadata
from ..io.regular_file import check_regular
from ..io.tensor_file import all_finite, check_checksum, read_tensors, write_tensors
from ..networks.group_network import GroupReconstructor
from ..networks.object_network import ObjectCorrector

FORMAT = 4
"""Also raised when the same weights would give another result: since 2 back-projection has Nesterov momentum."""
LARGEST_SIZE = 1 << 14
"""Largest side of a pattern, px."""


@dataclass(frozen=True)
class Model:
    """A trained network with the size of its patterns and the record of its training.

    Attributes:
        network: network with its weights and input normalisation.
        size: side of the patterns, px.
        metadata: config, checksums of the training data and code version: plain data.
    """

    network: GroupReconstructor | ObjectCorrector
    size: int
    metadata: dict

    def check(self, scan: Scan) -> None:
        """Refuse a scan that the network cannot reconstruct.

        Raises:
            ValueError: if its patterns have another size, or all positions are the same.
        """
        if scan.size != self.size:
            crop = f"pack the scan with packing.crop {self.size}, or " if scan.size > self.size else ""
            raise ValueError(
                f"the model was trained on patterns of {self.size} px, {scan.name} has {scan.size} px: {crop}train on "
                f"patterns of {scan.size} px"
            )
        check_scan_extent(scan)


def write_model(path: Path, model: Model) -> None:
    """Write a network atomically, as tensors and plain data only."""
    write_tensors(path, content_of(model))


def read_model(path: Path) -> Model:
    """Read a network that :func:`write_model` wrote; runs no code from the file.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged, another program's or of another format.
    """
    path = Path(path)
    check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"model not found: {path}: train one first")
    try:
        content = read_tensors(path)
    except ValueError as error:
        reason = textwrap.shorten(str(error), 200)
        raise ValueError(f"{path} is not a ptychoflow checkpoint or is truncated: train it again ({reason})") from None
    model = model_from(content, path)
    try:
        check_checksum(content, path)
    except ValueError as error:
        raise ValueError(f"{error}: copy it again, or train the model again") from None
    return model


def content_of(model: Model) -> dict:
    """Return a network as plain data and, under ``weights``, tensors on the CPU."""
    return {
        "format": FORMAT,
        "network": model.network.settings.model_dump(mode="json"),
        "window": model.network.window,
        "size": model.size,
        "weights": {name: value.detach().cpu() for name, value in model.network.state_dict().items()},
        "metadata": model.metadata,
    }


def model_from(content: object, path: Path) -> Model:
    """Build the network from its :func:`content_of`.

    Args:
        content: content of the file.
        path: the file, for messages.

    Raises:
        ValueError: if it is of another format, or its weights belong to another network.
    """
    version = content.get("format") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(version, int):
        interrupted = isinstance(content, dict) and "optimizer_states" in content
        origin = "the state of an interrupted training" if interrupted else "another program's"
        if isinstance(content, dict) and any("autoencoder." in name for name in content.get("state_dict", ())):
            raise ValueError(
                f"{path} is not a ptychoflow checkpoint but one of PtychoPINN: translate it with ptychoflow import"
            )
        raise ValueError(
            f"{path} is not a ptychoflow checkpoint but {origin}: give the checkpoint that train wrote at its end"
        )
    if version != FORMAT:
        remedy = "upgrade ptychoflow" if version > FORMAT else "train the model again"
        raise ValueError(f"{path} is in format {version}, this version reads {FORMAT}: {remedy}")
    try:
        check_metadata(content["metadata"], "the model")
        return Model(_network_of(content).eval(), int(content["size"]), content["metadata"])
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = textwrap.shorten(str(error), 200)
        raise ValueError(f"{path} does not hold the network it names ({reason}): train the model again") from None


def _network_of(content: dict) -> GroupReconstructor | ObjectCorrector:
    """Build the network from its settings and weights, at the cost of the weights that there are."""
    settings, window, size = validate(Network, content["network"]), int(content["window"]), int(content["size"])
    if not 0 < window <= size <= LARGEST_SIZE:
        raise ValueError(f"window of {window} px, expected 1 to {min(size, LARGEST_SIZE)}")
    build = ObjectCorrector if settings.input == "object_estimate" else GroupReconstructor
    weights = content["weights"]
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nothing is copied to tensors without memory
        claimed = build(settings, window)
        claimed.load_state_dict(weights)
    for name, tensor in claimed.state_dict().items():
        if weights[name].dtype != tensor.dtype:
            raise ValueError(f"{name} is {weights[name].dtype}, expected {tensor.dtype}")
        if not all_finite(weights[name]):
            raise ValueError(f"{name} holds NaN or infinity")
    network = build(settings, window)
    network.load_state_dict(weights)
    return network
