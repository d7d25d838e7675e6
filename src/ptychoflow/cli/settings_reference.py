"""The settings described, for editors as a JSON schema and for readers as a Markdown page; both from the one schema."""

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..config import READS, Config, ConfigError
from ..core.suggestions import did_you_mean
from ..interop.ptychopinn.glossary import describe, every_name, names_of
from ..io.atomic import atomic_file, write_json

INTRODUCTION = """# Settings

A configuration names scans and methods, and under each section what differs from the defaults below. A scan or
a method may hold sections too: what they say goes before what stands at the top level. A changed setting reruns the
step that reads it and what follows from that step, nothing else.

Lengths end in `_m` or `_px`, energies in `_ev`, angles in `_rad`. Where a name has settings of its own, the bare name
is short for them: `object: siemens_star` means `object: {name: siemens_star}`.

This page comes from the schema: `ptychoflow config reference docs/reference/settings.md`.
"""

LIMITS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "multipleOf": "multiple of",
}
UNITS = {"px": "px", "m": "m", "ev": "eV", "rad": "rad", "deg": "deg", "percent": "%"}
"""Units that the names of settings end in."""
STATED_UNIT = re.compile(r", (?:object |detector )?(px|eV|m|min|rad|waves|dimensionless|photons|counts)\b")
COUNTED = re.compile(r"(Photons|Patterns|Groups|Channels|Epochs|Iterations|Fraction|Pairs of spokes|Points)\b")
NAMES = {"integer": "whole number", "string": "text", "boolean": "true, false", "null": "none"}
ESCAPED_BAR = "\\|"


class Setting(NamedTuple):
    """One setting as a reader wants to know it, all in words."""

    name: str
    meaning: str
    unit: str
    values: str
    default: str


def reference(output: Path) -> None:
    """Write the reference of every setting, a Markdown page.

    Reads nothing. Makes a page with the meaning, unit, range, default and PtychoPINN name of each setting.

    Args:
        output: the page, ``.md``.

    Raises:
        ValueError: if the output has another suffix.
        OSError: if it cannot be written.

    Example:
        ptychoflow config reference docs/reference/settings.md
    """
    with atomic_file(output) as partial:
        partial.write_text(page())


def schema(output: Path) -> None:
    """Write the JSON schema with which editors complete and check a configuration.

    Reads nothing. Makes a JSON schema.

    Args:
        output: the schema, ``.json``.

    Raises:
        ValueError: if the output has another suffix.
        OSError: if it cannot be written.

    Example:
        ptychoflow config schema config/config.schema.json
    """
    write_json(output, Config.model_json_schema())


def page() -> str:
    """The Markdown page: scans and methods first, then one table for each section."""
    known = Config.model_json_schema()["$defs"]
    return INTRODUCTION + "".join(_table(name, known[section], known) for name, section in _sections().items())


def explain(key: str) -> str:
    """Explain a setting: meaning, unit, values, default, reader, names in PtychoPINN; or what became of one of theirs.

    Raises:
        ConfigError: for a name that neither has, with the nearest known one.
    """
    known = Config.model_json_schema()["$defs"]
    every = {
        f"{section}.{row.name}": (section, row)
        for section, title in _sections().items()
        for row in _rows(known[title], known)
    }
    if key in every:
        return _explained(key, *every[key])
    inside = [name for name in every if name.startswith(f"{key}.")]
    if inside:
        return "\n".join([f"{key} has", *(_in_a_line(name, every[name][1]) for name in inside)])
    known_names = describe(key)
    if not known_names:
        raise ConfigError(f"{key}: no such setting{did_you_mean(key, [*every, *every_name()])}")
    return "\n".join(known_names)


def _in_a_line(key: str, row: Setting) -> str:
    """A setting, its default and what it means, cut to what fits."""
    default = row.default.strip("`") or "none"
    return "  " + textwrap.shorten(f"{key} ({default}): {row.meaning}".replace("`", ""), 118, placeholder=" ...")


