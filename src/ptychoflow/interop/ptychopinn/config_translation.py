"""Translation of PtychoPINN's configs to our settings and back.

Our side is settings by section, ``{"training": {"learning_rate": 1e-3}}``, and ``arguments``: the arguments of commands
(``train_data``, ``test_data``, ``model``, ``output``, ``model_name``, ``notes``). Each field of PtychoPINN is
translated or refused with the reason, all at once; ``ignore`` names those to drop on purpose. A profile holds choices
only; a whole config of PtychoPINN, most values of which nobody chose, may also hold its defaults. A setting without a
counterpart in the file keeps our default, unless ``complete`` asks for PtychoPINN's.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ...config import Config, ConfigError, Section, validate
from ...core.suggestions import did_you_mean
from .field_map import MASKED, Name, Row
from .flat_config import (
    TORCH_SECTIONS,
    check_known,
    covers,
    fields_of,
    flat,
    legacy_items,
    legacy_names,
    nested,
    other_defaults,
    read_reference_file,
    same,
    tensorflow_names,
    torch_defaults,
    torch_names,
)
from .network_shorthand import IMPLIED
from .stage_shorthand import MAKES, parts_from_settings, settings_from_parts, settings_of
from .value_codecs import UntranslatableError, tuples

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


class Entry(NamedTuple):
    """A field of PtychoPINN in our terms: its name, its value, True for its default, True if it was chosen."""

    key: str
    value: Any
    idle: bool
    firm: bool


def from_reference_json(
    path: Path, ignore: Iterable[str] = (), complete: bool = False, notes: list[str] | None = None
) -> Sections:
    """Read one of the reference's profiles, JSON or YAML.

    Args:
        path: file with any of the sections ``data_config``, ``model_config``, ``training_config``, ``inference_config``
            and ``datagen_config``.
        ignore: fields to drop on purpose, such as ``model_config.cbam_encoder``, or whole sections.
        complete: True to add PtychoPINN's default of every field that the file lacks.
        notes: takes fields without effect in PtychoPINN too, and defaults without counterpart.

    Raises:
        FileNotFoundError: if there is none.
        ConfigError: naming every field that has no counterpart, with the reason.
    """
    profile = read_reference_file(Path(path))
    if not isinstance(profile, dict) or not all(isinstance(section, dict) for section in profile.values()):
        raise ConfigError(f"{path}: expected sections, any of {', '.join(TORCH_SECTIONS)}")
    return from_torch(profile, ignore, chosen=True, complete=complete, notes=notes)


def from_torch(
    config: Mapping[str, Any],
    ignore: Iterable[str] = (),
    chosen: bool = False,
    complete: bool = False,
    notes: list[str] | None = None,
) -> Sections:
    """Translate the torch dataclasses to sections of ours.

    Args:
        config: the five sections by name, as dataclasses or dictionaries.
        ignore: fields to drop on purpose, or whole sections.
        chosen: True if everything in it was chosen; False if it may hold defaults that nobody asked for.
        complete: True to add PtychoPINN's default of every field that it lacks.
        notes: takes fields without effect in PtychoPINN too, and defaults without counterpart.

    Raises:
        ConfigError: naming every field that has no counterpart, with the reason.
    """
    for name in config:
        if name not in TORCH_SECTIONS:
            raise ConfigError(f"{name}: unknown section{did_you_mean(name, TORCH_SECTIONS)}")
    fields = {f"{name}.{field}": v for name, section in config.items() for field, v in fields_of(section).items()}
    filled = torch_defaults(fields) if complete else {}
    sections = _import_fields(fields, torch_names(), ignore, chosen, filled, notes)
    return _as_reference_trains(sections) if complete else sections


def from_tensorflow(
    config: Any, ignore: Iterable[str] = (), complete: bool = False, notes: list[str] | None = None
) -> Sections:
    """Translate a TensorFlow TrainingConfig or InferenceConfig, or its ``dataclasses.asdict``, to sections of ours.

    Args:
        config: as a dataclass or dictionary.
        ignore: fields to drop on purpose.
        complete: True to add PtychoPINN's default of every field that it lacks.
        notes: takes fields without effect in PtychoPINN too, and defaults without counterpart.

    Raises:
        ConfigError: naming every field that has no counterpart, with the reason.
    """
    fields = fields_of(config)
    kind = "inference" if fields.keys() & {"model_path", "debug"} else "training"
    names = tensorflow_names(kind)
    filled = other_defaults(fields, names) if complete else {}
    sections = _import_fields(fields, names, ignore, False, filled, notes)
    return _as_tensorflow_trains(sections) if complete else sections


def from_legacy(
    cfg: Mapping[str, Any], ignore: Iterable[str] = (), complete: bool = False, notes: list[str] | None = None
) -> Sections:
    """Translate PtychoPINN's dictionary ``params.cfg``, the whole or a part, to sections of ours.

    Args:
        cfg: the dictionary.
        ignore: keys to drop on purpose.
        complete: True to add PtychoPINN's default of every key that it lacks.
        notes: takes keys without effect in PtychoPINN too, and defaults without counterpart.

    Raises:
        ConfigError: naming every key that has no counterpart, with the reason.
    """
    filled = other_defaults(cfg, legacy_names()) if complete else {}
    sections = _import_fields(dict(cfg), legacy_names(), ignore, False, filled, notes)
    return _as_tensorflow_trains(sections) if complete else sections


def _as_reference_trains(sections: Sections) -> Sections:
    """Return sections with what PtychoPINN always does: it merges the patches of a group and trains to the end."""
    network = sections.setdefault("network", {})
    network.setdefault("output", "patches" if network.get("group_size", 1) > 1 else "canvas")
    training = sections.setdefault("training", {})
    training.setdefault("gradient_clip", None)
    training["on_collapse"] = "warn"
    return sections


def _as_tensorflow_trains(sections: Sections) -> Sections:
    """Return sections with what TensorFlow's network always does: amplitudes as input, heads, merged centres."""
    network = _as_reference_trains(sections)["network"]
    if network.get("architecture", "cnn") == "cnn":
        network |= {"architecture": "cnn", "head": "polar", "input": "amplitude"}
    if network["output"] == "patches":
        network.setdefault("patch_weighting", "central")
    return sections


