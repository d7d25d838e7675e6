"""PtychoPINN's configs as flat dictionaries: whole TensorFlow configs, its torch bridge, its legacy keys."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ...config import ConfigError
from ...config.unique_keys import load_json, load_yaml
from ...core.suggestions import did_you_mean
from .field_map import ROWS, Name, Row
from .value_codecs import tuples

KINDS = ("training", "inference")
TORCH_SECTIONS = tuple(f"{name}_config" for name in ("data", "model", "training", "inference", "datagen"))
GROUPS_WITHOUT_WISH = 512
"""PtychoPINN's default of ``n_groups`` in TrainingConfig."""
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
FOLLOWING_GROUPS = (
    "data_config.grid_size",
    "model_config.C_model",
    "model_config.C_forward",
    "model_config.object_big",
)
"""Fields that follow from ``C`` in a profile."""
WITHOUT_RESULT = (
    *(f"training_config.{field}" for field in ("device", "n_devices", "num_workers", "experiment_name", "output_dir")),
    *("training_config.model_name", "training_config.notes", "inference_config.batch_size"),
    *("output_dir", "output_prefix", "label"),
)
"""Fields that change no result; our defaults stand where a file lacks them."""
NEEDED = {
    "training": ("train_data_file", "n_groups"),
    "inference": ("model_path", "test_data_file", "n_groups"),
}
"""Fields that PtychoPINN's bridge requires beside the torch configs."""

KEY_MAPPINGS: dict[str, str] = {
    row.tensorflow.field: legacy.path
    for row in ROWS
    if row.tensorflow is not None and (legacy := row.name("legacy")) and legacy.path != row.tensorflow.field
}
"""TensorFlow fields whose key in the legacy dictionary is another word."""


DIVERGENT_DEFAULTS: dict[str, str] = {
    "nphotons": "1e5 or 1e9: nobody guesses, torch_to_tensorflow wants it said",
    "gridsize": "(2, 2) or 1: neither, groups are as large as network.group_size says",
    "neighbor_count": "6 or 4: neither, as training.grouping.k_nearest says",
    "amp_activation": "silu or sigmoid: as network.amplitude_activation says, silu unless set",
    "intensity_scale_trainable": "false or true: false, counts are absolute",
}
"""TensorFlow fields whose torch default is another, and what is done about it here."""


def torch_names() -> dict[str, tuple[Row, Name]]:
    """Return rows and names of the torch fields, by ``section_config.field``."""
    return {_in_profile(row.torch.path): (row, row.torch) for row in ROWS if row.torch is not None}


def tensorflow_names(kind: str) -> dict[str, tuple[Row, Name]]:
    """Return rows and names of the fields of a TensorFlow config and of the ModelConfig in it, by field."""
    named = [(row, row.tensorflow) for row in ROWS if row.tensorflow is not None]
    return {name.field: (row, name) for row, name in named if name.place in ("model", "both", kind)}


def legacy_names() -> dict[str, tuple[Row, Name]]:
    """Return rows and names of the legacy keys; of two rows with one key, the one that names a setting of ours."""
    named = [(row, name) for row in ROWS if (name := row.name("legacy")) is not None]
    return {name.path: (row, name) for row, name in sorted(named, key=lambda pair: pair[0].ours is not None)}


def fields_of(config: Any) -> dict[str, Any]:
    """Return a config's fields by name, those of its ``model`` among them.

    Args:
        config: a dataclass or a dictionary.

    Raises:
        ConfigError: if it is neither.
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    elif isinstance(config, Mapping):
        fields = dict(config)
    else:
        raise ConfigError(f"{type(config).__name__} is not a config, expected a dataclass or a dictionary")
    model = fields.pop("model", None)
    return fields if model is None else fields | fields_of(model)


def read_reference_file(path: Path) -> Any:
    """Read a config of PtychoPINN, JSON or YAML, as plain data.

    Raises:
        FileNotFoundError: if it does not exist.
        ConfigError: if it is neither.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: check the path")
    try:
        text = path.read_text()
        return load_json(text) if text.lstrip().startswith(("{", "[")) else _numbers(load_yaml(text))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is neither JSON nor YAML: {' '.join(str(error).split())}") from None


