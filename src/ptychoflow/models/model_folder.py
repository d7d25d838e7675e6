"""Folder of a trained network: weights, readable config, and a checksum of each."""

from pathlib import Path

import torch
import yaml

from .. import __version__
from ..io.atomic import atomic_dir, write_json
from ..io.json_file import read_json
from ..io.provenance import sha256
from ..io.regular_file import check_regular, read_text
from ..io.tensor_file import read_tensors
from .checkpoint import Model, content_of, model_from

LARGEST_CONFIG = 1 << 24
"""Greatest length of the config, bytes."""
WEIGHTS, CONFIG, CHECKSUMS = "weights.pt", "config.yaml", "checksums.json"


def write_model_folder(folder: Path, model: Model) -> None:
    """Write a network atomically: its state dict to ``weights.pt``, everything else to ``config.yaml``."""
    content = content_of(model)
    with atomic_dir(folder, (WEIGHTS, CONFIG, CHECKSUMS)) as partial:
        with (partial / WEIGHTS).open("wb") as file:
            torch.save(content.pop("weights"), file)
        text = yaml.dump(content | {"ptychoflow": __version__}, Dumper=_PlainDumper, sort_keys=False)
        (partial / CONFIG).write_text(text)
        write_json(partial / CHECKSUMS, {name: sha256(partial / name) for name in (WEIGHTS, CONFIG)})


def read_model_folder(folder: Path) -> Model:
    """Read a network that :func:`write_model_folder` wrote; runs no code from it.

    Raises:
        FileNotFoundError: if the folder holds none.
        ValueError: if a file is missing or was altered, a newer version wrote it, or the weights are another network's.
    """
    folder = Path(folder)
    check_regular(folder / CHECKSUMS)
    if not (folder / CHECKSUMS).is_file():
        raise FileNotFoundError(f"model not found: {folder} holds no {CHECKSUMS}")
    expected = read_json(folder / CHECKSUMS)
    for name in (WEIGHTS, CONFIG):
        check_regular(folder / name)
        if not (folder / name).is_file():
            raise ValueError(f"{folder}/{name} is missing: save the model again")
        if sha256(folder / name) != expected.get(name):
            raise ValueError(f"{folder}/{name} was altered since it was saved (checksum): save the model again")
    try:
        content = yaml.load(read_text(folder / CONFIG, LARGEST_CONFIG), _PlainLoader)
        weights = read_tensors(folder / WEIGHTS)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder} does not hold a readable model ({reason}): save the model again") from None
    return model_from(content | {"weights": weights} if isinstance(content, dict) else content, folder)


class _PlainDumper(yaml.SafeDumper):
    """Writes repeated data again: with aliases a small file could stand for a huge one."""

    def ignore_aliases(self, data: object) -> bool:
        """Return True: write every part in full."""
        return True


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases."""

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        """Return the next node; raise YAMLError for an alias."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("an alias, expected plain data")
        return super().compose_node(parent, index)