def to_torch(sections: Mapping[str, Any] | Config, ignore: Iterable[str] = (), **arguments: Any) -> Sections:
    """Translate our settings to the sections of a PtychoPINN profile.

    Args:
        sections: ours by name; defaults where one is missing.
        ignore: settings to drop on purpose where the reference has no word for them, or whole sections.
        **arguments: ``train_data``, ``output`` and the like.

    Raises:
        ConfigError: naming every setting that was changed from its default and has no word there.
    """
    profile: Sections = {}
    for key, value in _export(sections, torch_names(), tuple(SECTIONS), ignore, arguments).items():
        section, _, field = key.partition(".")
        profile.setdefault(section, {})[field] = value
    return profile


def to_tensorflow(
    sections: Mapping[str, Any] | Config, kind: str = "training", ignore: Iterable[str] = (), **arguments: Any
) -> dict[str, Any]:
    """Translate our settings to arguments of a TensorFlow config; those of ModelConfig are under ``model``.

    A setting without counterpart keeps PtychoPINN's default; a warning names it.

    Args:
        sections: ours by name; defaults where one is missing.
        kind: ``training`` or ``inference``.
        ignore: settings to drop on purpose where the reference has no word for them, or whole sections.
        **arguments: ``train_data``, ``test_data``, ``model``, ``output``.

    Raises:
        ConfigError: naming every setting that was changed from its default and has no word there.
    """
    if kind not in SECTIONS_OF:
        raise ConfigError(f"kind is {kind!r}, expected {' or '.join(SECTIONS_OF)}")
    names = tensorflow_names(kind)
    form: dict[str, Any] = {"model": {}}
    for field, value in _export(sections, names, SECTIONS_OF[kind], ignore, arguments).items():
        (form["model"] if names[field][1].place == "model" else form)[field] = value
    return form


def to_legacy(
    sections: Mapping[str, Any] | Config, kind: str = "training", ignore: Iterable[str] = (), **arguments: Any
) -> dict[str, Any]:
    """Translate our settings to the legacy dictionary; arguments and errors as in :func:`to_tensorflow`."""
    return legacy_items(to_tensorflow(sections, kind, ignore, **arguments))


