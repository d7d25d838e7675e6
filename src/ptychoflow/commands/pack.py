"""Pack a scan into a dataset, a folder of memory-mapped arrays."""

import dataclasses
import logging
import tempfile
import time
from pathlib import Path
from typing import Literal

from ..config import Packing, Source
from ..core.doubt import log_doubts
from ..io.dataset import CHECKSUM, open_dataset, pieces, write_dataset
from ..io.provenance import record_provenance
from ..io.safe_hdf5 import is_hdf5
from ..io.scan_cxi import read_scan, write_scan
from ..preprocessing.probe_guess import mask_probe
from ..preprocessing.scan_doubts import doubt_scan
from ..preprocessing.scan_packing import (
    CountStream,
    choose_patterns,
    keep_patterns,
    pixel_operations,
    scan_fingerprint,
    survey_scan,
)
from ..readers.registry import read_scan_of

logger = logging.getLogger(__name__)

CHECKED_BYTES = 1 << 27
"""Scans below this size are checked for doubts at once; `refine` and `evaluate` check all, and need more memory."""


def pack(scan: Path, output: Path, packing: Packing = Packing(), half: Literal["even", "odd"] | None = None) -> None:
    """Pack a scan into a dataset, a folder of memory-mapped arrays.

    Reads a CXI file in pieces; the file of another program is converted first, in a temporary folder. Makes a dataset
    with a manifest and checksums, cropped or binned where asked.

    Args:
        scan: a CXI file that ``simulate`` or ``convert`` wrote, or a measurement that needs no further settings, such
            as an ``.npz`` of PtychoPINN with its unit.
        output: the dataset folder; its name is that of the dataset.
        packing: what to keep of each pattern.
        half: keep every second pattern, from the first (``even``) or the second (``odd``) on, for split-half metrics;
            all without it.

    Raises:
        FileNotFoundError: if the scan is missing.
        ValueError: if the scan is damaged, holds impossible counts or is smaller than the crop.
        OSError: if the disk is full or must not be written.

    Example:
        ptychoflow pack star.cxi datasets/star --set packing.crop=64
    """
    if Path(scan).is_file() and not is_hdf5(scan):
        with tempfile.TemporaryDirectory() as scratch:
            converted = Path(scratch) / f"{Path(scan).stem}.cxi"
            measured = read_scan_of(Path(scan), Source(file=str(scan)))
            write_scan(converted, measured, pieces(measured.counts))
            pack(converted, output, packing, half)
        return
    began = time.perf_counter()
    whole = read_scan(scan, counts=False)
    logger.info("read %s: %d patterns of %d px, %s", scan, len(whole), whole.size, whole.counts.dtype)
    survey = survey_scan(scan, whole, packing)
    chosen = choose_patterns(whole, half, packing, survey)
    pixels = pixel_operations(whole, packing, survey)
    stream = CountStream(scan, whole, chosen, pixels, packing.invalid_counts == "clip")
    kept = pixels.of_scan(keep_patterns(whole, chosen, half, Path(output).name))
    if packing.probe_mask_px is not None:
        kept = dataclasses.replace(kept, probe=mask_probe(kept.probe, packing.probe_mask_px))

    def provenance(arrays: dict) -> dict:
        record = record_provenance({"packing": packing.model_dump(mode="json"), "half": half})
        source = {"name": scan.name, "content": scan_fingerprint(whole, stream.checksum(arrays["counts"][CHECKSUM]))}
        return record | {"inputs": {"scan": source}}

    write_dataset(output, kept, stream, provenance)
    if whole.counts.nbytes < CHECKED_BYTES:
        log_doubts(logger, kept.name, doubt_scan(open_dataset(output)))
    seconds = time.perf_counter() - began
    logger.info(
        "packed %s: %d patterns of %d px in %.1f s, %.2g GB/s",
        *(output, len(kept), kept.size, seconds, whole.counts.nbytes / seconds / 1e9),
    )
