"""Readers of electron microscopes' files through RosettaSciIO: Merlin ``.mib``, Gatan ``.dm3``, ``.dm4``, ``.blo``.

The library comes with the extra ``em``. Patterns stay on disk.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core.units import plain_text, quantity_of
from ...io.lazy_stack import Stack
from ...runtime.extras import missing_extra
from ..rasters import Step, lengths_of_axes, raster_of_axes
from ..raw_scan import Measurement

ALL_FRAMES = 1 << 40
"""More frames than a Merlin file can have: RosettaSciIO then gives all, and guesses no shape from timestamps."""
TENTH_MM = 1e-4
FRAME_MARK = 6
"""Bytes before each pattern of a block file."""


def is_merlin(path: Path) -> bool:
    """Return True for a file of Merlin and Medipix frames, each behind its header."""
    return _head(path, 3) == b"MQ1"


def is_digital_micrograph(path: Path) -> bool:
    """Return True for a ``.dm3`` or ``.dm4`` of Gatan's DigitalMicrograph."""
    return path.suffix.lower() in (".dm3", ".dm4") and _head(path, 4) in (b"\0\0\0\x03", b"\0\0\0\x04")


def is_blockfile(path: Path) -> bool:
    """Return True for a block file of NanoMEGAS."""
    return _head(path, 6) == b"IMGBLO"


def is_microscope_file(path: Path) -> bool:
    """Return True for a file that one of these readers reads."""
    return is_merlin(path) or is_digital_micrograph(path) or is_blockfile(path)


def read_merlin(path: Path, dataset: str | None = None) -> Measurement:
    """Read the frames of a ``.mib``; the ``.hdr`` beside it tells the shape of a scan that was triggered by rows.

    Raises:
        ValueError: if RosettaSciIO is missing, or the file is cut or of raw counters.
    """
    (signal,) = _signals("quantumdetector", path, navigation_shape=(ALL_FRAMES,))
    frame = signal["original_metadata"]["mib_properties"]
    size = frame["head_size"] + math.prod(frame["merlin_size"]) * np.dtype(frame["dtype"]).itemsize
    if path.stat().st_size % size:
        raise ValueError(f"{path.name} is cut: {path.stat().st_size} bytes are not frames of {size}: copy it again")
    measurement = _measurement(path, signal, {})
    shape = _triggered_shape(signal["original_metadata"].get("hdr_file", {}), len(measurement.patterns))
    measurement.metadata.update({} if shape is None else {"scan_shape": shape})
    return measurement


def read_digital_micrograph(path: Path, dataset: str | None = None) -> Measurement:
    """Read the largest stack or datacube of a ``.dm3`` or ``.dm4``.

    Raises:
        ValueError: if RosettaSciIO is missing, or the file holds no patterns.
    """
    signals = [signal for signal in _signals("digitalmicrograph", path) if signal["data"].ndim in (3, 4)]
    if not signals:
        raise ValueError(f"patterns not found in {path.name}, expected a stack or datacube of 3 or 4 dimensions")
    signal = max(signals, key=lambda signal: int(signal["data"].size))
    return _measurement(path, signal, _instrument(signal))


def read_blockfile(path: Path, dataset: str | None = None) -> Measurement:
    """Read the scan of a block file.

    Raises:
        ValueError: if RosettaSciIO is missing, or the file is cut.
    """
    (signal,) = _signals("blockfile", path)
    header = signal["original_metadata"]["blockfile_header"]
    rows, columns, side = (int(header[name]) for name in ("NY", "NX", "DP_SZ"))
    needed = int(header["Data_offset_2"]) + rows * columns * (side**2 + FRAME_MARK)
    if path.stat().st_size < needed:
        raise ValueError(f"{path.name} is cut: {path.stat().st_size} bytes, expected {needed}: copy it again")
    known: dict[str, Any] = {"energy_ev": float(header["Beam_energy"]) or None}
    known["detector_distance_m"] = float(header["Camera_length"]) * TENTH_MM or None
    measurement = _measurement(path, signal, known)
    if header["Scan_rotation"]:
        measurement.metadata["scan_rotation_deg"] = float(header["Scan_rotation"]) / 100
    return measurement


def _head(path: Path, count: int) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(count)