def update_legacy_dict(cfg: dict[str, Any], config: Any) -> None:
    """Write a config into a legacy dictionary: None is skipped, everything else overwrites, paths become text.

    Args:
        cfg: the dictionary, changed in place; nothing else is.
        config: a TensorFlow config (dataclass or dictionary), or ours (:class:`Config` or sections).
    """
    ours = isinstance(config, Config) or (isinstance(config, Mapping) and config.keys() <= {*SECTIONS, "arguments"})
    cfg.update(to_legacy(config) if ours else legacy_items(config))


def _import_fields(
    fields: Mapping[str, Any],
    names: FieldIndex,
    ignore: Iterable[str],
    chosen: bool,
    filled: Mapping[str, Any] = MappingProxyType({}),
    notes: list[str] | None = None,
) -> Sections:
    """Translate PtychoPINN's fields to our settings; every problem is reported at once.

    Args:
        fields: values by name.
        names: the fields that are known.
        ignore: fields to drop.
        chosen: True if everything in ``fields`` was chosen.
        filled: further fields with their defaults.
        notes: takes fields without effect, and defaults without counterpart; no fields may be without effect without
            it.
    """
    ignore = tuple(ignore)
    check_known(ignore, [*names, *fields])
    problems: list[str] = []
    values_by_key: dict[str, list[Entry]] = {}
    for key, value in {**filled, **fields}.items():
        firm = chosen and key in fields
        if value is None or covers(ignore, key):
            continue
        if key not in names:
            problems.append(f"{key}: unknown{did_you_mean(key, names)}")
            continue
        try:
            ours, plain, idle = _translate(*names[key], value, firm)
        except ValueError as error:
            problems.append(f"{key} {value!r}: {error}")
            continue
        if ours is not None:
            values_by_key.setdefault(ours, []).append(Entry(key, plain, idle, firm or not idle))
        elif notes is not None and idle and not any(same(plain, agreeing) for agreeing in names[key][0].agrees):
            notes.append(f"{key} {value!r} (default): {names[key][0].because}")
    agreed = {ours: _agreed(values, problems) for ours, values in values_by_key.items()}
    defaults = frozenset(ours for ours, values in values_by_key.items() if all(entry.idle for entry in values))
    try:
        settings = settings_from_parts(agreed, defaults, notes)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError(f"cannot be translated: {'; '.join(problems)}")
    return _validated(settings, values_by_key)


def _translate(row: Row, name: Name, value: Any, chosen: bool) -> tuple[str | None, Any, bool]:
    """Return our key of a field (None if it describes fixed behaviour), the value, and True for a mere default."""
    if row.ours == "mask.probe_mask" and not isinstance(value, bool):
        raise ValueError(f"expected true or false: {MASKED}")
    plain = name.codec.inward(tuples(value))
    idle = name.default is not None and same(plain, name.codec.inward(name.default))
    if row.ours is not None:
        return row.ours, plain, idle
    if any(same(plain, agreeing) for agreeing in row.agrees) or (idle and not chosen):
        return None, plain, idle
    accepted = f" (accepted: {' or '.join(repr(agreeing) for agreeing in row.agrees)})" if row.agrees else ""
    raise ValueError(f"{row.because}{accepted}")


def _agreed(values: list[Entry], problems: list[str]) -> Any:
    """Return the one value that several fields give; a default yields to a choice."""
    chosen_values = [entry for entry in values if entry.firm] or values[:1]
    if any(not same(entry.value, chosen_values[0].value) for entry in chosen_values):
        problems.append(f"{' and '.join(entry.key for entry in chosen_values)} contradict each other: make them agree")
    return chosen_values[0].value


def _validated(settings: Mapping[str, Any], values_by_key: Mapping[str, list[Entry]]) -> Sections:
    sections: Sections = nested(settings)
    for name, section in sections.items():
        if name in SECTIONS:
            try:
                validate(SECTIONS[name], section, f"{name}.")
            except ConfigError as error:
                fields = [
                    entry.key
                    for ours, values in values_by_key.items()
                    if any(key in str(error) for key in settings_of(ours))
                    for entry in values
                    if entry.firm
                ]
                raise ConfigError(f"{error}{', from ' + ' and '.join(fields) if fields else ''}") from None
    return sections


