"""Loading and validation of configs from files and plain data, every error in one readable line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..core.suggestions import did_you_mean
from .base import ConfigError, Section
from .root import IN_ONE, OTHER_COMMANDS, READS, Config
from .scans import Source
from .training import Shorthand, Training
from .unique_keys import load_yaml


def load_config(source: Path | str | dict) -> Config:
    """Validate a config from a YAML file or plain data.

    Raises:
        FileNotFoundError: if the file does not exist.
        ConfigError: naming every mistake: unknown keys with the nearest known one, wrong types, missing scans.
    """
    raw = source
    if not isinstance(source, dict):
        if not Path(source).is_file():
            raise FileNotFoundError(f"config not found: {source}")
        raw = read_yaml(Path(source))
    return validate(Config, raw)


def read_yaml(path: Path) -> Any:
    """Read the plain data in a YAML file.

    Raises:
        ConfigError: if it is not YAML, or a key stands twice in a section.
    """
    try:
        return load_yaml(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not YAML ({error}): save it as UTF-8") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def validate(schema: type[Section], data: Any, where: str = "") -> Any:
    """Validate plain data as a section.

    Args:
        schema: class of the section.
        data: plain data, from YAML or JSON.
        where: prefix of the keys in messages, such as ``training.``.

    Raises:
        ConfigError: naming in one line each key, what was expected and what was found.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        raise ConfigError("config: " + "; ".join(where + _explain(schema, e) for e in error.errors())) from None


def step_sections(step: str, data: dict) -> dict[str, Section]:
    """Return the sections that a step reads, from the JSON that its rule passes; defaults for what is missing.

    Raises:
        ConfigError: for a section that the step does not read, or an invalid one.
    """
    names = (READS | IN_ONE | OTHER_COMMANDS)[step]
    known: dict[str, Any] = {
        name: Config.model_fields[name].annotation if name != "source" else Source for name in names
    }
    for name in data:
        if name not in known:
            raise ConfigError(
                f"config: {step} reads {', '.join(known) or 'no settings'}, not {name}{_home(name, known)}"
            )
    return {name: validate(schema, data.get(name, {}), f"{name}.") for name, schema in known.items()}


def _home(name: str, sections: dict[str, type[Section]]) -> str:
    """Return a hint for a name that is not a section of a step: the section that has such a setting."""
    if name in ("title", "scans", "methods", "sweeps"):
        return ": that is the config of a whole run, give the sections of this step alone"
    return next(
        (f": did you mean {key}.{name}?" for key, schema in sections.items() if name in schema.model_fields), ""
    )


def _explain(schema: type[Section], error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"] if not str(part).startswith(("function-", "constrained-")))
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key{did_you_mean(str(error['loc'][-1]), _known_keys(schema, error['loc'][:-1]))}"
    if error["type"] == "value_error":
        text = str(error["ctx"]["error"])
        return f"{where}: {text}" if where else text
    if error["type"] == "missing":
        return f"{where}: missing, it has no default"
    return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _known_keys(schema: type[Section], path: tuple) -> list[str]:
    """Return the keys allowed at a place of the config; those of the last known section below an unknown one."""
    for part in path:
        if isinstance(schema, type) and issubclass(schema, Section) and part in schema.model_fields:
            schema = _section_in(schema.model_fields[part].annotation) or schema
    return [*schema.model_fields, *(Shorthand.model_fields if schema is Training else ())]


def _section_in(annotation: Any) -> type[Section] | None:
    """Return the section class inside ``X | None``, ``dict[str, X]``, ``tuple[X, ...]`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_in, getattr(annotation, "__args__", ()))), None)
