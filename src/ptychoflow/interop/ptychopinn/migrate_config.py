"""Migration of a PtychoPINN configuration file to a config of ours."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ...config import NAME, ConfigError, load_config
from .config_translation import SECTIONS, Sections, from_legacy, from_reference_json, from_tensorflow
from .flat_config import TORCH_SECTIONS, read_reference_file, tensorflow_names

HEADER = """# Migrated from {source}; what it leaves unsaid has PtychoPINN's default, not ours.
# `ptychoflow config explain KEY` tells more.
"""
IGNORED = "# Ignored on request: {names}\n"


def migrate(source: Path, ignore: Iterable[str] = ()) -> str:
    """Return the YAML text of a config with the settings of a PtychoPINN file, and the defaults for what it leaves out.

    Its data become scans to train on and to reconstruct; without data, scans are simulated. Comments name what has no
    effect in PtychoPINN either, and defaults that have no counterpart here.

    Args:
        source: a profile, TensorFlow config or legacy dictionary, in JSON or YAML.
        ignore: fields to drop on purpose.

    Raises:
        FileNotFoundError: if the file is missing.
        ConfigError: if it is none of these, or has fields without counterpart; each is named with the reason.
    """
    ignore = tuple(ignore)
    notes: list[str] = []
    sections = _read(Path(source), ignore, notes)
    arguments = sections.pop("arguments", {})
    config = _entries(arguments) | {name: section for name, section in sections.items() if name in SECTIONS}
    load_config(config)
    note = IGNORED.format(names=", ".join(ignore)) if ignore else ""
    note += "".join(f"# Left out: {' '.join(line.split())}\n" for line in notes)
    return HEADER.format(source=Path(source).name) + note + yaml.safe_dump(_plain(config), sort_keys=False)


def _read(source: Path, ignore: tuple[str, ...], notes: list[str]) -> Sections:
    data = read_reference_file(source)
    if not isinstance(data, dict):
        raise ConfigError(f"{source} holds {type(data).__name__}, expected a profile, a TensorFlow or a legacy config")
    if set(data) & set(TORCH_SECTIONS):
        return from_reference_json(source, ignore, complete=True, notes=notes)
    nested = isinstance(data.get("model"), Mapping)
    fields = set(tensorflow_names("training")) | set(tensorflow_names("inference"))
    translate = from_tensorflow if nested or set(data) <= fields else from_legacy
    return translate(data, ignore, complete=True, notes=notes)


def _entries(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return title, scans and methods for the data that a file names."""
    train, test = (arguments.get(name) for name in ("train_data", "test_data"))
    if train:
        scans: dict[str, Any] = {"training": {"source": {"file": str(train)}}}
    else:
        objects = int(arguments.get("objects", 1))
        scans = {f"training{n + 1}": {"simulation": {"seed": n + 1}} for n in range(objects)}
    to_train_on = [*scans]
    if test or not train:
        seed = len(scans) + 1
        scans["held_out"] = {"source": {"file": str(test)}} if test else {"simulation": {"seed": seed}}
    name = str(arguments.get("model_name", "pinn"))
    if not NAME.fullmatch(name):
        raise ConfigError(f"model_name {name!r}: expected letters, digits, - and _, because files are named so")
    title = {"title": arguments["notes"]} if arguments.get("notes") else {}
    return title | {"scans": scans, "methods": {name: {"train_on": to_train_on, "reconstruct": [[*scans][-1]]}}}


def _plain(value: Any) -> Any:
    """Replace tuples by lists, for YAML."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
