"""Settings of PtychoPINN taken over into ours and said in its words.

Our side is sections by name with what was said of them, ``{"training": {"learning_rate": 1e-3}}``, and ``arguments``:
what commands take as arguments (``train_data``, ``test_data``, ``model``, ``output``, ``model_name``, ``notes``). Whatever
the other side says is taken over or refused with the reason, all at once; ``leave_out`` names what to drop on purpose.
A profile holds choices only; a whole config of theirs, in which nobody chose most values, may also hold its defaults.
What is not said keeps our default.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...config import Config, ConfigError, Section, validate
from ...core.suggestions import did_you_mean
from .field_map import Name, Row
from .flat_config import (
    TORCH_SECTIONS,
    check_known,
    covers,
    fields_of,
    flat,
    legacy_items,
    legacy_names,
    nested,
    same,
    tensorflow_names,
    torch_names,
)
from .stage_shorthand import MAKES, parts_from_settings, settings_from_parts
from .value_codecs import UntranslatableError

logger = logging.getLogger(__name__)

SECTIONS_OF = {"training": ("simulation", "network", "training"), "inference": ("network", "inference", "stitching")}
"""The sections of ours that each of the TensorFlow configs speaks of."""
SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}

Sections = dict[str, dict[str, Any]]
FieldIndex = Mapping[str, tuple[Row, Name]]


def from_reference_json(path: Path, leave_out: Iterable[str] = ()) -> Sections:
    """Read one of the reference's JSON profiles.

    Args:
        path: file with any of the sections ``data_config``, ``model_config``, ``training_config``, ``inference_config``
            and ``datagen_config``.
        leave_out: fields to drop on purpose, such as ``model_config.cbam_encoder``, or whole sections.

    Raises:
        FileNotFoundError: if there is none.
        ConfigError: naming every field that has no counterpart, with the reason.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no profile {path}")
    try:
        profile = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not JSON ({error})") from None
    if not isinstance(profile, dict) or not all(isinstance(section, dict) for section in profile.values()):
        raise ConfigError(f"{path}: expected sections, any of {', '.join(TORCH_SECTIONS)}")
    return from_torch(profile, leave_out, chosen=True)


def from_torch(config: Mapping[str, Any], leave_out: Iterable[str] = (), chosen: bool = False) -> Sections:
    """Sections of ours from the torch dataclasses.

    Args:
        config: the five sections by name, as dataclasses or dictionaries.
        leave_out: fields to drop on purpose, or whole sections.
        chosen: True if everything in it was chosen; False if it may hold defaults that nobody asked for.

    Raises:
        ConfigError: naming every field that has no counterpart, with the reason.
    """
    for name in config:
        if name not in TORCH_SECTIONS:
            raise ConfigError(f"{name}: unknown section{did_you_mean(name, TORCH_SECTIONS)}")
    fields = {f"{name}.{field}": v for name, section in config.items() for field, v in fields_of(section).items()}
    return _taken_over(fields, torch_names(), leave_out, chosen)


def from_tensorflow(config: Any, leave_out: Iterable[str] = ()) -> Sections:
    """Sections of ours from a TensorFlow TrainingConfig or InferenceConfig, or its ``dataclasses.asdict``.

    Raises:
        ConfigError: naming every field that has no counterpart, with the reason.
    """
    fields = fields_of(config)
    kind = "inference" if fields.keys() & {"model_path", "debug"} else "training"
    return _taken_over(fields, tensorflow_names(kind), leave_out, chosen=False)


def from_legacy(cfg: Mapping[str, Any], leave_out: Iterable[str] = ()) -> Sections:
    """Sections of ours from the reference's dictionary ``params.cfg``, the whole or a part.

    Raises:
        ConfigError: naming every key that has no counterpart, with the reason.
    """
    return _taken_over(dict(cfg), legacy_names(), leave_out, chosen=False)


def to_torch(sections: Mapping[str, Any] | Config, leave_out: Iterable[str] = (), **arguments: Any) -> Sections:
    """The sections of a reference profile that say what our settings say.

    Args:
        sections: ours by name; defaults where one is missing.
        leave_out: settings to drop on purpose where the reference has no word for them, or whole sections.
        **arguments: ``train_data``, ``output`` and the like.

    Raises:
        ConfigError: naming every setting that was changed from its default and has no word there.
    """
    profile: Sections = {}
    for key, value in _in_words(sections, torch_names(), tuple(SECTIONS), leave_out, arguments).items():
        section, _, field = key.partition(".")
        profile.setdefault(section, {})[field] = value
    return profile


