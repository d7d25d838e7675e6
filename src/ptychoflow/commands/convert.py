"""Convert a measurement to a scan, with a refined probe where one is given."""

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..config import Source
from ..core.doubt import log_doubts
from ..core.scan import Scan
from ..io.provenance import record_provenance
from ..io.reconstruction_h5 import read_reconstruction
from ..io.scan_cxi import write_scan
from ..preprocessing.cropping import resize_far_field, resize_near_field
from ..preprocessing.detector_statistics import typical_step
from ..preprocessing.invalid_counts import InvalidCounts
from ..preprocessing.plausibility import doubts_about_lengths, doubts_about_steps
from ..preprocessing.scan_doubts import doubt_scan
from ..readers.download import resolve_path, with_local_copies
from ..readers.registry import read_scan_of

logger = logging.getLogger(__name__)

FIELD_TOLERANCE = 0.01
"""Relative difference of the fields of view of a scan and of the probe given for it, from which it is told."""


def convert(output: Path, source: Source, probe: Path | None = None, local_copy: Sequence[Path] = ()) -> None:
    """Convert a measurement to a scan, downloading it where needed.

    Reads the file of another program, which section ``source`` describes. Makes a CXI file. The folder in
    ``PTYCHOFLOW_DATA`` is searched first and keeps what is downloaded. Counts that cannot be (NaN, negative) are kept
    and reported: ``pack`` refuses, masks or drops them, as ``packing.invalid_counts`` says.

    Args:
        output: the scan, ``.cxi``.
        source: what to read.
        probe: a reconstruction whose refined probe replaces the one in the measurement.
        local_copy: copies of the files that the source names by an address, such as ``s3://bucket/scan.h5``.

    Raises:
        FileNotFoundError: if the measurement is missing and ``source.url`` is not set.
        ValueError: if it is damaged or is not what its checksum says.

    Example:
        ptychoflow convert siemens.cxi --config source.yaml
    """
    began = time.perf_counter()
    local = with_local_copies(source, local_copy)
    path = resolve_path(local)
    scan = read_scan_of(path, local)
    logger.info("read %s: %d patterns of %d px, %s", path, len(scan), scan.size, scan.counts.dtype)
    for doubt in _doubts(scan):
        logger.warning("%s: %s", path.name, doubt)
    if probe is not None:
        scan = _with_probe(scan, probe)
        logger.info("took the probe of %s: %d modes, %.4g photons", probe, len(scan.probe), scan.photons)
    log_doubts(logger, scan.name, doubt_scan(scan))
    provenance = record_provenance({"source": source.model_dump(mode="json")}, measurement=path, probe=probe)
    metadata = scan.metadata | {"provenance": provenance}
    census = InvalidCounts()
    write_scan(output, dataclasses.replace(scan, metadata=metadata), census.watch(_in_pieces(scan.counts)))
    census.report(path.name)
    logger.info("converted to %s in %.1f s", output, time.perf_counter() - began)


def _doubts(scan: Scan) -> list[str]:
    """Return what is implausible of the lengths and steps of a scan."""
    geometry = scan.geometry
    known = geometry.detector_distance_m != 1.0  # a distance that nothing gives is 1 m
    step, extent = typical_step(scan.positions), np.ptp(scan.positions, axis=0).tolist()
    doubts = doubts_about_lengths(geometry, scan.size, known)
    return doubts + (doubts_about_steps(step, extent, np.inf, scan.size) if max(extent) > 0 else [])


def _in_pieces(counts: np.ndarray, piece_bytes: int = 1 << 24) -> Iterator[np.ndarray]:
    """Yield counts that may lie on disk, in order, about ``piece_bytes`` at a time."""
    step = max(1, piece_bytes // (counts.dtype.itemsize * counts.shape[-1] ** 2))
    for start in range(0, len(counts), step):
        yield counts[start : start + step]


def _with_probe(scan: Scan, path: Path) -> Scan:
    """Return the scan with a refined probe, padded with zeros on the detector if refined on a cropped one."""
    found = read_reconstruction(path)
    probe, field_m = found.probe, found.geometry.pixel_size_m * found.probe.shape[-1]
    own_field_m = scan.geometry.pixel_size_m * scan.size
    if abs(field_m - own_field_m) > FIELD_TOLERANCE * own_field_m:
        logger.warning(
            "the probe of %s has a field of view of %.4g m, %s of %.4g m: it may belong to another experiment; check "
            "energy, distance and detector pixel",
            *(path, field_m, scan.name, own_field_m),
        )
    metadata = scan.metadata | {"probe_source": path.name}
    resize = resize_near_field if scan.geometry.near_field else resize_far_field
    return dataclasses.replace(scan, probe=resize(probe, scan.size), metadata=metadata)