def _numbers(data: Any) -> Any:
    """Replace text such as ``1e9``, which YAML does not take for a number, by the number."""
    if isinstance(data, dict):
        return {key: _numbers(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_numbers(value) for value in data]
    return float(data) if isinstance(data, str) and EXPONENT.fullmatch(data) else data


def torch_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return PtychoPINN's defaults of the torch fields that a profile lacks and that shape its result.

    Args:
        fields: what it has, by ``section_config.field``. The fields that follow from ``C`` are left out; ``C`` is 1
            in a profile without it.
    """
    lacking = {key: name.default for key, (_, name) in torch_names().items() if key not in fields}
    for key in (*FOLLOWING_GROUPS, *WITHOUT_RESULT):
        lacking.pop(key, None)
    if fields.keys() & {"data_config.C", "data_config.grid_size"}:
        lacking.pop("data_config.C", None)
    else:
        lacking["data_config.C"] = 1
    if "data_config.measurement_domain" in fields or "data_config.scale_contract_version" in fields:
        lacking.pop("data_config.measurement_domain", None)
        lacking.pop("data_config.scale_contract_version", None)
    return {key: default for key, default in lacking.items() if default is not None}


def other_defaults(fields: Mapping[str, Any], names: Mapping[str, tuple[Row, Name]]) -> dict[str, Any]:
    """Return PtychoPINN's defaults of the TensorFlow fields or legacy keys that a config lacks.

    Args:
        fields: what it has.
        names: all fields.
    """
    lacking = {key: name.default for key, (_, name) in names.items() if key not in fields}
    if "n_groups" in lacking:
        lacking["n_groups"] = GROUPS_WITHOUT_WISH
    return {key: value for key, value in lacking.items() if value is not None and key not in WITHOUT_RESULT}


def legacy_items(config: Any) -> dict[str, Any]:
    """Return a TensorFlow config under the keys of the legacy dictionary; None is skipped, paths become text."""
    return {
        KEY_MAPPINGS.get(field, field): str(value) if isinstance(value, Path) else value
        for field, value in fields_of(config).items()
        if value is not None
    }


def tensorflow_form(kind: str, model: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return a whole TensorFlow TrainingConfig or InferenceConfig as a dictionary, with PtychoPINN's defaults.

    Args:
        kind: ``training`` or ``inference``.
        model: fields of ModelConfig that differ from the defaults.
        **fields: the other fields that do.

    Raises:
        ConfigError: for a field that it does not have.
    """
    if kind not in KINDS:
        raise ConfigError(f"kind is {kind!r}, expected {' or '.join(KINDS)}")
    names = [name for _, name in tensorflow_names(kind).values()]
    form = {name.field: name.default for name in names if name.place != "model"}
    models = {name.field: name.default for name in names if name.place == "model"}
    for given, known in ((fields, form), (model or {}, models)):
        for field in given:
            if field not in known:
                raise ConfigError(f"{field}: no such field in the TensorFlow {kind} config{did_you_mean(field, known)}")
    form |= fields
    if kind == "training" and form["n_groups"] is None:
        form["n_groups"] = GROUPS_WITHOUT_WISH
    return form | {"model": models | dict(model or {})}


def torch_to_tensorflow(
    kind: str,
    torch: Mapping[str, Any],
    model_overrides: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a whole TensorFlow config from torch settings, by the rules of PtychoPINN's own bridge.

    Args:
        kind: ``training`` or ``inference``.
        torch: ``data_config``, ``model_config`` and so on: what differs from the torch defaults.
        model_overrides: fields of ModelConfig that go before.
        overrides: fields of the config that go before: paths, ``n_groups``, and ``nphotons`` where nobody chose one.

    Raises:
        ConfigError: for values without a counterpart, missing overrides, and the photon number where nobody chose one
            and the two defaults differ.
    """
    overrides = dict(overrides or {})
    chosen = {f"{section}.{field}": v for section, fields in torch.items() for field, v in fields_of(fields).items()}
    form: dict[str, dict[str, Any]] = {"model": {}, "other": {}}
    for field, (row, name) in tensorflow_names(kind).items():
        if row.torch is not None:
            place = form["model" if name.place == "model" else "other"]
            place[field] = _translate_to_tensorflow(row, chosen.pop(_in_profile(row.torch.path), row.torch.default))
    for key in chosen:
        if key not in torch_names():
            raise ConfigError(f"{key}: no such torch setting{did_you_mean(key, torch_names())}")
    fields = form["other"] | ({"backend": "pytorch"}) | overrides
    _check_required(kind, fields, overrides)
    return tensorflow_form(kind, form["model"] | dict(model_overrides or {}), **fields)


def _translate_to_tensorflow(row: Row, value: Any) -> Any:
    if value is None:
        return None
    assert row.torch is not None and row.tensorflow is not None
    try:
        return row.tensorflow.codec.outward(row.torch.codec.inward(tuples(value)))
    except ValueError as error:
        raise ConfigError(f"{_in_profile(row.torch.path)} {value!r}: {error}") from None


def _check_required(kind: str, fields: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    missing = [field for field in NEEDED.get(kind, ()) if fields.get(field) is None]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: missing, the TensorFlow {kind} config needs it among the overrides")
    row, torch_name = torch_names()["data_config.nphotons"]
    assert row.tensorflow is not None
    if kind == "training" and "nphotons" not in overrides and fields["nphotons"] == torch_name.default:
        raise ConfigError(
            f"nphotons stands at the torch default {torch_name.default:g}, the TensorFlow default is "
            f"{row.tensorflow.default:g}: say which one is meant with nphotons among the overrides"
        )


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries to dotted keys; lists and tuples stay whole."""
    items: dict[str, Any] = {}
    for key, value in nested.items():
        items |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return items


def nested(items: Mapping[str, Any]) -> dict[str, Any]:
    """Nest dotted keys as dictionaries, the inverse of :func:`flat`."""
    whole: dict[str, Any] = {}
    for key, value in items.items():
        *places, last = key.split(".")
        place = whole
        for name in places:
            place = place.setdefault(name, {})
        place[last] = value
    return whole


def same(one: Any, other: Any) -> bool:
    """Return True if two settings are equal; booleans and numbers differ, arrays are never equal to anything."""
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    try:
        return bool(one == other)
    except (ValueError, RuntimeError):
        return False


def covers(names: Iterable[str], key: str | None) -> bool:
    """Return True if one of ``names`` is this dotted key or a section that it lies in."""
    return key is not None and any(key == name or key.startswith(f"{name}.") for name in names)


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse to ignore an unknown field.

    Raises:
        ConfigError: with the nearest known name.
    """
    known = list(known)
    for name in names:
        if not any(covers([name], key) for key in known):
            raise ConfigError(f"{name}: unknown field to ignore{did_you_mean(name, known)}")


def _in_profile(path: str) -> str:
    """Return ``data.N`` as profiles write it: ``data_config.N``."""
    section, _, field = path.partition(".")
    return f"{section}_config.{field}"
