"""Predicted patches: one shard per process, in memory or memory-mapped under a manifest that makes them a whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.arrays import as_tensor
from .atomic import preallocate, read_json, write_json

FORMAT = 1
KINDS = {"patches": (4, "f"), "positions": (2, "f"), "members": (2, "i")}
"""Dimensions and kind of number of each array."""
FILES = ("manifest.json", "patches-*.npy", "positions-*.npy", "members-*.npy")
"""What a folder of patches holds."""


class ShardWriter:
    """One process's patches as arrays of known length, filled in order.

    Args:
        folder: where; it may be a folder that other processes write to as well. None keeps them in memory.
        shard: number of this process.
        count: how many patches will come.
        size: side of a patch, S.
        group_size: patterns per group, C.
        dtype: ``float16`` or ``float32``, of the real and the imaginary parts.
    """

    def __init__(self, folder: Path | None, shard: int, count: int, size: int, group_size: int, dtype: str) -> None:
        def create(name: str, kind: str, *shape: int) -> np.ndarray:
            if folder is None:
                return np.empty((count, *shape), kind)
            path = _path(folder, name, shard)
            array = np.lib.format.open_memmap(path, "w+", kind, (count, *shape))
            with path.open("r+b") as file:
                preallocate(file, path.stat().st_size)
            return array

        self._count, self._done = count, 0
        # an empty memory map cannot be made: a process without patches leaves no shard
        self._patches = create("patches", dtype, size, size, 2) if count else None
        self._positions = create("positions", "<f8", 2) if count else None
        self._members = create("members", "<i8", group_size) if count else None

    def write(self, patches: np.ndarray, positions: np.ndarray, members: np.ndarray) -> None:
        """Add patches ``(b, S, S)`` complex, their centres ``(b, 2)`` px and their groups ``(b, C)``."""
        here = slice(self._done, self._done + len(patches))
        torch.from_numpy(self._patches[here]).copy_(torch.view_as_real(torch.from_numpy(patches)))
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
            if isinstance(array, np.memmap):
                array.flush()

    def held(self) -> "PatchSet":
        """What was written, where it was kept in memory."""
        return PatchSet(self._positions, self._members, self._patches.shape[1], (self._patches,), {})


def seal(folder: Path, provenance: dict) -> None:
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
        "provenance": provenance,
    }
    write_json(folder / "manifest.json", manifest)


@dataclass(frozen=True)
class PatchSet:
    """The patches of a scan; those on disk stay there until they are asked for.

    Attributes:
        positions: centre of each patch, px, float64, ``(n, 2)``.
        members: pattern indices of each patch's group, anchor first, ``(n, C)``.
        size: side of a patch, S; index ``k`` of a patch lies at ``k - S // 2`` from its position.
        shards: patches as ``(real, imaginary)`` pairs, memory-mapped, ``(m, S, S, 2)`` each.
        metadata: the manifest.
    """

    positions: np.ndarray
    members: np.ndarray
    size: int
    shards: tuple[np.ndarray, ...]
    metadata: dict

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, which: np.ndarray) -> np.ndarray:
        """Some patches, complex64, ``(b, S, S)``."""
        pairs = torch.empty(len(which), self.size, self.size, 2)
        begin = 0
        for shard in self.shards:
            here = (which >= begin) & (which < begin + len(shard))
            if here.all() and len(which) and len(which) == which[-1] - which[0] + 1 and (np.diff(which) == 1).all():
                pairs.copy_(as_tensor(shard[which[0] - begin : which[-1] - begin + 1]))
                break
            if here.any():
                pairs[torch.from_numpy(here)] = as_tensor(shard[which[here] - begin]).float()
            begin += len(shard)
        return torch.view_as_complex(pairs).numpy()

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Patches ``(b, S, S)`` complex64, positions ``(b, 2)``, members ``(b, C)``, in order, ``size`` at a time."""
        for first in range(0, len(self), size):
            which = np.arange(first, min(first + size, len(self)))
            yield self.take(which), self.positions[which], self.members[which]


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
        arrays = {name: [_open(folder, shard, name) for shard in told] for name in KINDS}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder}/manifest.json is damaged ({error}): run infer again") from None
    if not told:
        raise ValueError(f"{folder}/manifest.json names no patches: run infer again")
    for shard, patches in zip(told, arrays["patches"], strict=True):
        if patches.shape[1:] != (size, size, 2):
            raise ValueError(
                f"{folder}/{shard['patches']} holds {patches.shape}, expected patches of {size} px: run infer again"
            )
    positions, members = np.concatenate(arrays["positions"]), np.concatenate(arrays["members"])
    if not np.isfinite(positions).all():
        raise ValueError(f"{folder} holds positions that are NaN or infinite: run infer again")
    return PatchSet(positions, members, size, tuple(arrays["patches"]), manifest)


def _path(folder: Path, name: str, shard: int) -> Path:
    return Path(folder) / f"{name}-{shard:05d}.npy"


def _describe(folder: Path, patches: Path) -> dict:
    number = int(patches.stem.partition("-")[2])
    count = len(np.load(patches, mmap_mode="r", allow_pickle=False))
    return {"count": count} | {name: _path(folder, name, number).name for name in KINDS}


def _open(folder: Path, shard: dict, name: str) -> np.ndarray:
    """One array of a shard as a memory map, if it is as long as the manifest says."""
    path = folder / Path(shard[name]).name
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is missing, truncated or no array ({error}): run infer again") from None
    dimensions, kind = KINDS[name]
    if array.ndim != dimensions or array.dtype.kind != kind:
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}, which are no {name}: run infer again")
    if len(array) != shard["count"]:
        raise ValueError(f"{path} holds {len(array)} patches, the manifest says {shard['count']}: run infer again")
    return array
