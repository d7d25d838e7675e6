"""A read-only view of a folder in the Zarr format, version 2 or 3, that trusts nothing in it."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.extras import missing_extra
from .lazy_stack import Stack

MARKS = (".zgroup", ".zattrs", "zarr.json")
LARGEST_BYTES = 1 << 31
"""Largest array that is read at once, bytes."""
LARGEST_SIDE = 1 << 15


def is_zarr(path: Path) -> bool:
    """Return True for a folder with a group of Zarr arrays."""
    return path.is_dir() and any((path / mark).is_file() for mark in MARKS)


class ZarrStore:
    """The arrays and attributes of a Zarr group.

    Args:
        path: the folder.

    Raises:
        ValueError: if Zarr is not installed, or a link lies in the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if any(place.is_symlink() for place in path.rglob("*")):
            raise ValueError(f"{path.name} holds links, which are not followed: copy what they lead to in their place")
        self._group = _open(path)

    def __contains__(self, name: str) -> bool:
        return name.strip("/") in self._group

    def names(self, group: str = "") -> list[str]:
        """Return the names in a group, in order; an empty list if the group is missing."""
        node: Any = self._group[group] if group and group in self._group else None if group else self._group
        return sorted(node.keys()) if hasattr(node, "keys") else []

    def arrays(self) -> list[str]:
        """Return the paths of all arrays, in order."""
        return sorted(name for name, node in self._group.members(max_depth=None) if hasattr(node, "dtype"))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array; empty if it is missing."""
        node: Any = self._group[name] if name in self else None
        return tuple(node.shape) if hasattr(node, "shape") else ()

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of an array."""
        return np.dtype(self._group[name].dtype)

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of a group or an array; none if it is missing."""
        return dict(self._group[name].attrs) if name in self else {}

    def numbers(self, name: str) -> dict[str, float]:
        """Return the attributes of a group or an array that are finite numbers."""
        values = self.attributes(name).items()
        return {key: float(value) for key, value in values if type(value) in (int, float) and math.isfinite(value)}

    def array(self, name: str) -> np.ndarray:
        """Read a whole array of numbers or booleans.

        Raises:
            ValueError: if it is missing, is of something else, or is too large.
        """
        node = self._checked(name, "buifc")
        if math.prod(node.shape) * node.dtype.itemsize > LARGEST_BYTES:
            raise ValueError(f"{self.path.name}:{name} is larger than {LARGEST_BYTES >> 30} GiB, expected less")
        return np.asarray(node[...])

    def stack(self, name: str) -> Stack:
        """Return an array ``(J, H, W)`` or ``(Jy, Jx, H, W)`` as a stack ``(J, H, W)`` on disk.

        Raises:
            ValueError: if it is missing or of another shape.
        """
        node = self._checked(name, "uif")
        shape = tuple(node.shape)
        if len(shape) not in (3, 4) or 0 in shape or max(shape[-2:]) > LARGEST_SIDE:
            raise ValueError(f"{self.path.name}:{name} has shape {shape}, expected (patterns, H, W)")
        *scan, height, width = shape
        columns = scan[-1]
        dtype = node.dtype.newbyteorder("=")

        def read(start: int, stop: int) -> np.ndarray:
            if len(scan) == 1:
                return np.asarray(node[start:stop], dtype)
            first = start // columns
            rows = np.asarray(node[first : -(-stop // columns)], dtype).reshape(-1, height, width)
            return rows[start - first * columns : stop - first * columns]

        return Stack((math.prod(scan), height, width), dtype, read)

    def _checked(self, name: str, kinds: str) -> Any:
        node: Any = self._group[name] if name in self else None
        if not hasattr(node, "dtype"):
            raise ValueError(f"array {name} not found in {self.path.name}, which holds {', '.join(self.arrays())}")
        if node.dtype.kind not in kinds:
            raise ValueError(f"{self.path.name}:{name} is of {node.dtype}, expected numbers")
        return node


def _open(path: Path) -> Any:
    try:
        import numcodecs.registry
        import zarr
    except ModuleNotFoundError as error:
        remedy = missing_extra(error)
        if remedy is None:
            raise
        raise ValueError(f"{path.name}: {remedy}") from error
    for codecs in (numcodecs.registry.codec_registry, numcodecs.registry.entries):
        codecs.pop("pickle", None)  # nothing is unpickled
    try:
        return zarr.open_group(path, mode="r")
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"{path.name} is not a group of Zarr ({' '.join(str(error).split())}): copy it again"
        ) from error