def to_tensorflow(
    sections: Mapping[str, Any] | Config, kind: str = "training", leave_out: Iterable[str] = (), **arguments: Any
) -> dict[str, Any]:
    """Arguments for the reference's TensorFlow TrainingConfig or InferenceConfig; those of ModelConfig under ``model``.

    What has no word there keeps the reference's own default; a warning names it.

    Args:
        sections: ours by name; defaults where one is missing.
        kind: ``training`` or ``inference``.
        leave_out: settings to drop on purpose where the reference has no word for them, or whole sections.
        **arguments: ``train_data``, ``test_data``, ``model``, ``output``.

    Raises:
        ConfigError: naming every setting that was changed from its default and has no word there.
    """
    if kind not in SECTIONS_OF:
        raise ConfigError(f"kind is {kind!r}, expected {' or '.join(SECTIONS_OF)}")
    names = tensorflow_names(kind)
    form: dict[str, Any] = {"model": {}}
    for field, value in _in_words(sections, names, SECTIONS_OF[kind], leave_out, arguments).items():
        (form["model"] if names[field][1].place == "model" else form)[field] = value
    return form


def to_legacy(
    sections: Mapping[str, Any] | Config, kind: str = "training", leave_out: Iterable[str] = (), **arguments: Any
) -> dict[str, Any]:
    """Keys and values of the legacy dictionary that say what our settings say; otherwise as :func:`to_tensorflow`."""
    return legacy_items(to_tensorflow(sections, kind, leave_out, **arguments))


def update_legacy_dict(cfg: dict[str, Any], config: Any) -> None:
    """Write a config into a legacy dictionary: None is skipped, everything else overwrites, paths become text.

    Args:
        cfg: the dictionary, changed in place; nothing else is.
        config: a TensorFlow config (dataclass or dictionary), or ours (:class:`Config` or sections).
    """
    ours = isinstance(config, Config) or (isinstance(config, Mapping) and config.keys() <= {*SECTIONS, "arguments"})
    cfg.update(to_legacy(config) if ours else legacy_items(config))


def _taken_over(fields: Mapping[str, Any], names: FieldIndex, leave_out: Iterable[str], chosen: bool) -> Sections:
    """Our settings out of theirs; every problem is told at once."""
    leave_out = tuple(leave_out)
    check_known(leave_out, [*names, *fields])
    problems: list[str] = []
    heard: dict[str, list[tuple[str, Any, bool]]] = {}
    for key, value in fields.items():
        if value is None or covers(leave_out, key):
            continue
        if key not in names:
            problems.append(f"{key}: unknown{did_you_mean(key, names)}")
            continue
        try:
            ours, plain, idle = _translate(*names[key], value, chosen)
        except ValueError as error:
            problems.append(f"{key} {value!r}: {error}")
            continue
        if ours is not None:
            heard.setdefault(ours, []).append((key, plain, idle))
    said = {ours: _agreed(values, chosen, problems) for ours, values in heard.items()}
    idle = frozenset(ours for ours, values in heard.items() if all(voice[2] for voice in values))
    try:
        settings = settings_from_parts(said, idle)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError(f"not taken over: {'; '.join(problems)}")
    return _validated(settings, heard)


def _translate(row: Row, name: Name, value: Any, chosen: bool) -> tuple[str | None, Any, bool]:
    """What a field says: our key (None if it says what happens anyway), the value, and whether it is only a default."""
    plain = name.codec.inward(tuple(value) if isinstance(value, list) else value)
    idle = name.default is not None and same(plain, name.codec.inward(name.default))
    if row.ours is not None:
        return row.ours, plain, idle
    if any(same(plain, agreeing) for agreeing in row.agrees) or (idle and not chosen):
        return None, plain, idle
    here = f" ({' or '.join(repr(agreeing) for agreeing in row.agrees)} says what happens here)" if row.agrees else ""
    raise ValueError(f"{row.because}{here}")