def _signals(reader: str, path: Path, **more: object) -> list[dict[str, Any]]:
    """Return what RosettaSciIO reads of a file, its arrays left on disk.

    Raises:
        ValueError: if it is not installed, or does not read the file.
    """
    import importlib

    try:
        module = importlib.import_module(f"rsciio.{reader}")
    except ModuleNotFoundError as error:
        remedy = missing_extra(error)
        if remedy is None:
            raise
        raise ValueError(f"{path.name}: {remedy}") from error
    logging.getLogger("rsciio").setLevel(logging.ERROR)  # it misses a .hdr, which need not be there
    try:
        signals: list[dict[str, Any]] = module.file_reader(str(path), lazy=True, **more)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(
            f"RosettaSciIO cannot read {path.name} ({' '.join(str(error).split())}): copy it again"
        ) from error
    return signals


def _measurement(path: Path, signal: dict[str, Any], known: Mapping[str, Any]) -> Measurement:
    """Return the measurement of a signal, ``(J, H, W)`` or ``(Jy, Jx, H, W)``, with its calibration."""
    data, axes = signal["data"], sorted(signal["axes"], key=lambda axis: axis["index_in_array"])
    if data.ndim not in (3, 4) or data.dtype.kind not in "uif":
        raise ValueError(f"{path.name} holds {data.dtype} of shape {data.shape}, expected numbers of 3 or 4 dimensions")
    steps = [_step(axis) for axis in axes]
    if data.ndim == 4 and _is_scan_last(steps):
        data, steps = data.transpose(2, 3, 0, 1), steps[2:] + steps[:2]
    lengths, unread = lengths_of_axes(steps[-2], steps[-1], data.shape[-1], path.name)
    scan = data.shape[:-2]
    return Measurement(
        patterns=_stack(data),
        positions=raster_of_axes(steps[0], steps[1], scan, path.name) if len(scan) == 2 else None,
        amplitude=False,
        corner=False,
        radiation="electrons",
        name=path.stem,
        unread=unread,
        metadata={"scan_shape": list(scan)} if len(scan) == 2 else {},
        **lengths | {name: value for name, value in known.items() if value and name not in lengths},
    )


def _step(axis: dict[str, Any]) -> Step | None:
    """Return the step of an axis and its unit; None for an axis of one point."""
    if axis["size"] < 2:
        return None
    return abs(float(axis.get("scale", 1.0))), plain_text(axis.get("units"))


def _is_scan_last(steps: list[Step | None]) -> bool:
    """Return True where patterns lie along the first two axes, by the units: Gatan's files may have either order."""
    first, last = ({quantity_of(step[1]) for step in pair if step} for pair in (steps[:2], steps[2:]))
    return bool(first & {"reciprocal length", "angle"}) and last == {"length"}


def _stack(data: Any) -> Stack:
    """Return a dask array ``(..., H, W)`` as a stack that reads piece by piece in this thread."""
    flat = data.reshape((-1, *data.shape[-2:]))
    dtype = flat.dtype.newbyteorder("=")

    def read(start: int, stop: int) -> np.ndarray:
        return np.asarray(flat[start:stop].compute(scheduler="synchronous")).astype(dtype, copy=False)

    return Stack(flat.shape, dtype, read)


def _instrument(signal: dict[str, Any]) -> dict[str, Any]:
    """Return energy, half angle of the beam and camera length, found in Gatan's tags."""
    found = dict.fromkeys(("beam_energy", "convergence_angle", "camera_length"), 0.0)
    for place, (name, convert) in signal.get("mapping", {}).items():
        value, name = _tag(signal["original_metadata"], place), name.rpartition(".")[2]
        if name in found and isinstance(value, (int, float)) and value > 0 and math.isfinite(value):
            found[name] = float(value if convert is None else convert(value))
    return {
        "energy_ev": found["beam_energy"] * 1e3,
        "aperture_rad": found["convergence_angle"] * 1e-3,
        "detector_distance_m": found["camera_length"] * 1e-3,
    }


def _tag(tags: Any, place: str) -> object:
    """Return the value at a dotted place of nested tags; None if it is missing."""
    for name in place.split("."):
        tags = tags.get(name) if isinstance(tags, dict) else None
    return tags


def _triggered_shape(header: Mapping[str, str], count: int) -> list[int] | None:
    """Return rows and columns of a scan whose rows were triggered, by the ``.hdr``; None if they are not known."""
    columns = header.get("Frames per Trigger (Number)", "").strip()
    if not columns.isdigit() or int(columns) < 2 or count % int(columns):
        return None
    return [count // int(columns), int(columns)]
