"""Folder of a trained network: weights, readable config, and a checksum of each."""

import pickle
from pathlib import Path

import torch
import yaml

from .. import __version__
from ..io.atomic import atomic_dir, read_json, write_json
from ..io.provenance import sha256
from .checkpoint import Model, content_of, model_from

WEIGHTS, CONFIG, CHECKSUMS = "weights.pt", "config.yaml", "checksums.json"


def write_model_folder(folder: Path, model: Model) -> None:
    """Write a network atomically: its state dict to ``weights.pt``, everything else to ``config.yaml``."""
    content = content_of(model)
    with atomic_dir(folder, (WEIGHTS, CONFIG, CHECKSUMS)) as partial:
        with (partial / WEIGHTS).open("wb") as file:
            torch.save(content.pop("weights"), file)
        text = yaml.safe_dump(content | {"ptychoflow": __version__}, sort_keys=False)
        (partial / CONFIG).write_text(text)
        write_json(partial / CHECKSUMS, {name: sha256(partial / name) for name in (WEIGHTS, CONFIG)})


def read_model_folder(folder: Path) -> Model:
    """Read a network that :func:`write_model_folder` wrote; runs no code from it.

    Raises:
        FileNotFoundError: if the folder holds none.
        ValueError: if a file is missing or was altered, a newer version wrote it, or the weights are another network's.
    """
    folder = Path(folder)
    if not (folder / CHECKSUMS).is_file():
        raise FileNotFoundError(f"model not found: {folder} holds no {CHECKSUMS}")
    expected = read_json(folder / CHECKSUMS)
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}/{name} is missing: save the model again")
        if sha256(folder / name) != expected.get(name):
            raise ValueError(f"{folder}/{name} was altered since it was saved (checksum): save the model again")
    try:
        content = yaml.safe_load((folder / CONFIG).read_text())
        weights = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True)
    except (yaml.YAMLError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder} does not hold a readable model ({reason}): save the model again") from None
    return model_from(content | {"weights": weights} if isinstance(content, dict) else content, folder)
