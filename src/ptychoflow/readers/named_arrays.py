"""Reading of a measurement by the names of its arrays, ``source.keys``, in any layout."""

import dataclasses
import logging
import re
from pathlib import Path

import numpy as np

from ..config import KeyEntry, Keys
from ..core.units import Quantity, UnknownUnitError, factor
from ..io.lazy_stack import Stack, stack_of
from .containers import Container, open_container
from .raw_scan import Measurement
from .scan_positions import Positions, pair_axes, positions_in

logger = logging.getLogger(__name__)

LARGEST_IN_MEMORY = 1 << 31
NUMBERS: dict[str, tuple[str, Quantity]] = {
    "energy": ("energy_ev", "energy"),
    "wavelength": ("wavelength_m", "length"),
    "distance": ("detector_distance_m", "length"),
    "pixel": ("detector_pixel_m", "length"),
    "object_pixel": ("pixel_size_m", "length"),
}
"""Keys of single numbers: field of a measurement and quantity."""
GOOD, BAD = re.compile(r"good|valid|weight|trust"), re.compile(r"bad|dead|hot|gap|invalid|pixel_mask|badpix")


def read_named_arrays(path: Path, keys: Keys, measurement: Measurement | None = None) -> Measurement:
    """Read what ``source.keys`` names.

    Args:
        path: an HDF5, NPZ or MATLAB file, or a Zarr folder.
        keys: names, units and multipliers.
        measurement: what a reader found, which the named arrays replace; None where ``keys`` names the patterns.

    Raises:
        ValueError: if an array is missing or has another shape than its use needs; the message names the key.
    """
    with open_container(path) as container:
        if container is None:
            raise ValueError(f"{path.name} has no named arrays, expected HDF5, Zarr, NPZ or MATLAB: drop source.keys")
        if keys.patterns is not None:
            patterns = _patterns(container, keys, keys.patterns)
            known = re.search("amp", keys.patterns.name.rpartition("/")[2].lower()) is not None
            measurement = Measurement(patterns, amplitude=True if known else None, corner=None, name=path.stem)
        if measurement is None:
            raise ValueError(f"patterns of {path.name} are not named: set source.keys.patterns")
        return _overlaid(measurement, container, keys)


def _overlaid(measurement: Measurement, container: Container, keys: Keys) -> Measurement:
    changes: dict = {}
    unread: list[str] = []
    for key, (field, quantity) in NUMBERS.items():
        entry = getattr(keys, key)
        if entry is None:
            continue
        try:
            changes[field] = _number(container, key, entry, quantity)
        except UnknownUnitError as error:
            unread.append(f"{error}; give it in source.keys.{key}.unit")
    if "energy_ev" in changes:
        changes.setdefault("wavelength_m", None)
    if "detector_distance_m" in changes and "detector_pixel_m" in changes:
        changes.setdefault("pixel_size_m", None)
    sides = measurement.patterns.shape[1:]
    if keys.y is not None:
        changes["positions"] = _positions(container, keys, len(measurement.patterns))
    if keys.mask is not None:
        changes["mask"] = _mask(container, keys, keys.mask, sides)
    if keys.probe is not None:
        changes["probe"] = _modes(_complex(container, "probe", keys.probe), container.last)
    if keys.object is not None:
        changes["object"] = _complex(container, "object", keys.object).reshape(-1, *_last_two(container, keys.object))[
            0
        ]
    return dataclasses.replace(measurement, unread=[*measurement.unread, *unread], **changes)


def _patterns(container: Container, keys: Keys, entry: KeyEntry) -> Stack:
    """Return the patterns with the scan along the first axis, as the number of positions shows."""
    info = next((info for info in container.infos() if info.name.strip("/") == entry.name.strip("/")), None)
    if info is None:
        held = ", ".join(info.name for info in container.infos())
        raise ValueError(
            f"source.keys.patterns is {entry.name}, not found in {container.path.name}, which holds {held}"
        )
    if len(info.shape) not in (3, 4):
        raise ValueError(f"source.keys.patterns: {entry.name} has shape {info.shape}, expected (patterns, H, W)")
    if not (container.last or _lies_last(container, keys, info.shape)):
        return _scaled(container.stack(entry.name), entry)
    if info.size * info.dtype.itemsize > LARGEST_IN_MEMORY:
        raise ValueError(f"{entry.name} keeps its patterns along the last axis and is too large for that: transpose it")
    values = container.array(entry.name)
    last = values.transpose(3, 2, 0, 1) if values.ndim == 4 and container.last else None
    last = (
        last if last is not None else np.moveaxis(values, -1, 0) if values.ndim == 3 else values.transpose(2, 3, 0, 1)
    )
    return _scaled(stack_of(last), entry)


