"""Decoder of MATLAB's v5 files: a damaged file can crash SciPy's reader, and only plain arrays are needed."""

import math
import zlib
from pathlib import Path

import numpy as np

LARGEST_VARIABLE = 1 << 32
HEADER, MATRIX, COMPRESSED, COMPLEX = 128, 14, 15, 0x08
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Storage of numbers, by the type in an element's tag."""
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Dtype of a plain numeric array by its class; cells, structures, text and sparse arrays are left out."""


def read_v5(path: Path) -> dict[str, np.ndarray]:
    """Read the plain numeric arrays of a v5 file by name, with MATLAB's axes.

    Raises:
        ValueError: if it is damaged, or written on a machine of the other byte order.
    """
    content = np.memmap(path, np.uint8, "r")
    if len(content) < HEADER or bytes(content[126:128]) != b"IM":
        raise ValueError(f"{path.name} is damaged or not a little-endian MATLAB v5 file: save it again as v7.3")
    arrays, at = {}, HEADER
    while at + 8 <= len(content):
        kind, length = (int(part) for part in content[at : at + 8].view("<u4"))
        body = content[at + 8 : at + 8 + length]
        if len(body) < length:
            raise ValueError(f"{path.name} ends inside a variable: download it again")
        if kind == COMPRESSED:
            kind, body = _unpacked(body, path)
        if kind == MATRIX and (variable := _variable(body, path)) is not None:
            arrays[variable[0]] = variable[1]
        at += 8 + length
    return arrays


def _unpacked(body: np.ndarray, path: Path) -> tuple[int, np.ndarray]:
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(body.tobytes(), LARGEST_VARIABLE)
    except zlib.error as error:
        raise ValueError(f"{path.name} is damaged ({error}): download it again") from None
    if stream.unconsumed_tail or len(unpacked) < 8:
        raise ValueError(
            f"{path.name} holds a variable that is empty or over {LARGEST_VARIABLE >> 20} MiB: save the scan as v7.3"
        )
    plain = np.frombuffer(unpacked, np.uint8)
    kind, length = (int(part) for part in plain[:8].view("<u4"))
    return kind, plain[8 : 8 + length]


def _variable(body: np.ndarray, path: Path) -> tuple[str, np.ndarray] | None:
    """Return name and value of a variable, if it is a plain numeric array."""
    flags, at = _element(body, 0, path)
    sides, at = _element(body, at, path)
    name, at = _element(body, at, path)
    if len(flags) < 2 or flags.dtype != "<u4" or int(flags[0]) & 0xFF not in CLASSES:
        return None
    shape = tuple(int(side) for side in sides)
    real, at = _element(body, at, path)
    parts = [real] if not int(flags[0]) >> 8 & COMPLEX else [real, _element(body, at, path)[0]]
    if any(side < 0 for side in shape) or any(len(part) != math.prod(shape) for part in parts):
        raise ValueError(
            f"{path.name}: a variable claims the shape {shape}, which its values do not fill: download it again"
        )
    values = [part.astype(CLASSES[int(flags[0]) & 0xFF]) for part in parts]
    value = values[0] if len(values) == 1 else values[0] + 1j * values[1]
    return name.tobytes().decode("latin1"), value.reshape(shape, order="F")


def _element(body: np.ndarray, at: int, path: Path) -> tuple[np.ndarray, int]:
    """Return the numbers of the element that begins at byte ``at``, and the offset of the next one."""
    if at + 8 > len(body):
        raise ValueError(f"{path.name}: a variable ends too early: download it again")
    kind, length = (int(part) for part in body[at : at + 8].view("<u4"))
    first = at + 8
    if kind >> 16:  # up to four bytes stand in the tag itself
        kind, length, first = kind & 0xFFFF, kind >> 16, at + 4
    data = body[first : first + length]
    if kind not in STORED or len(data) < length or length % np.dtype(STORED[kind]).itemsize:
        raise ValueError(f"{path.name}: a variable is damaged: download it again")
    after = at + 8 if first == at + 4 else first + length + -length % 8
    return np.ascontiguousarray(data).view("<" + STORED[kind]), after
