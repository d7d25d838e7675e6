"""The settings described, for editors as a JSON schema and for readers as a Markdown page; both from the one schema."""

import json
from collections.abc import Iterator
from pathlib import Path

from .config import READS, Config
from .files import whole_file, write_json

INTRODUCTION = """# Settings

A file of this folder names scans and models, and under each section what differs from the defaults below. A scan or
a model may hold sections too: what they say goes before what stands at the top level. A changed setting reruns the
step that reads it and what follows from that step, nothing else.

Lengths end in `_m` or `_px`, energies in `_ev`, angles in `_rad`. Where a name has settings of its own, the bare name
is short for them: `object: siemens_star` means `object: {name: siemens_star}`.

This page comes from the schema: `ptychoflow settings config/README.md`.
"""

LIMITS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "multipleOf": "multiple of",
}
NAMES = {"integer": "whole number", "string": "text", "boolean": "true, false", "null": "none"}
ESCAPED_BAR = "\\|"


def settings(output: Path) -> None:
    """Write every setting with meaning, range and default: Markdown for a name in ``.md``, else a JSON schema."""
    if output.suffix != ".md":
        write_json(output, Config.model_json_schema())
        return
    with whole_file(output) as partial:
        partial.write_text(page())


def page() -> str:
    """The Markdown page: scans and models first, then one table for each section."""
    schema = Config.model_json_schema()
    known = schema["$defs"]
    tables = {"scans": "ScanEntry", "models": "ModelEntry", "source": "Source"}
    tables |= {
        name: _section_of(field) for name, field in schema["properties"].items() if _section_of(field, deep=False)
    }
    return INTRODUCTION + "".join(_table(name, known[section], known) for name, section in tables.items())


def _table(name: str, section: dict, known: dict) -> str:
    about = section["description"].partition(" (read by ")[0].rstrip(".") + "."
    readers = [f"`{step}`" for step, sections in READS.items() if name in sections]
    lines = ["", f"## {name}", "", f"{about} Read by {' and '.join(readers)}." if readers else about, ""]
    lines += ["| setting | meaning | values | default |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(cell.replace('|', ESCAPED_BAR) for cell in row)} |" for row in _rows(section, known)]
    return "\n".join(lines) + "\n"


def _rows(section: dict, known: dict, prefix: str = "", given: dict | None = None) -> Iterator[tuple[str, ...]]:
    """Setting, meaning, values and default, for a section and the sections inside it; ``given`` are its defaults."""
    given = given or {}
    for name, field in section["properties"].items():
        inner, default = _section_of(field), given.get(name, field.get("default"))
        if inner is None or section["title"].endswith("Entry"):
            default = "required" if default is None and name in section.get("required", []) else _brief(default)
            yield f"`{prefix}{name}`", " ".join(field["description"].split()), _values(field), default
        elif field.get("type") == "array":
            yield f"`{prefix}{name}`", " ".join(field["description"].split()), "list", _brief(default)
            yield from _rows(known[inner], known, f"{prefix}{name}[].")
        else:
            yield from _rows(known[inner], known, f"{prefix}{name}.", default)


def _section_of(field: dict, deep: bool = True) -> str | None:
    """The section that a setting holds, as such, or also as one of several choices or as the items of a list."""
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    choices = [*field.get("anyOf", []), *([field["items"]] if "items" in field else [])] if deep else []
    return next(filter(None, map(_section_of, choices)), None)


def _values(field: dict) -> str:
    """What a setting may be, in words."""
    if "anyOf" in field:
        return " or ".join(_values(choice) for choice in field["anyOf"])
    if "$ref" in field:
        return "section"
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"[{', '.join(map(_values, field['prefixItems']))}]" if "prefixItems" in field else "list"
    limits = [f"{sign} {field[key]}" for key, sign in LIMITS.items() if key in field]
    return " ".join([NAMES.get(field.get("type"), str(field.get("type"))), ", ".join(limits)]).strip()


def _brief(default: object) -> str:
    return "none" if default is None else f"`{json.dumps(default)}`"