def _explained(key: str, section: str, row: Setting) -> str:
    readers = [step for step, sections in READS.items() if section in sections]
    there = "; ".join(f"{side}: {', '.join(names)}" for side, names in names_of(key).items())
    metadata = {
        "values": row.values,
        "unit": row.unit or "none",
        "default": row.default.strip("`"),
        "read by": ", ".join(readers) or "the workflow",
        "PtychoPINN": there or "no such setting",
    }
    return "\n".join(
        [key, f"  {row.meaning}", *(f"  {name}: {value}".replace("`", "") for name, value in metadata.items())]
    )


def _sections() -> dict[str, str | None]:
    """Titles in the JSON schema of what a config holds, by name."""
    properties = Config.model_json_schema()["properties"]
    tables = {"scans": "ScanEntry", "methods": "MethodEntry", "sweeps": "Sweep", "source": "Source"}
    return tables | {name: _section_of(field) for name, field in properties.items() if _section_of(field, deep=False)}


def _table(name: str, section: dict, known: dict) -> str:
    about = section["description"].partition(" (read by ")[0].rstrip(".") + "."
    readers = [f"`{step}`" for step, sections in READS.items() if name in sections]
    lines = ["", f"## {name}", "", f"{about} Read by {' and '.join(readers)}." if readers else about, ""]
    lines += ["| setting | meaning | unit | values | default | in PtychoPINN |", "|---|---|---|---|---|---|"]
    for row in _rows(section, known):
        theirs = ", ".join(f"`{field}`" for field in _theirs(f"{name}.{row.name}"))
        cells = (f"`{row.name}`", row.meaning, row.unit, row.values, row.default, theirs)
        lines.append(f"| {' | '.join(cell.replace('|', ESCAPED_BAR) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _theirs(key: str) -> list[str]:
    """Return the name of a setting in PtychoPINN, without sections and repetitions."""
    fields = [field.rpartition(".")[2] for fields in names_of(key).values() for field in fields]
    return list(dict.fromkeys(fields))


def _rows(section: dict, known: dict, prefix: str = "") -> Iterator[Setting]:
    """The settings of a section and of the sections inside it."""
    for name, field in section["properties"].items():
        inner = _section_of(field)
        if inner is None or section["title"].endswith("Entry"):
            default = "required" if name in section.get("required", []) else _brief(field.get("default"))
            yield Setting(f"{prefix}{name}", _meaning(field), _unit(name, field), _values(field), default)
        elif field.get("type") == "array":
            yield Setting(f"{prefix}{name}", _meaning(field), "", "list", _brief(field["default"]))
            yield from _rows(known[inner], known, f"{prefix}{name}[].")
        else:
            yield from _rows(known[inner], known, f"{prefix}{name}.")


def _section_of(field: dict, deep: bool = True) -> str | None:
    """The section that a setting holds, as such, or also as one of several choices or as the items of a list."""
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    choices = [*field.get("anyOf", []), *([field["items"]] if "items" in field else [])] if deep else []
    return next(filter(None, map(_section_of, choices)), None)


def _meaning(field: dict) -> str:
    return " ".join(field["description"].split())


def _unit(name: str, field: dict) -> str:
    """The unit that a setting's name ends in, or that its description says or counts in."""
    if {"number", "integer"}.isdisjoint(re.findall(r"\w+", str(field))):
        return ""
    ending = UNITS.get(name.rpartition("_")[2]) if "_" in name else None
    text = STATED_UNIT.search(field["description"]) or COUNTED.match(field["description"])
    return ending or (text.group(1)[0].lower() + text.group(1)[1:] if text else "")


def _values(field: dict) -> str:
    """Describe the values that a setting takes."""
    if "anyOf" in field:
        return " or ".join(_values(choice) for choice in field["anyOf"])
    if "$ref" in field:
        return "section"
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"[{', '.join(map(_values, field['prefixItems']))}]" if "prefixItems" in field else "list"
    limits = [f"{sign} {field[key]}" for key, sign in LIMITS.items() if key in field]
    return " ".join([NAMES.get(str(field.get("type")), str(field.get("type"))), ", ".join(limits)]).strip()


def _brief(default: object) -> str:
    return "none" if default is None else f"`{json.dumps(default)}`"
