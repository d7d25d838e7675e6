"""Pack a scan into a dataset folder, streaming: from CXI, cropped and halved where asked."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .config import HALVES, Packing
from .data.cropping import centre, crop
from .data.packing import write_dataset
from .files import provenance
from .scan import Scan, iterate_counts, read_scan

logger = logging.getLogger(__name__)


def pack(scan: Path, output: Path, packing: Packing = Packing(), half: str | None = None) -> None:
    """Pack a scan file into a dataset folder.

    Args:
        scan: a CXI file that ``simulate`` or ``convert`` wrote.
        output: the folder; it appears whole or not at all.
        packing: what to keep of each pattern.
        half: ``even`` or ``odd`` keeps every second pattern, from the first or the second on; None keeps all.

    Raises:
        FileNotFoundError: if there is no scan.
        ValueError: if the scan is damaged, holds impossible counts or is smaller than the crop.
    """
    began = time.perf_counter()
    whole = read_scan(scan, counts=False)
    logger.info("read %s: %d patterns of %d px, %s", scan, len(whole), whole.size, whole.counts.dtype)
    kept = _keep_half(whole, half)
    if packing.crop is not None:
        kept = crop(kept, packing.crop)
    made_by = provenance({"packing": packing.model_dump(mode="json"), "half": half}, scan=scan)
    write_dataset(output, kept, _kept_counts(scan, kept.size, half), made_by)
    seconds = time.perf_counter() - began
    logger.info("packed %s: %d patterns of %d px in %.1f s", output, len(kept), kept.size, seconds)


def _keep_half(scan: Scan, half: str | None) -> Scan:
    if half is None:
        return scan
    if half not in HALVES:
        raise ValueError(f"half is {half!r}, expected even or odd")
    if len(scan) < 2:
        raise ValueError(f"{scan.name} holds one pattern, which has no halves")
    every_second = slice(HALVES.index(half), None, 2)
    return dataclasses.replace(
        scan,
        counts=scan.counts[every_second],
        positions=scan.positions[every_second],
        name=f"{scan.name}.{half}",
        facts=scan.facts | {"half": half},
    )


def _kept_counts(path: Path, size: int, half: str | None) -> Iterator[np.ndarray]:
    """The counts of the file in pieces, only the patterns and pixels that are kept."""
    step, first = (1, 0) if half is None else (2, HALVES.index(half))
    done = 0
    for piece in iterate_counts(path):
        window = centre(piece.shape[-1], size)
        yield piece[(first - done) % step :: step, window, window]
        done += len(piece)