def _export(
    sections: Mapping[str, Any] | Config, names: FieldIndex, scope: tuple, ignore: Iterable[str], arguments: dict
) -> dict[str, Any]:
    """Translate our settings to PtychoPINN's fields by name; a choice without counterpart is an error."""
    ignore = tuple(ignore)
    whole: dict[str, Any] = dict(_all_sections(sections))
    settings = flat({name: section.model_dump() for name, section in whole.items()})
    check_known(ignore, settings)
    given = {} if isinstance(sections, Config) else sections.get("arguments", {})
    _name_other_sections(settings, scope, ignore)
    settings = {key: value for key, value in settings.items() if key.partition(".")[0] in scope}
    settings |= {f"arguments.{name}": value for name, value in {**given, **arguments}.items()}
    parts, unsupported = parts_from_settings(whole)
    unsupported |= _incomplete_parts(parts, {row.ours for row, _ in names.values()})
    exported: dict[str, Any] = {}
    translated = {key for settings in MAKES.values() for key in settings if key not in unsupported}
    for field, (row, name) in names.items():
        ours = row.ours
        try:
            if ours is None:
                exported |= {field: name.codec.outward(row.agrees[0])} if row.agrees else {}
            elif (value := (settings | parts).get(ours)) is not None and not covers(ignore, ours):
                translated.add(ours)
                exported[field] = name.codec.outward(value)
        except UntranslatableError as reason:
            unsupported[ours or field] = str(reason)
    _check_lost_settings(
        {key: value for key, value in settings.items() if key not in translated or key in unsupported},
        unsupported,
        ignore,
    )
    return exported


def _name_other_sections(settings: Mapping[str, Any], scope: tuple, ignore: tuple[str, ...]) -> None:
    """Warn of choices in sections of which this config of PtychoPINN does not speak."""
    defaults = flat({name: section.model_dump() for name, section in _all_sections({}).items()})
    lost = [
        key
        for key, value in settings.items()
        if key.partition(".")[0] not in scope and not covers(ignore, key) and value != defaults.get(key)
    ]
    if lost:
        logger.warning("not in this config of PtychoPINN, and so left out: %s", ", ".join(lost))


def _incomplete_parts(parts: Mapping[str, Any], known: set[str | None]) -> dict[str, str]:
    """Return the settings whose shorthand the other side supports in part only."""
    lost = [key for key, value in parts.items() if key not in known and IMPLIED.get(key) != value]
    return {setting: "PtychoPINN supports only a part of it" for key in lost for setting in settings_of(key)}


def _check_lost_settings(unsaid: Mapping[str, Any], unsupported: Mapping[str, str], ignore: tuple[str, ...]) -> None:
    """Refuse to lose a choice; warn of our defaults that the other side replaces by its own."""
    defaults = flat({name: section.model_dump() for name, section in _all_sections({}).items()})
    unsaid = {key: value for key, value in unsaid.items() if not covers(ignore, key)}
    chosen = {key: value for key, value in unsaid.items() if value is not None and value != defaults.get(key)}
    if chosen:
        entries = [
            f"{key} {value!r}{': ' + unsupported[key] if key in unsupported else ''}" for key, value in chosen.items()
        ]
        raise ConfigError(f"not representable in PtychoPINN: {'; '.join(entries)}; pass ignore to drop them")
    kept = [key for key in unsaid if key in unsupported]
    if kept:
        logger.warning("not representable in PtychoPINN: our default of %s; it uses its own", ", ".join(kept))


def _all_sections(sections: Mapping[str, Any] | Config) -> dict[str, Section]:
    """Return every section, as given or with its defaults."""
    if isinstance(sections, Config):
        return {name: getattr(sections, name) for name in SECTIONS}
    for name in sections:
        if name not in SECTIONS and name != "arguments":
            raise ConfigError(f"{name}: unknown section{did_you_mean(name, SECTIONS)}")
    given = {name: sections.get(name, {}) for name in SECTIONS}
    return {name: s if isinstance(s, Section) else validate(SECTIONS[name], s, f"{name}.") for name, s in given.items()}
