"""Pack a scan into a dataset folder, streaming: from CXI, with the patterns and pixels that are asked for."""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from ..config import HALVES, Packing
from ..core.scan import Scan, check_counts, smallest_dtype
from ..io.dataset import CHECKSUM, PIECE, write_dataset
from ..io.provenance import record_provenance
from ..io.scan_cxi import iterate_counts, read_scan
from ..preprocessing.detector_pixels import Pixels, Survey, displacement, survey
from ..runtime.progress import track

logger = logging.getLogger(__name__)


def pack(scan: Path, output: Path, packing: Packing = Packing(), half: Literal["even", "odd"] | None = None) -> None:
    """Pack a scan into a dataset, a folder of memory-mapped arrays.

    Reads a CXI file in pieces. Makes a dataset with a manifest and checksums, cropped or binned where asked.

    Args:
        scan: a CXI file that ``simulate`` or ``convert`` wrote.
        output: the dataset folder; its name is that of the dataset.
        packing: what to keep of each pattern.
        half: keep every second pattern, from the first (``even``) or the second (``odd``) on, for split-half metrics;
            all without it.

    Raises:
        FileNotFoundError: if there is no scan.
        ValueError: if the scan is damaged, holds impossible counts or is smaller than the crop.
        OSError: if the disk is full or must not be written.

    Example:
        ptychoflow pack star.cxi datasets/star --set packing.crop=64
    """
    began = time.perf_counter()
    whole = read_scan(scan, counts=False)
    logger.info("read %s: %d patterns of %d px, %s", scan, len(whole), whole.size, whole.counts.dtype)
    found = _survey(scan, whole, packing)
    chosen = _choose(whole, half, found.flawed if packing.invalid_counts == "drop" else np.zeros(len(whole), bool))
    pixels = _pixels(whole, packing, found)
    stream = _Stream(scan, whole, chosen, pixels)
    kept = pixels.of_scan(_keep(whole, chosen, half, Path(output).name))

    def provenance(arrays: dict) -> dict:
        record = record_provenance({"packing": packing.model_dump(mode="json"), "half": half})
        source = {"name": scan.name, "content": _fingerprint(whole, stream.checksum(arrays["counts"][CHECKSUM]))}
        return record | {"inputs": {"scan": source}}

    write_dataset(output, kept, stream, provenance)
    seconds = time.perf_counter() - began
    logger.info(
        "packed %s: %d patterns of %d px in %.1f s, %.2g GB/s",
        *(output, len(kept), kept.size, seconds, whole.counts.nbytes / seconds / 1e9),
    )


class _Stream:
    """The counts of a scan file in pieces, only what is kept of them; counts that no detector gives are refused.

    Args:
        path: the scan file.
        whole: what it holds.
        chosen: True for each pattern that is kept, ``(J,)``.
        pixels: what is kept of them.
    """

    def __init__(self, path: Path, whole: Scan, chosen: np.ndarray, pixels: Pixels) -> None:
        self._path, self._whole, self._chosen, self._pixels = path, whole, chosen, pixels
        self._source: xxhash.xxh3_64 | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        done, keeps_all = 0, self._pixels.keeps_all and self._chosen.all()
        for piece in _pieces(self._path, self._whole, "packing"):
            if done == 0 and not (keeps_all and smallest_dtype(piece) == piece.dtype):
                self._source = xxhash.xxh3_64()
            if self._source is not None:
                self._source.update(memoryview(piece).cast("B"))
            chosen = self._chosen[done : done + len(piece)]
            where = f"{self._path}: patterns {done} to {done + len(piece) - 1}"
            done += len(piece)
            if chosen.any():
                kept = self._pixels.of_counts(piece if chosen.all() else piece[chosen])
                check_counts(kept, where)
                yield kept

    def checksum(self, of_product: str) -> str:
        """The checksum of the counts in the file; that of the dataset where both are the same bytes."""
        return of_product if self._source is None else self._source.hexdigest()


