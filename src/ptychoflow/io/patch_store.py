"""Predicted patches: one shard per process, in memory, or memory-mapped and listed in a manifest."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from ..core.arrays import as_tensor
from ..runtime.memory import check_memory
from .atomic import preallocate, read_whole, write_json
from .json_file import Schema, check_schema, read_json
from .metadata import Provenance
from .npz_archive import open_npy
from .regular_file import check_regular

FORMAT = 1
REMEDY = "run infer again"
KINDS = {"patches": (4, "f"), "positions": (2, "f"), "members": (2, "i")}
"""Number of dimensions and kind of dtype of each array."""
FILES = ("manifest.json", "patches-*.npy", "positions-*.npy", "members-*.npy")
"""Names of the files of a folder of patches."""


class ShardWriter:
    """Writer of one process's patches to arrays of known length, filled in order.

    Args:
        folder: folder of the shard, which other processes may write to as well; None keeps the patches in memory.
        shard: rank of this process.
        count: number of patches that will be written.
        size: side of a patch, S, px.
        group_size: patterns per group, C.
        dtype: ``float16`` or ``float32``, of the real and the imaginary parts.
    """

    def __init__(self, folder: Path | None, shard: int, count: int, size: int, group_size: int, dtype: str) -> None:
        if folder is None:
            needed = 2 * np.dtype(dtype).itemsize * count * size**2
            check_memory(needed, f"{count} patches of {size} px in memory", "predict them with the command infer")

        def create(name: str, kind: str, *shape: int) -> np.ndarray:
            if folder is None:
                return np.empty((count, *shape), kind)
            path = _path(folder, name, shard)
            array = np.lib.format.open_memmap(path, "w+", kind, (count, *shape))
            with path.open("r+b") as file:
                preallocate(file, path.stat().st_size)
            return array

        self._count, self._done = count, 0
        self._arrays: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        if count:  # an empty memory map cannot be created: a process without patches writes no shard
            self._arrays = (
                create("patches", dtype, size, size, 2),
                create("positions", "<f8", 2),
                create("members", "<i8", group_size),
            )

    def write(self, patches: np.ndarray, positions: np.ndarray, members: np.ndarray) -> None:
        """Append patches.

        Args:
            patches: complex transmission, ``(B, S, S)``.
            positions: centre of each patch, px, ``(B, 2)``.
            members: pattern indices of each patch's group, ``(B, C)``.
        """
        stored_patches, stored_positions, stored_members = self._stored()
        rows = slice(self._done, self._done + len(patches))
        torch.from_numpy(stored_patches[rows]).copy_(torch.view_as_real(torch.from_numpy(patches)))
        stored_positions[rows], stored_members[rows] = positions, members
        self._done += len(patches)

    def close(self) -> None:
        """Flush everything to disk.

        Raises:
            ValueError: if not as many patches were written as the arrays are long.
        """
        if self._done != self._count:
            raise ValueError(f"got {self._done} patches, expected {self._count}: predict the scan again")
        for array in self._arrays or ():
            if isinstance(array, np.memmap):
                array.flush()

    def in_memory(self) -> "PatchSet":
        """Return the patches that were kept in memory."""
        patches, positions, members = self._stored()
        return PatchSet(positions, members, patches.shape[1], (patches,), {})

    def _stored(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._arrays is None:
            raise ValueError("got patches for a shard of 0 patches: give their count to the writer")
        return self._arrays


def seal(folder: Path, provenance: dict) -> None:
    """Write the manifest of all shards in a folder, which makes the folder complete.

    Args:
        folder: folder with the shards of all processes.
        provenance: code version, settings and inputs, as of :func:`ptychoflow.io.provenance.record_provenance`.
    """
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


class Shard(Schema):
    """Files of one process, and the number of their patches."""

    count: Annotated[int, Field(gt=0)]
    patches: str
    positions: str
    members: str


class Manifest(Schema):
    """The manifest of a folder of patches."""

    size: Annotated[int, Field(gt=0)]
    shards: list[Shard]
    provenance: Provenance = Provenance()


@dataclass(frozen=True)
class PatchSet:
    """The predicted patches of a scan, P of them; those on disk are read on use.

    Attributes:
        positions: centre of each patch, px, float64, ``(P, 2)``.
        members: pattern indices of each patch's group, anchor first, ``(P, C)``.
        size: side of a patch, S, px; index ``k`` of a patch is ``k - S // 2`` px from its position.
        shards: patches as ``(real, imaginary)`` pairs, memory-mapped, ``(p, S, S, 2)`` each.
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
        """Return the patches of these indices ``(B,)``, complex64, ``(B, S, S)``."""
        pairs = torch.empty(len(which), self.size, self.size, 2)
        begin = 0
        for shard in self.shards:
            in_shard = (which >= begin) & (which < begin + len(shard))
            if in_shard.all() and len(which) and len(which) == which[-1] - which[0] + 1 and (np.diff(which) == 1).all():
                pairs.copy_(as_tensor(shard[which[0] - begin : which[-1] - begin + 1]))
                break
            if in_shard.any():
                pairs[torch.from_numpy(in_shard)] = as_tensor(shard[which[in_shard] - begin]).float()
            begin += len(shard)
        return torch.view_as_complex(pairs).numpy()

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield patches ``(B, S, S)`` complex64, positions ``(B, 2)`` and members ``(B, C)`` in order, B = ``size``."""
        for first in range(0, len(self), size):
            which = np.arange(first, min(first + size, len(self)))
            yield self.take(which), self.positions[which], self.members[which]


def read_patches(folder: Path) -> PatchSet:
    """Open a folder of patches.

    Raises:
        FileNotFoundError: if the folder holds no complete set of patches.
        ValueError: if the manifest and the arrays disagree, or another version wrote them.
    """
    folder = Path(folder)
    return read_whole(folder, lambda: _read_patches(folder))


def _read_patches(folder: Path) -> PatchSet:
    check_regular(folder / "manifest.json")
    if not (folder / "manifest.json").is_file():
        raise FileNotFoundError(f"patches not found: {folder} holds no manifest.json: run infer into it")
    manifest = read_json(folder / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{folder} is in format {manifest.get('format')}, this version reads {FORMAT}: run infer again"
        )
    check_schema(manifest, Manifest, f"{folder}/manifest.json", REMEDY)
    shards, size = manifest["shards"], manifest["size"]
    if not shards:
        raise ValueError(f"{folder}/manifest.json names 0 shards, expected at least 1: {REMEDY}")
    arrays = {name: [_open_shard(folder, shard, name) for shard in shards] for name in KINDS}
    for shard, patches in zip(shards, arrays["patches"], strict=True):
        if patches.shape[1:] != (size, size, 2):
            raise ValueError(
                f"{folder}/{shard['patches']} holds {patches.shape}, expected patches of {size} px: run infer again"
            )
    widths = {name: {array.shape[1] for array in arrays[name]} for name in ("members", "positions")}
    if len(widths["members"]) > 1 or widths["positions"] != {2}:
        raise ValueError(f"{folder} holds shards of different shapes: {REMEDY}")
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


def _open_shard(folder: Path, shard: dict, name: str) -> np.ndarray:
    """Open one array of a shard as a memory map, if it is as long as the manifest says."""
    path = folder / Path(shard[name]).name
    try:
        array = open_npy(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is missing, truncated or not an array ({error}): run infer again") from None
    dimensions, kind = KINDS[name]
    if array.ndim != dimensions or array.dtype.kind != kind:
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}, which cannot be {name}: run infer again")
    if len(array) != shard["count"]:
        raise ValueError(f"{path} holds {len(array)} patches, the manifest says {shard['count']}: run infer again")
    return array
