"""Guesses of which array of a file is what, each with its reason, for a layout that no reader knows."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..config import KeyEntry, Keys
from ..core.units import quantity_of
from .containers import ArrayInfo, Container
from .scan_positions import axis_of, pair_axes

SMALLEST_SIDE = 8
PATTERN_NAME = re.compile(r"data|diff|pattern|frame|image|intens|count|cbed|dp|detector|eiger|merlin|i$")
NO_PATTERN_NAME = re.compile(r"mask|flat|dark|background|white|probe|object|recon|truth|phase")
TABLE_NAME = re.compile(r"pos|coord|point|scan|trans|xy|yx|motor|traj")
NUMBER_NAMES = {
    "energy": r"(photon|beam|xray|x_ray|incident|mono|source|electron|accelerati(ng|on))?_?(beam_)?"
    r"(energy|e|en|nrj|voltage|ht|e0)",
    "wavelength": r"(incident_)?(wave_?length|lambda|lam|wl)",
    "distance": r"(det(ector)?|sample|cam(era)?|propagation)?_?(to_?)?(det(ector)?_?)?"
    r"(dist(ance)?|z|length|sdd|l)|det_sample_dist|detector_object_distance",
    "pixel": r"(x_|y_|det(ector)?_?|ccd_?|cam(era)?_?)?"
    r"(pix(el)?s?_?(size|pitch|width|height)?|psize|pitch|px_?size)(_?[xy])?",
    "object_pixel": r"(obj(ect)?|recon(struction)?|sample|real(space)?)_?pix(el)?_?(size|width|height)?|dx|dr",
}
MASK_NAME = re.compile(r"mask|bad|dead|good|valid|gap|weight")


@dataclass
class Guess:
    """Guesses of what a file holds.

    Attributes:
        keys: the guess, as ``source.keys``.
        reasons: for each key, why.
    """

    keys: Keys = field(default_factory=Keys)
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, entry: KeyEntry, reason: str) -> None:
        """Add the guess of one key."""
        self.keys = self.keys.model_copy(update={key: entry})
        self.reasons[key] = reason


def guess_keys(container: Container, known: tuple[int, ...] | None = None) -> Guess:
    """Guess which array is what by shapes, names, units and magnitudes.

    Args:
        container: the file.
        known: shape ``(J, H, W)`` of the patterns where a reader found them; they are not guessed then.
    """
    infos = [info for info in container.infos() if 0 not in info.shape and info.dtype.kind in "buifc"]
    guess = Guess()
    shape = known or _guess_patterns(infos, guess)
    if shape is None:
        return guess
    _guess_positions(infos, container, shape, guess)
    for key in NUMBER_NAMES:
        _guess_number(infos, key, guess)
    _guess_images(infos, shape, guess)
    return guess


def _guess_patterns(infos: Sequence[ArrayInfo], guess: Guess) -> tuple[int, ...] | None:
    def score(info: ArrayInfo) -> float:
        return info.size * (4 if PATTERN_NAME.search(info.last_name) else 1)

    stacks = [
        info
        for info in infos
        if info.dtype.kind in "uif"
        and len(info.shape) in (3, 4)
        and sum(side >= SMALLEST_SIDE for side in info.shape) >= 2
        and not NO_PATTERN_NAME.search(info.last_name)
    ]
    if not stacks:
        return None
    best = max(stacks, key=score)
    others = [info.name for info in stacks if info is not best]
    reason = f"the largest stack of images, {best.dtype} {best.shape}"
    guess.set("patterns", KeyEntry(name=best.name), reason + (f"; also {', '.join(others)}" if others else ""))
    return best.shape


def _counts(shape: tuple[int, ...]) -> set[int]:
    """Return the numbers of patterns that a shape may have: along its first axes or its last."""
    if len(shape) == 3:
        return {shape[0], shape[-1]} if shape[0] == shape[1] else {shape[0]} | ({shape[-1]} - {shape[1]})
    return {shape[0] * shape[1], shape[2] * shape[3]}


def _guess_positions(infos: Sequence[ArrayInfo], container: Container, shape: tuple[int, ...], guess: Guess) -> None:
    """Guess two axes by their names, else a table, else the only two columns that vary."""
    real = [
        info for info in infos if info.dtype.kind in "uif" and info.size > 1 and info.name != _name(guess.keys.patterns)
    ]
    counts = sorted(_counts(shape), reverse=True)
    lists = [info for info in real if info.size in counts and not _is_table(info, counts)]
    axes = {axis: [info for info in real if axis_of(info.last_name) == axis] for axis in "yx"}
    pairs = [(y, x) for y in axes["y"] for x in axes["x"] if _pairs_up(y, x, counts, container)]
    if pairs:
        y, x = max(pairs, key=lambda pair: _preference(*pair))
        reason = "named for an axis, one a pattern" if y.size in counts else "named for the axes of a raster"
        _set_axes(guess, y, x, reason)
        return
    tables = [info for info in real if _is_table(info, counts)]
    named = [info for info in tables if TABLE_NAME.search(info.last_name)] or tables
    if named:
        first = 1 if "xy" in named[0].last_name or axis_of(named[0].last_name) == "x" else 0
        for axis, column in (("y", first), ("x", 1 - first)):
            guess.set(axis, KeyEntry(name=named[0].name, column=column), "a table with one row a pattern")
        return
    varying = [info for info in lists if np.ptp(np.asarray(container.array(info.name), np.float64)) > 0]
    if len(varying) == 2:
        _set_axes(guess, varying[0], varying[1], "the only two columns with one value a pattern; which is y is open")


def _set_axes(guess: Guess, y: ArrayInfo, x: ArrayInfo, reason: str) -> None:
    guess.set("y", KeyEntry(name=y.name), reason)
    guess.set("x", KeyEntry(name=x.name), reason)


def _is_table(info: ArrayInfo, counts: Sequence[int]) -> bool:
    return len(info.shape) == 2 and any(
        (info.shape[0] == count and info.shape[1] in (2, 3)) or (info.shape[1] == count and info.shape[0] in (2, 3))
        for count in counts
        if count > 3
    )


def _pairs_up(y: ArrayInfo, x: ArrayInfo, counts: Sequence[int], container: Container) -> bool:
    if not any(y.size == x.size == count or y.size * x.size == count for count in counts):
        return False
    pairs = pair_axes(container.array(y.name), container.array(x.name), y.size if y.size in counts else y.size * x.size)
    return pairs is not None and bool(np.nanmax(np.ptp(pairs, axis=0)) > 0)


def _preference(y: ArrayInfo, x: ArrayInfo) -> tuple[bool, bool, int]:
    """Prefer what is measured, in one group, with a shorter name."""
    measured = any(re.search("readback|rbv|enc|fine|corr|true|real", info.name.lower()) for info in (y, x))
    same = y.name.rpartition("/")[0] == x.name.rpartition("/")[0]
    return measured, same, -len(y.name) - len(x.name)


def _guess_number(infos: Sequence[ArrayInfo], key: str, guess: Guess) -> None:
    for info in infos:
        if info.value is None or info.value <= 0 or not re.fullmatch(NUMBER_NAMES[key], info.last_name):
            continue
        expected = "energy" if key == "energy" else "length"
        quantity = quantity_of(info.unit)
        if quantity == expected:
            guess.set(key, KeyEntry(name=info.name), f"its name, {info.value:.6g} {info.unit}")
            return
        if info.unit and quantity is not None:
            continue
        unit, why = LIKELY_UNITS[key](info.value)
        if key == "energy" and re.search("volt|ht|e0|electron", info.last_name) and info.value < 1000:
            unit, why = "keV", ", of electrons"
        target = "object_pixel" if key == "pixel" and unit == "m" and info.value < 1e-6 else key
        guess.set(
            target, KeyEntry(name=info.name, unit=unit), f"its name; {info.value:.6g} {unit} by its magnitude{why}"
        )
        return


def _energy_unit(value: float) -> tuple[str, str]:
    if value < 1e-10:
        return "J", ""
    return ("keV", ", eV would be no X-rays") if value < 50 else ("eV", "")


def _wavelength_unit(value: float) -> tuple[str, str]:
    if value < 1e-5:
        return "m", ""
    return ("angstrom", ", or nm") if 0.3 <= value <= 6 else ("nm", "")


def _distance_unit(value: float) -> tuple[str, str]:
    return ("m", "") if value <= 30 else ("mm", "") if value < 1e5 else ("um", "")


def _pixel_unit(value: float) -> tuple[str, str]:
    return ("m", "") if value < 2e-3 else ("mm", "") if value < 1 else ("um", "")


def _object_pixel_unit(value: float) -> tuple[str, str]:
    return ("m", "") if value < 1e-3 else ("nm", "")


LIKELY_UNITS: dict[str, Callable[[float], tuple[str, str]]] = {
    "energy": _energy_unit,
    "wavelength": _wavelength_unit,
    "distance": _distance_unit,
    "pixel": _pixel_unit,
    "object_pixel": _object_pixel_unit,
}


def _guess_images(infos: Sequence[ArrayInfo], shape: tuple[int, ...], guess: Guess) -> None:
    """Guess mask, probe and object by their names and shapes."""
    frames = {shape[-2:], shape[:2], shape[1:3] if len(shape) == 3 else shape[-2:]}
    for info in infos:
        name = info.last_name
        if info.dtype.kind != "c" and info.shape in frames and MASK_NAME.search(name) and not guess.keys.mask:
            guess.set("mask", KeyEntry(name=info.name), "its name and the shape of a pattern")
        of_frame = bool({info.shape[-2:], info.shape[:2]} & frames) and len(info.shape) in (2, 3)
        if info.dtype.kind == "c" and of_frame and not re.search("obj", name) and not guess.keys.probe:
            guess.set("probe", KeyEntry(name=info.name), "complex, of the size of a pattern")
        if info.dtype.kind == "c" and re.search("obj|truth|sample", name) and not guess.keys.object:
            guess.set("object", KeyEntry(name=info.name), "its name; used as ground truth only if you say so")


def _name(entry: KeyEntry | None) -> str:
    return "" if entry is None else entry.name