def _agreed(values: list[tuple[str, Any, bool]], chosen: bool, problems: list[str]) -> Any:
    """The one value that several fields say; a default yields to a choice."""
    loud = values if chosen else [voice for voice in values if not voice[2]] or values[:1]
    if any(not same(value, loud[0][1]) for _, value, _ in loud):
        problems.append(f"{' and '.join(key for key, _, _ in loud)} contradict each other: make them agree")
    return loud[0][1]


def _validated(settings: Mapping[str, Any], heard: Mapping[str, list]) -> Sections:
    said: Sections = nested(settings)
    for name, section in said.items():
        if name in SECTIONS:
            try:
                validate(SECTIONS[name], section, f"{name}.")
            except ConfigError as error:
                fields = [voice[0] for ours, values in heard.items() for voice in values if ours in str(error)]
                raise ConfigError(f"{error}{', from ' + ' and '.join(fields) if fields else ''}") from None
    return said


def _in_words(
    sections: Mapping[str, Any] | Config, names: FieldIndex, scope: tuple, leave_out: Iterable[str], arguments: dict
) -> dict[str, Any]:
    """Their fields by name with what our settings say; what was chosen and cannot be said is an error."""
    leave_out = tuple(leave_out)
    whole = _whole(sections)
    settings = flat({name: section.model_dump() for name, section in whole.items()})
    check_known(leave_out, settings)
    given = {} if isinstance(sections, Config) else sections.get("arguments", {})
    settings = {key: value for key, value in settings.items() if key.partition(".")[0] in scope}
    settings |= {f"arguments.{name}": value for name, value in {**given, **arguments}.items()}
    parts, unsupported = parts_from_settings(whole["training"], whole["network"].group_size)
    unsupported |= _lost_parts(parts, {row.ours for row, _ in names.values()})
    words, said = {}, {key for settings in MAKES.values() for key in settings if key not in unsupported}
    for field, (row, name) in names.items():
        value = (settings | parts).get(row.ours)
        try:
            if row.ours is None and row.agrees:
                words[field] = name.codec.outward(row.agrees[0])
            elif value is not None and not covers(leave_out, row.ours):
                said.add(row.ours)
                words[field] = name.codec.outward(value)
        except UntranslatableError as reason:
            unsupported[row.ours] = str(reason)
    _check_said(
        {key: value for key, value in settings.items() if key not in said or key in unsupported}, unsupported, leave_out
    )
    return words


def _lost_parts(parts: Mapping[str, Any], known: set[str | None]) -> dict[str, str]:
    """Settings whose shorthand the other side does not have in full."""
    lost = {key.partition(".")[0] for key in parts if key not in known}
    return {key: "there are no words for all of it" for part in lost for key in MAKES[part]}


def _check_said(unsaid: Mapping[str, Any], unsupported: Mapping[str, str], leave_out: tuple[str, ...]) -> None:
    """Refuse to lose a choice; tell which defaults of ours the other side answers with its own."""
    defaults = flat({name: section.model_dump() for name, section in _whole({}).items()})
    unsaid = {key: value for key, value in unsaid.items() if not covers(leave_out, key)}
    chosen = {key: value for key, value in unsaid.items() if value is not None and value != defaults.get(key)}
    if chosen:
        told = [
            f"{key} {value!r}{': ' + unsupported[key] if key in unsupported else ''}" for key, value in chosen.items()
        ]
        raise ConfigError(f"no word in the reference for {'; '.join(told)}; leave out what may be lost")
    kept = [key for key in unsaid if key in unsupported]
    if kept:
        logger.warning("no word in the reference for our default of %s: it uses its own", ", ".join(kept))


def _whole(sections: Mapping[str, Any] | Config) -> dict[str, Section]:
    """Every section, from what was said of it or as it is."""
    if isinstance(sections, Config):
        return {name: getattr(sections, name) for name in SECTIONS}
    for name in sections:
        if name not in SECTIONS and name != "arguments":
            raise ConfigError(f"{name}: unknown section{did_you_mean(name, SECTIONS)}")
    said = {name: sections.get(name, {}) for name in SECTIONS}
    return {name: s if isinstance(s, Section) else validate(SECTIONS[name], s, f"{name}.") for name, s in said.items()}
