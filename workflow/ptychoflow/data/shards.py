"""Predicted patches on disk: one shard per process, memory-mapped, and a manifest that makes them a whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import read_json, write_json

FORMAT = 1


class ShardWriter:
    """One process's patches as arrays of known length, filled in order.

    Args:
        folder: where; it may be a folder that other processes write to as well.
        shard: number of this process.
        count: how many patches will come.
        size: side of a patch, S.
        group_size: patterns per group, C.
        dtype: ``float16`` or ``float32``, of the real and the imaginary parts.
    """

    def __init__(self, folder: Path, shard: int, count: int, size: int, group_size: int, dtype: str) -> None:
        def create(name: str, kind: str, *shape: int) -> np.ndarray:
            return np.lib.format.open_memmap(_path(folder, name, shard), "w+", kind, (count, *shape))

        self._count, self._done = count, 0
        # an empty memory map cannot be made: a process without patches leaves no shard
        self._patches = create("patches", dtype, size, size, 2) if count else None
        self._positions = create("positions", "<f8", 2) if count else None
        self._members = create("members", "<i8", group_size) if count else None

    def write(self, patches: np.ndarray, positions: np.ndarray, members: np.ndarray) -> None:
        """Add patches ``(b, S, S)`` complex, their centres ``(b, 2)`` px and their groups ``(b, C)``."""
        here = slice(self._done, self._done + len(patches))
        self._patches[here, ..., 0], self._patches[here, ..., 1] = patches.real, patches.imag
        self._positions[here], self._members[here] = positions, members
        self._done += len(patches)

    def close(self) -> None:
        """Bring everything to disk.

        Raises:
            ValueError: if fewer patches came than were announced.
        """
        if self._done != self._count:
            raise ValueError(f"{self._done} patches came, {self._count} were announced")
        for array in (self._patches, self._positions, self._members):
            if array is not None:
                array.flush()


def seal(folder: Path, made_by: dict) -> None:
    """Write the manifest over all shards in a folder: from now on it counts as whole."""
    shards = [_describe(folder, path) for path in sorted(folder.glob("patches-*.npy"))]
    first = np.load(folder / shards[0]["patches"], mmap_mode="r", allow_pickle=False)
    manifest = {
        "format": FORMAT,
        "patches": sum(shard["count"] for shard in shards),
        "size": int(first.shape[1]),
        "dtype": first.dtype.name,
        "shards": shards,
        "units": {"patches": "complex transmission as (real, imaginary)", "positions": "object pixels (y, x)"},
        "provenance": made_by,
    }
    write_json(folder / "manifest.json", manifest)


@dataclass(frozen=True)
class PatchSet:
    """The patches of a scan; the patches themselves stay on disk until they are asked for.

    Attributes:
        positions: centre of each patch, px, float64, ``(n, 2)``.
        members: pattern indices of each patch's group, anchor first, ``(n, C)``.
        size: side of a patch, S; index ``k`` of a patch lies at ``k - S // 2`` from its position.
        shards: patches as ``(real, imaginary)`` pairs, memory-mapped, ``(m, S, S, 2)`` each.
        facts: the manifest.
    """

    positions: np.ndarray
    members: np.ndarray
    size: int
    shards: tuple[np.ndarray, ...]
    facts: dict

    def __len__(self) -> int:
        return len(self.positions)

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Patches ``(b, S, S)`` complex64, positions ``(b, 2)``, members ``(b, C)``, in order, ``size`` at a time."""
        begin = 0
        for shard in self.shards:
            for first in range(0, len(shard), size):
                pairs = np.ascontiguousarray(shard[first : first + size], np.float32)
                here = slice(begin + first, begin + first + len(pairs))
                yield pairs.view(np.complex64)[..., 0], self.positions[here], self.members[here]
            begin += len(shard)


def read_patches(folder: Path) -> PatchSet:
    """Open a folder of patches.

    Raises:
        FileNotFoundError: if there is none, or no whole one.
        ValueError: if the manifest and the arrays disagree, or another version wrote them.
    """
    folder = Path(folder)
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(f"there are no patches in {folder} (no manifest.json): run infer into it")
    manifest = read_json(folder / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{folder} is in format {manifest.get('format')}, this version reads {FORMAT}: run infer again"
        )
    try:
        told, size = manifest["shards"], manifest["size"]
        arrays = {name: [_open(folder, shard, name) for shard in told] for name in ("patches", "positions", "members")}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder}/manifest.json is damaged ({error}): run infer again") from None
    for shard, patches in zip(told, arrays["patches"], strict=True):
        if patches.shape[1:] != (size, size, 2):
            raise ValueError(
                f"{folder}/{shard['patches']} holds {patches.shape}, expected patches of {size} px: run infer again"
            )
    positions, members = np.concatenate(arrays["positions"]), np.concatenate(arrays["members"])
    return PatchSet(positions, members, size, tuple(arrays["patches"]), manifest)


def _path(folder: Path, name: str, shard: int) -> Path:
    return Path(folder) / f"{name}-{shard:05d}.npy"


def _describe(folder: Path, patches: Path) -> dict:
    number = int(patches.stem.partition("-")[2])
    count = len(np.load(patches, mmap_mode="r", allow_pickle=False))
    return {"count": count} | {name: _path(folder, name, number).name for name in ("patches", "positions", "members")}


def _open(folder: Path, shard: dict, name: str) -> np.ndarray:
    """One array of a shard as a memory map, if it is as long as the manifest says."""
    path = folder / Path(shard[name]).name
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is missing, truncated or no array ({error}): run infer again") from None
    if len(array) != shard["count"]:
        raise ValueError(f"{path} holds {len(array)} patches, the manifest says {shard['count']}: run infer again")
    return array
