"""Settings of one step from ``--config``, ``--set``, ``--runtime`` and ``--tracking``, validated by the schema."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RUN_SECTIONS = ("runtime", "tracking")
"""Sections that change no result; the workflow passes them separately, so that a change reruns nothing."""


def step_settings(
    step: str,
    sections: Sequence[str],
    config: str | None = None,
    assignments: Sequence[str] = (),
    run_settings: dict[str, str | None] | None = None,
    measurement: str | None = None,
) -> dict[str, Any]:
    """Return the validated sections of a step.

    Args:
        step: name of the command.
        sections: the sections that the command takes.
        config: sections as JSON text, or a JSON or YAML file.
        assignments: ``section.key=value`` each, laid over ``config`` and ``run_settings``; later ones win.
        run_settings: JSON text of ``runtime`` and ``tracking``.
        measurement: what ``source.file`` is.

    Raises:
        FileNotFoundError: if ``config`` is neither JSON text nor a file.
        ValueError: naming each wrong setting, what was expected and what was found.
    """
    from ..config import Runtime, Section, Tracking, step_sections, validate

    settings = read_settings(config, "--config")
    named = {name: read_settings(text, f"--{name}") for name, text in (run_settings or {}).items()}
    for assignment in assignments:
        keys, value = parse_assignment(assignment)
        layered = named if keys[0] in named else settings
        layered |= assigned(layered, keys, value)
    if measurement is not None:
        settings["source"] = settings.get("source", {}) | {"file": measurement}
    schemas: dict[str, type[Section]] = {"runtime": Runtime, "tracking": Tracking}
    return step_sections(step, settings) | {
        name: validate(schemas[name], named.get(name, {}), f"{name}.") for name in RUN_SECTIONS if name in sections
    }


def parse_assignment(text: str) -> tuple[list[str], Any]:
    """Return the keys and the value of ``section.key=value``, the value read as YAML.

    Raises:
        ValueError: if it has another form.
    """
    import yaml

    from ..config.unique_keys import load_yaml

    name, equals, value = text.partition("=")
    keys = name.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise ValueError(f"--set: expected SECTION.KEY=VALUE such as refinement.epochs=20, got {text!r}")
    try:
        return keys, load_yaml(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {name}: {value!r} is not YAML ({' '.join(str(error).split())})") from None
    except ValueError as error:
        raise ValueError(f"--set {name}: {error}") from None


def assigned(settings: dict, keys: Sequence[str], value: Any) -> dict:
    """Return settings with one more value; a bare name on the way, ``object: cells``, becomes ``{name: cells}``."""
    first, *others = keys
    inner = settings.get(first)
    inner = {"name": inner} if isinstance(inner, str) else inner
    return settings | {first: assigned(inner if isinstance(inner, dict) else {}, others, value) if others else value}


def read_settings(text: str | None, option: str) -> dict:
    """Return settings from JSON text, or from a JSON or YAML file.

    Args:
        text: the value of the option; empty for none.
        option: its name, for messages.

    Raises:
        FileNotFoundError: if it is neither JSON text nor a file.
        ValueError: if it does not hold sections.
    """
    import yaml

    from ..config.unique_keys import load_json, load_yaml
    from ..io.regular_file import check_regular

    if not text:
        return {}
    place, is_text = option, text.lstrip().startswith("{")
    if not is_text:
        check_regular(Path(text))
        if not Path(text).is_file():
            raise FileNotFoundError(f"{option}: expected JSON text or a file, but {text} was not found")
        place, text = text, Path(text).read_text()
    try:
        data = load_json(text) if is_text else load_yaml(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(f"{place} is neither JSON nor YAML ({error})") from None
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(
            f"{place} holds {type(data).__name__}, expected sections such as {{'packing': {{'crop': 64}}}}"
        )
    return data
