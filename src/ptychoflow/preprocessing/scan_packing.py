"""Selection of patterns and pixels of a scan file, and the stream of its counts into a dataset."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import xxhash

from ..config import HALVES, Packing
from ..core.frame_selection import selected_patterns
from ..core.scan import Scan, check_counts, may_be_invalid, smallest_dtype
from ..io.dataset import PIECE
from ..io.scan_cxi import iterate_counts
from ..runtime.progress import track
from .detector_pixels import Pixels, Survey, displacement, outlying_patterns, survey

logger = logging.getLogger(__name__)


class CountStream:
    """The kept counts of a scan file in pieces; impossible counts are refused.

    Args:
        path: the scan file.
        whole: the scan in it.
        chosen: True for each pattern that is kept, ``(J,)``.
        pixels: the operations on their pixels.
        clip: set negative counts to 0.
    """

    def __init__(self, path: Path, whole: Scan, chosen: np.ndarray, pixels: Pixels, clip: bool = False) -> None:
        self._path, self._whole, self._chosen, self._pixels, self._clip = path, whole, chosen, pixels, clip
        self._source: xxhash.xxh3_64 | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        done, keeps_all = 0, self._pixels.keeps_all and self._chosen.all()
        for piece in _read_pieces(self._path, self._whole, "packing"):
            if done == 0 and not (keeps_all and smallest_dtype(piece) == piece.dtype):
                self._source = xxhash.xxh3_64()
            if self._source is not None:
                self._source.update(piece.data.cast("B"))
            chosen = self._chosen[done : done + len(piece)]
            where = f"{self._path}: patterns {done} to {done + len(piece) - 1}"
            done += len(piece)
            if chosen.any():
                piece = piece if chosen.all() else piece[chosen]
                kept = self._pixels.of_counts(np.maximum(piece, 0) if self._clip else piece)
                check_counts(kept, where)
                yield kept

    def checksum(self, of_product: str) -> str:
        """Return the checksum of the counts in the file; ``of_product``, the dataset's, if the bytes are equal."""
        return of_product if self._source is None else self._source.hexdigest()


