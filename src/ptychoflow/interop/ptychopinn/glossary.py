"""Mapping between PtychoPINN's fields and our settings as text: the generated page, and answers to single names."""

from .field_map import ROWS, Name, Row
from .flat_config import legacy_names, same, tensorflow_names, torch_names
from .stage_shorthand import settings_of

DESCRIPTIONS = {
    "arguments.train_data": "a scan under `scans` to train on",
    "arguments.test_data": "a scan under `scans` to reconstruct",
    "arguments.model": "the checkpoint, an argument of `infer`",
    "arguments.output": "where products go, an argument of each command",
    "arguments.objects": "as many simulated scans to train on",
    "arguments.model_name": "the name of the model under `models`",
    "arguments.notes": "`title`",
}
SIDES = ("torch", "tensorflow", "legacy")

INTRODUCTION = """# Settings of PtychoPINN

What became of each field of its torch dataclasses (and of the JSON profiles made of them), of its TensorFlow
dataclasses, and of each key of its legacy dictionary, each with its default there. `ptychoflow config migrate FILE`
takes over a whole file, `ptychoflow config explain NAME` tells about one field.

A field either sets something here, or it is refused with the reason below: nothing is accepted and ignored. Values that
are accepted describe what happens here anyway. A whole config, in which nobody chose most values, may also hold the
defaults of the reference where they ask for something that is not here, as the lines say; a profile, which holds
choices, may not. `config migrate` gives what a file does not say the default of the reference that stands below, not
that of ptychoflow, and lists in comments the defaults that it leaves out.

This page comes from the table in `interop/ptychopinn/field_map.py`:
`ptychoflow config mapping > docs/reference/ptychopinn-settings.md`.

| torch | TensorFlow | `params.cfg` | here |
|---|---|---|---|
"""


def page() -> str:
    """Return the table as a Markdown page, a line for each row."""
    lines = [[*(_cell(row, side) for side in SIDES), _outcome(row).replace("|", "\\|")] for row in ROWS]
    return INTRODUCTION + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def names_of(key: str) -> dict[str, list[str]]:
    """Return PtychoPINN's names of one of our settings, by side; a side without one is missing."""
    rows = [row for row in ROWS if row.ours is not None and key in settings_of(row.ours)]
    found = {side: [_shown(name, side) for row in rows if (name := row.name(side)) is not None] for side in SIDES}
    return {side: list(dict.fromkeys(fields)) for side, fields in found.items() if fields}


def describe(word: str) -> list[str]:
    """Return a line for each field of PtychoPINN of this name, with its counterpart; empty if there are none."""
    lines = []
    for row in ROWS:
        names = [_shown(name, side) for side in SIDES if (name := row.name(side)) is not None]
        if any(word in (name, name.rpartition(".")[2]) for name in names):
            lines.append(f"{' = '.join(dict.fromkeys(names))} in PtychoPINN: {_outcome(row)}")
    return lines


def every_name() -> list[str]:
    """Return the names of all fields of PtychoPINN."""
    sides = [torch_names(), tensorflow_names("training"), tensorflow_names("inference"), legacy_names()]
    return [field for names in sides for field in names]


def _outcome(row: Row) -> str:
    if row.ours in DESCRIPTIONS:
        return DESCRIPTIONS[row.ours]
    if row.ours is not None:
        return " and ".join(f"`{key}`" for key in settings_of(row.ours))
    accepted = f"accepted as {' or '.join(map(_value, row.agrees))}, otherwise refused" if row.agrees else "refused"
    return f"{accepted}: {row.because}{_unmet_default(row)}"


def _unmet_default(row: Row) -> str:
    """Return that defaults which ask for something else are left out, if one does."""
    names = [name for side in SIDES if (name := row.name(side)) is not None and name.default is not None]
    unmet = [name for name in names if not any(same(name.codec.inward(name.default), value) for value in row.agrees)]
    shown = dict.fromkeys(_value(name.default) for name in unmet)
    return f". Its default {' or '.join(shown)} is left out where nobody chose it" if unmet else ""


def _cell(row: Row, side: str) -> str:
    name = row.name(side)
    return "" if name is None else f"`{_shown(name, side)}` = {_value(name.default)}"


def _shown(name: Name, side: str) -> str:
    """Return a field's name as in PtychoPINN's files."""
    if side == "torch":
        return f"{name.place}_config.{name.field}"
    return name.field if side == "tensorflow" else name.path


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else repr(value)
