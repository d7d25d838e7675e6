"""Units as people and programs write them, strictly: a unit is known and of the right quantity, or it is refused.

Every reader takes its units from here: attributes of HDF5, heads of tables, ends of names, settings.
"""

import itertools
import re
from typing import Literal

import numpy as np

Quantity = Literal["length", "energy", "pixels", "reciprocal length", "angle"]

PREFIXES = {"": 1.0, "k": 1e3, "c": 1e-2, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "a": 1e-18}
PREFIX_WORDS = {"kilo": 1e3, "centi": 1e-2, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9, "pico": 1e-12, "femto": 1e-15}
JOULE_EV = 1 / 1.602176634e-19


def _words(*names: str, factor: float = 1.0) -> dict[str, float]:
    """Return unit names and their plurals with prefix words before them, in lower case."""
    prefixed = itertools.product({"": 1.0} | PREFIX_WORDS, names, ("", "s"))
    return {prefix + name + plural: factor * PREFIX_WORDS.get(prefix, 1.0) for prefix, name, plural in prefixed}


METRES = {
    **{prefix + "m": scale for prefix, scale in PREFIXES.items() if prefix != "a"},
    **_words("metre", "meter"),
    **{"micron": 1e-6, "microns": 1e-6, "mum": 1e-6},
    **{"a": 1e-10, "ang": 1e-10, "angstrom": 1e-10, "angstroms": 1e-10, "angstroem": 1e-10},
}
ELECTRON_VOLTS = {
    **{"ev": 1.0, "kev": 1e3, "gev": 1e9, "v": 1.0, "kv": 1e3},
    **_words("electronvolt", "electron volt", "electron-volt", "volt"),
    **{"megaelectronvolt": 1e6, "gigaelectronvolt": 1e9},
    **{prefix + "j": scale * JOULE_EV for prefix, scale in PREFIXES.items() if prefix not in ("k", "c")},
    **_words("joule", factor=JOULE_EV),
}
"""Electrons of a microscope are given by their voltage, so volts are electron volts."""
CASE_MATTERS = {"MeV": 1e6, "MEV": 1e6, "meV": 1e-3}
PIXELS = dict.fromkeys(("px", "pix", "pixel", "pixels", "object pixels"), 1.0)
RADIANS = {
    **{"rad": 1.0, "mrad": 1e-3, "urad": 1e-6, "nrad": 1e-9},
    **_words("radian"),
    **dict.fromkeys(("deg", "degree", "degrees", "°"), np.pi / 180),
}
FACTORS: dict[Quantity, dict[str, float]] = {
    "length": METRES,
    "energy": ELECTRON_VOLTS,
    "pixels": PIXELS,
    "angle": RADIANS,
    "reciprocal length": {f"{name}^-1": 1 / factor for name, factor in METRES.items()},
}
"""By quantity: factors to m, eV, px, rad and 1/m by the unit's plain name."""
EXAMPLES: dict[Quantity, str] = {
    "length": "m, mm, um, nm or angstrom",
    "energy": "eV, keV or J",
    "pixels": "px",
    "angle": "rad, mrad or deg",
    "reciprocal length": "1/nm or 1/angstrom",
}
SPELLINGS = str.maketrans(
    dict.fromkeys("µμ", "u") | dict.fromkeys("\u00c5\u212b\u00e5", "a") | {"⁻": "-", "¹": "1", "−": "-"}
)
NAMED_UNIT = re.compile(r"^(.*?)\s*(?:[(\[]\s*([^()\[\]]+?)\s*[)\]]|/\s*(\S+)|,\s*(\S+))\s*$")
UNIT_AT_END = re.compile(r"^(.+)_(m|mm|um|nm|pm|angstrom|px|ev|kev|j|rad|mrad|deg)$", re.IGNORECASE)


class UnknownUnitError(ValueError):
    """A unit that is not known, or that belongs to another quantity."""


def plain_text(value: object) -> str:
    """Return text as attributes hold it: str, bytes, or an array of one of them; empty for anything else."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size == 1 else ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).strip().strip("\0").strip() if isinstance(value, str) else ""


def factor(unit: str, quantity: Quantity, where: str) -> float:
    """Return the factor from a unit to m, eV, px, rad or 1/m; 1 for an empty unit.

    Args:
        unit: its name: ``um``, ``[n_m]``, ``Millimeters``, ``1/Å``, ``nm^-1``.
        quantity: the quantity that it must be a unit of.
        where: name of the value in messages.

    Raises:
        UnknownUnitError: if the unit is unknown or of another quantity; the message names both.
    """
    name = _plain_name(unit)
    if not name:
        return 1.0
    if quantity == "energy" and name in CASE_MATTERS:
        return CASE_MATTERS[name]
    known = FACTORS[quantity]
    if name.lower() in known and name.lower() != "mev":
        return known[name.lower()]
    other = quantity_of(unit)
    reason = f"the unit {unit!r} of {'an ' if other in ('energy', 'angle') else 'a '}{other}" if other else None
    if other == "pixels":
        reason = "pixels as its unit"
    raise UnknownUnitError(f"{where} has {reason or f'the unknown unit {unit!r}'}, expected {EXAMPLES[quantity]}")


def quantity_of(unit: str) -> Quantity | None:
    """Return the quantity of a unit, or None for an unknown or empty one."""
    name = _plain_name(unit)
    if name in CASE_MATTERS:
        return "energy"
    return next((quantity for quantity, known in FACTORS.items() if name.lower() in known), None)


def split_unit(name: str) -> tuple[str, str]:
    """Split a name with its unit, ``y (um)``, ``Y [nm]``, ``energy / keV`` or ``pos_um``, into name and unit."""
    match = NAMED_UNIT.match(name)
    if match and match[1]:
        return match[1].strip(), next(group for group in match.groups()[1:] if group)
    match = UNIT_AT_END.match(name.strip())
    return (match[1], match[2]) if match else (name.strip(), "")


def _plain_name(unit: str) -> str:
    """Return a unit's name without brackets and in one spelling; case is kept, a reciprocal ends in ``^-1``."""
    name = unit.translate(SPELLINGS).strip().strip("[]()").strip().replace("_", "")
    name = re.sub(r"\s+", " ", name.replace("{", "").replace("}", "").replace("**", "^"))
    reciprocal = re.fullmatch(r"1\s*/\s*(.+)|per (.+)|(.+?)\s*\^\s*-\s*1(?:\.0)?|(\D+?)-1", name, re.IGNORECASE)
    if reciprocal:
        return f"{next(group for group in reciprocal.groups() if group).strip()}^-1"
    return name