def _read_pieces(path: Path, whole: Scan, what: str) -> Iterator[np.ndarray]:
    """Yield the counts as they are in the file, with a progress bar."""
    per_piece = max(1, PIECE // (whole.counts.dtype.itemsize * whole.size**2))
    pieces = iterate_counts(path, PIECE, check=False)
    return track(pieces, f"{what} {whole.name}", total=-(-len(whole) // per_piece))


def survey_scan(path: Path, whole: Scan, packing: Packing) -> Survey:
    """Compute statistics of all patterns in a first pass, if the settings need them.

    Args:
        path: the scan file.
        whole: the scan in it.
        packing: settings.
    """
    acts = packing.invalid_counts != "error" and may_be_invalid(whole.counts.dtype)
    needed = packing.centre == "auto" or packing.saturation is not None or packing.exclude_outliers or acts
    pieces: Iterable[np.ndarray] = _read_pieces(path, whole, "surveying") if needed else ()
    if packing.invalid_counts == "clip":
        pieces = (np.maximum(piece, 0) for piece in pieces)
    return survey(pieces, whole.counts.shape, packing.saturation)


def choose_patterns(whole: Scan, half: str | None, packing: Packing, found: Survey) -> np.ndarray:
    """Return True for each pattern to keep, ``(J,)``: those of the half that nothing excludes.

    Args:
        whole: the scan.
        half: ``even`` or ``odd``; None for both.
        packing: settings.
        found: statistics of its patterns.

    Raises:
        ValueError: if no pattern is left, or the scan has no halves.
    """
    chosen = np.ones(len(whole), bool)
    if half is not None:
        if half not in HALVES:
            raise ValueError(f"half is {half!r}, expected even or odd")
        if len(whole) < 2:
            raise ValueError(f"{whole.name} has one pattern, expected at least 2 for halves: pack it without --half")
        chosen[1 - HALVES.index(half) :: 2] = False
    reasons = {"excluded": selected_patterns(packing.exclude, len(whole), "packing.exclude")}
    if packing.invalid_counts == "drop":
        reasons["with impossible counts"] = found.flawed
    if packing.exclude_outliers:
        reasons["with outlying total counts"] = outlying_patterns(found.totals)
    for reason, out in reasons.items():
        if out.any():
            chosen &= ~out
            logger.info("left out %d patterns %s: %s", out.sum(), reason, _numbers(out))
    if not chosen.any():
        raise ValueError(
            f"no pattern of {whole.name} is left: correct packing.exclude, or set packing.invalid_counts to mask"
        )
    return chosen


def _numbers(out: np.ndarray, most: int = 12) -> str:
    """Return the numbers of the first patterns that are left out, for messages."""
    numbers = np.flatnonzero(out)
    return ", ".join(map(str, numbers[:most])) + (" ..." if len(numbers) > most else "")


def keep_patterns(whole: Scan, chosen: np.ndarray, half: str | None, name: str) -> Scan:
    """Return the scan with the chosen patterns alone; its counts only carry their shape.

    Args:
        whole: the scan.
        chosen: True for each pattern that is kept, ``(J,)``.
        half: ``even`` or ``odd``; None for both.
        name: of the new scan.
    """
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


def pixel_operations(whole: Scan, packing: Packing, found: Survey) -> Pixels:
    """Return the operations on the pixels of each pattern.

    Args:
        whole: the scan.
        packing: settings.
        found: statistics of its patterns.

    Raises:
        ValueError: if a setting does not suit the patterns.
    """
    good = np.ones((whole.size, whole.size), bool) if whole.mask is None else whole.mask.copy()
    for y, x in packing.bad_pixels:
        if max(y, x) >= whole.size:
            raise ValueError(f"packing.bad_pixels has ({y}, {x}), the patterns have {whole.size} px: correct it")
        good[y, x] = False
    good &= ~found.saturated
    if packing.invalid_counts in ("mask", "clip"):
        good &= ~found.impossible
    shift = (0, 0)
    _check_near_field(packing, whole)
    if packing.centre == "auto":
        y, x = displacement(found.mean, whole.probe, good)
        shift = (-y, -x)
        logger.info("patterns are off centre by %d, %d px", y, x)
    elif packing.centre is not None:
        y, x = packing.centre
        shift = (whole.size // 2 - y, whole.size // 2 - x)
    return Pixels(whole.size, None if good.all() else good, shift, packing.crop, packing.binning)


def _check_near_field(packing: Packing, scan: Scan) -> None:
    """Refuse settings that do not act on patterns of the near field.

    Raises:
        ValueError: naming the setting, and why it does not act.
    """
    if not scan.geometry.near_field:
        return
    if packing.centre == "auto":
        raise ValueError(
            f"packing.centre: auto finds a direct beam, which near-field patterns such as those of {scan.name} do not "
            "have: remove it"
        )
    if packing.binning > 1:
        raise ValueError(
            f"packing.binning is for far-field patterns; {scan.name} is of the near field, where wider detector pixels "
            "are wider object pixels: remove it, or sum pixels in the file and give their width"
        )


def scan_fingerprint(scan: Scan, counts_checksum: str) -> str:
    """SHA-256 of the contents of a scan: of its counts by their checksum, of everything else byte by byte.

    Args:
        scan: the scan.
        counts_checksum: of its counts.
    """
    counts = [list(scan.counts.shape), scan.counts.dtype.name, counts_checksum]
    origin = None if scan.truth is None else scan.truth.origin
    fields = {
        "name": scan.name,
        "geometry": scan.geometry.lengths(),
        "metadata": scan.metadata,
        "counts": counts,
        "origin": origin,
    }
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    truth = () if scan.truth is None else (scan.truth.object, scan.truth.positions, scan.truth.slices)
    for array in (scan.positions, scan.probe, scan.mask, *truth):
        digest.update(b"" if array is None else np.ascontiguousarray(array).data)
    return digest.hexdigest()
