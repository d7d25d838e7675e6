"""Reader of NeXus files and detectors' masters (Eiger, Merlin ...) of many beamlines, with patterns in known places.

A master links to its data files; those beside it are opened, others are not. Positions often stand in another file
(``source.positions``).
"""

import logging
from pathlib import Path

import numpy as np

from ...io.lazy_stack import Stack, concatenate_stacks
from ...io.safe_hdf5 import Hdf5, MissingFileError
from ..raw_scan import Measurement
from ..scan_positions import Positions, pair_axes, positions_in, table_columns
from .cxi import named_radiation, square_pixel

logger = logging.getLogger(__name__)

PATTERNS = (
    *("/entry/data/data", "/entry/data/eiger_4", "/entry/instrument/detector/data", "/diff_data/merlin1/det_images"),
    *("/entry/measurement/eiger1m/frames", "/entry/measurement/eiger4m/frames", "/entry/measurement/merlin/frames"),
    *("/entry/instrument/Eiger/data", "/entry/measurement/Eiger/data", "/entry1/data/data", "/exchange/data"),
)
"""Paths of patterns; a family ``data_000001`` and on is concatenate_stacks."""
DETECTORS = (
    *("/entry/instrument/detector", "/entry/instrument/eiger_4", "/entry/instrument/Eiger"),
    *("/entry/instrument/detector/detectorSpecific", "/entry1/instrument/detector", "/diff_data/merlin1"),
)
RADIATION = (
    *("/entry/instrument/source/probe", "/entry/source/probe", "/entry1/instrument/source/probe"),
    "/entry/instrument/detector/description",
)
"""Texts that say what the radiation is: the source's, or a camera that is made for electrons."""
BEAMS = ("/entry/instrument/beam", "/entry/sample/beam", "/entry/instrument/monochromator", "/entry1/instrument/beam")
POSITIONS = (
    ("/scan/scan_positions", None, "um"),
    ("/entry/data/y", "/entry/data/x", "m"),
    ("/entry/sample/transformations/y", "/entry/sample/transformations/x", "m"),
    ("/entry/measurement/pseudo/y", "/entry/measurement/pseudo/x", "um"),
    ("/positions_y", "/positions_x", "m"),
)
"""Names of y and x, or of one ``(x, y)`` table, and the unit without an attribute."""


def is_nexus(path: Path) -> bool:
    """Return True if patterns are where detectors and beamlines put them."""
    with Hdf5(path) as file:
        return bool(_family(file)) or _first_present(file) is not None


def read_nexus(path: Path, dataset: str | None = None) -> Measurement:
    """Read a NeXus file or a detector's master; ``dataset`` is another path of the patterns."""
    with Hdf5(path) as file:
        patterns = _patterns(file, dataset)
        energy = _number(file, BEAMS, ("incident_energy", "energy"), "ev")
        energy = energy or file.number("/scan/energy", unit="ev")
        energy = energy or _number(file, DETECTORS, ("photon_energy",), "ev")
        length = _number(file, BEAMS, ("incident_wavelength", "wavelength"), "angstrom")
        x, y = (_number(file, DETECTORS, (f"{axis}_pixel_size", f"{axis}_pixel_size_m"), "m") for axis in "xy")
        beam_y, beam_x = (_number(file, DETECTORS, (f"beam_center_{axis}",), "px") for axis in "yx")
        return Measurement(
            patterns=patterns,
            positions=_positions(file, len(patterns)),
            corner=None,
            beam=(beam_y, beam_x) if beam_y and beam_x else None,
            mask=_mask(file, patterns.shape[1:]),
            wavelength_m=length,
            energy_ev=energy,
            radiation=named_radiation(file, *RADIATION),
            detector_distance_m=_number(file, DETECTORS, ("detector_distance", "distance"), "m"),
            detector_pixel_m=square_pixel(x, y, path.name),
            name=path.stem,
            unread=file.unread,
        )


def _patterns(file: Hdf5, dataset: str | None) -> Stack:
    """Return the patterns of a dataset, or those of the numbered parts, whichever are more.

    Parts that a master names but that were never written, as of a series that was stopped, are left out.
    """
    if dataset is not None:
        return file.stack(dataset, (3, 4))
    name, parts = _first_present(file), []
    for part in _family(file):
        try:
            parts.append(file.stack(part))
        except MissingFileError as error:
            logger.warning("%s: its patterns are left out", str(error).partition(":")[0])
    whole = file.stack(name or PATTERNS[0], (3, 4)) if name or not parts else None
    if whole is None or sum(map(len, parts)) > len(whole):
        return concatenate_stacks(parts)
    return whole


def _first_present(file: Hdf5) -> str | None:
    """Return the first of the usual names that leads to patterns; a link to a missing file only if nothing else does.

    Raises:
        MissingFileError: if such a link is all that the file has.
    """
    missing = None
    for name in PATTERNS:
        try:
            if name in file:
                return name
        except MissingFileError as error:
            missing = missing or error
    if missing is not None and not _family(file):
        raise missing
    return None


def _family(file: Hdf5) -> list[str]:
    """Return the names of the numbered parts that an Eiger master links to."""
    return [f"/entry/data/{name}" for name in sorted(file.names("/entry/data")) if name.startswith("data_")]


def _number(file: Hdf5, groups: tuple[str, ...], names: tuple[str, ...], unit: str) -> float | None:
    value = file.number(*(f"{group}/{name}" for group in groups for name in names), unit=unit)
    return value if value and value > 0 else None  # masters write zeros for what they do not know


def _positions(file: Hdf5, count: int) -> Positions | None:
    for y_name, x_name, unit in POSITIONS:
        if y_name not in file or (x_name is not None and x_name not in file):
            continue
        where = f"{file.path.name}:{y_name}"
        if x_name is None:
            table = table_columns(file.array(y_name, 2), count)
            names = (file.unit(y_name, unit),) * 2
            return positions_in(table[:, [1, 0]], *names, where) if table.shape[1] in (2, 3) else None
        y_x = pair_axes(file.array(y_name), file.array(x_name), count)
        if y_x is not None:
            return positions_in(y_x, file.unit(y_name, unit), file.unit(x_name, unit), where)
    return None


def _mask(file: Hdf5, sides: tuple[int, ...]) -> np.ndarray | None:
    name = file.first(*(f"{group}/{mask}" for group in DETECTORS for mask in ("pixel_mask", "mask")))
    if name is None or file.shape(name) != sides:
        return None
    return file.array(name, 2, kinds="uib") == 0