def _lies_last(container: Container, keys: Keys, shape: tuple[int, ...]) -> bool:
    """Return True if positions are as many as the last axis, or the first two axes are the sides of a square."""
    if keys.y is not None:
        values = container.array(keys.y.name)
        counts = {values.size, *(values.shape if values.ndim == 2 else ())}
        if shape[0] in counts or int(np.prod(shape[:-2])) in counts:
            return False
        if shape[-1] in counts:
            return True
    return len(shape) == 3 and shape[0] == shape[1] != shape[2]


def _scaled(patterns: Stack, entry: KeyEntry) -> Stack:
    if entry.scale == 1:
        return patterns
    return patterns.map(lambda piece: piece * entry.scale, patterns.shape[1:], np.dtype(np.float64))


def _number(container: Container, key: str, entry: KeyEntry, quantity: Quantity) -> float:
    """Read a single number, or the middle of a column that is the same for all patterns, in m or eV."""
    values = np.asarray(container.array(entry.name), np.float64).ravel()
    values = values[np.isfinite(values)]
    where = f"{container.path.name}:{entry.name}"
    if not len(values) or np.ptp(values) > 0.01 * abs(np.median(values)):
        raise ValueError(f"source.keys.{key}: {where} is not one number: name another array")
    number = float(np.median(values)) * entry.scale * factor(_unit(container, entry), quantity, where)
    if number <= 0:
        raise ValueError(f"source.keys.{key}: {where} is {number:g}, a placeholder: give the value in source.geometry")
    return number


def _positions(container: Container, keys: Keys, count: int) -> Positions:
    assert keys.y is not None
    where = f"{container.path.name}:{keys.y.name}"
    y, x = _column(container, keys.y), None if keys.x is None else _column(container, keys.x)
    if x is None:
        if y.ndim != 2 or 2 not in y.shape or keys.y.column is not None:
            raise ValueError(f"{where} has shape {y.shape}, expected a table of y and x: set source.keys.x too")
        table = y if y.shape[1] == 2 else y.T
        y, x = table.T
    pairs = pair_axes(y, x, count)
    if pairs is None:
        raise ValueError(
            f"{where}: got {y.size} positions along y and {x.size} along x for {count} patterns: name others"
        )
    y_unit, x_unit = (_unit(container, entry) or "m" for entry in (keys.y, keys.x or keys.y))
    return positions_in(pairs, y_unit, x_unit, where)


def _column(container: Container, entry: KeyEntry) -> np.ndarray:
    values = np.asarray(container.array(entry.name), np.float64) * entry.scale
    if entry.column is None:
        return values
    if values.ndim != 2 or entry.column >= max(values.shape):
        raise ValueError(f"{entry.name} has shape {values.shape}, expected a table with column {entry.column}")
    by_row = values.shape[1] <= values.shape[0] if max(values.shape) > 3 else True
    return values[:, entry.column] if by_row else values[entry.column]


def _mask(container: Container, keys: Keys, entry: KeyEntry, sides: tuple[int, ...]) -> np.ndarray:
    """Return True for valid pixels; the name of the mask, or the larger part of the detector, decides its sense."""
    marked = np.asarray(container.array(entry.name)) != 0
    marked = marked.any(0) if marked.ndim == 3 else marked
    if marked.shape != sides:
        raise ValueError(
            f"source.keys.mask: {entry.name} has shape {marked.shape} for patterns of {sides} px: name another array"
        )
    name = entry.name.rpartition("/")[2].lower()
    by_name = "bad" if BAD.search(name) else "good" if GOOD.search(name) else None
    by_share = "bad" if marked.mean() < 0.5 else "good"
    sense = keys.mask_marks if keys.mask_marks != "auto" else by_name or by_share
    logger.info("%s: mask %s marks %s pixels", container.path.name, entry.name, sense)
    return ~marked if sense == "bad" else marked


def _complex(container: Container, key: str, entry: KeyEntry) -> np.ndarray:
    values = np.asarray(container.array(entry.name))
    if values.ndim < 2 or values.dtype.kind not in "cf":
        raise ValueError(f"source.keys.{key}: {entry.name} is {values.dtype} {values.shape}, expected complex (H, W)")
    return values.astype(np.result_type(values.dtype, np.complex64)) * entry.scale


def _last_two(container: Container, entry: KeyEntry) -> tuple[int, int]:
    shape = container.array(entry.name).shape
    return shape[-2], shape[-1]


def _modes(probe: np.ndarray, last: bool) -> np.ndarray:
    if probe.ndim == 3 and (last or probe.shape[0] == probe.shape[1] != probe.shape[2]):
        probe = np.moveaxis(probe, -1, 0)
    return probe.reshape(-1, *probe.shape[-2:])


def _unit(container: Container, entry: KeyEntry) -> str:
    """Return the unit of an entry, else that of the file."""
    if entry.unit is not None:
        return entry.unit
    return next((info.unit for info in container.infos() if info.name.strip("/") == entry.name.strip("/")), "")