def _pieces(path: Path, whole: Scan, what: str) -> Iterator[np.ndarray]:
    """The counts as they are in the file, with a progress bar."""
    per_piece = max(1, PIECE // (whole.counts.dtype.itemsize * whole.size**2))
    pieces = iterate_counts(path, PIECE, check=False)
    return track(pieces, f"{what} {whole.name}", total=-(-len(whole) // per_piece))


def _survey(path: Path, whole: Scan, packing: Packing) -> Survey:
    """A first pass over the patterns, if the settings need one."""
    may_be_impossible = packing.invalid_counts != "error" and whole.counts.dtype.kind != "u"
    needed = packing.centre == "auto" or packing.saturation is not None or may_be_impossible
    pieces = _pieces(path, whole, "looking through") if needed else ()
    return survey(pieces, whole.counts.shape, packing.saturation)


def _choose(whole: Scan, half: str | None, flawed: np.ndarray) -> np.ndarray:
    """True for each pattern to keep, ``(J,)``: those of the half that are not flawed."""
    chosen = np.ones(len(whole), bool)
    if half is not None:
        if half not in HALVES:
            raise ValueError(f"half is {half!r}, expected even or odd")
        if len(whole) < 2:
            raise ValueError(f"{whole.name} holds one pattern, which has no halves")
        chosen[1 - HALVES.index(half) :: 2] = False
    if flawed.any():
        chosen &= ~flawed
        logger.info("left out %d patterns with impossible counts", np.sum(flawed))
    if not chosen.any():
        raise ValueError(f"every pattern of {whole.name} holds impossible counts: set packing.invalid_counts to mask")
    return chosen


def _keep(whole: Scan, chosen: np.ndarray, half: str | None, name: str) -> Scan:
    """The scan with the chosen patterns alone, by another name; its counts only announce how many."""
    truth = whole.truth
    if truth is not None and truth.positions is not None:
        truth = dataclasses.replace(truth, positions=truth.positions[chosen])
    metadata = whole.metadata | ({} if half is None else {"half": half})
    return dataclasses.replace(
        whole,
        counts=whole.counts[: np.sum(chosen)],
        positions=whole.positions[chosen],
        truth=truth,
        name=name,
        metadata=metadata if half or chosen.all() else metadata | {"patterns_left_out": int(np.sum(~chosen))},
    )


def _pixels(whole: Scan, packing: Packing, found: Survey) -> Pixels:
    """What to do with the pixels of each pattern."""
    good = np.ones((whole.size, whole.size), bool) if whole.mask is None else whole.mask.copy()
    for y, x in packing.bad_pixels:
        if max(y, x) >= whole.size:
            raise ValueError(f"packing.bad_pixels names ({y}, {x}), the patterns have {whole.size} px: correct it")
        good[y, x] = False
    good &= ~found.saturated
    if packing.invalid_counts == "mask":
        good &= ~found.impossible
    shift = (0, 0)
    if packing.centre == "auto":
        shift = tuple(-step for step in displacement(found.mean, whole.probe, good))
        logger.info("the patterns lie %d, %d px off the middle", *(-step for step in shift))
    elif packing.centre is not None:
        shift = tuple(whole.size // 2 - at for at in packing.centre)
    return Pixels(whole.size, None if good.all() else good, shift, packing.crop, packing.binning)


def _fingerprint(scan: Scan, counts_checksum: str) -> str:
    """SHA-256 of all that a scan holds: of its counts by their checksum, of the rest byte by byte."""
    counts = [list(scan.counts.shape), scan.counts.dtype.name, counts_checksum]
    origin = None if scan.truth is None else scan.truth.origin
    told = {
        "name": scan.name,
        "geometry": vars(scan.geometry),
        "metadata": scan.metadata,
        "counts": counts,
        "origin": origin,
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    truth = () if scan.truth is None else (scan.truth.object, scan.truth.positions)
    for array in (scan.positions, scan.probe, scan.mask, *truth):
        digest.update(b"" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()
