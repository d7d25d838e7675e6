"""Pack a scan into a dataset folder, streaming: from CXI, cropped and halved where asked."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .config import HALVES, Packing
from .data.packing import write_dataset
from .files import provenance
from .scan import Geometry, Scan, Truth, iterate_counts, read_scan

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
    kept = _half(whole, half)
    if packing.crop is not None:
        kept = crop(kept, packing.crop)
    made_by = provenance({"packing": packing.model_dump(mode="json"), "half": half}, scan=scan)
    write_dataset(output, kept, _kept_counts(scan, kept.size, half), made_by)
    seconds = time.perf_counter() - began
    logger.info("packed %s: %d patterns of %d px in %.1f s", output, len(kept), kept.size, seconds)


def crop(scan: Scan, size: int) -> Scan:
    """The scan as a detector of the central ``size`` pixels would have measured it.

    A smaller detector resolves less: the object pixel grows by N / size, so positions in pixels shrink by as much. The
    probe is cut in Fourier space and keeps the light that falls on the detector area that is left. The truth is
    low-passed to the new pixel.

    Raises:
        ValueError: if the patterns are smaller than ``size``.
    """
    if size > scan.size:
        raise ValueError(f"packing.crop is {size} px but the patterns of {scan.name} are {scan.size} px: crop to less")
    shrink = size / scan.size
    window = _centre(scan.size, size)
    geometry = scan.geometry
    return dataclasses.replace(
        scan,
        counts=scan.counts[:, window, window],
        positions=scan.positions * shrink,
        probe=_crop_probe(scan.probe, size),
        mask=None if scan.mask is None else scan.mask[window, window],
        truth=None if scan.truth is None else _resample_truth(scan.truth, shrink),
        geometry=Geometry(geometry.pixel_size_m / shrink, geometry.wavelength_m, geometry.detector_distance_m),
        facts=scan.facts | {"cropped_from_px": scan.size},
    )


def _half(scan: Scan, half: str | None) -> Scan:
    if half is None:
        return scan
    if half not in HALVES:
        raise ValueError(f"half is {half!r}, expected even or odd")
    first = HALVES.index(half)
    if len(scan) < 2:
        raise ValueError(f"{scan.name} holds one pattern, which has no halves")
    return dataclasses.replace(
        scan,
        counts=scan.counts[first::2],
        positions=scan.positions[first::2],
        name=f"{scan.name}.{half}",
        facts=scan.facts | {"half": half},
    )


def _kept_counts(path: Path, size: int, half: str | None) -> Iterator[np.ndarray]:
    """The counts of the file in pieces, only the patterns and pixels that are kept."""
    step, first = (1, 0) if half is None else (2, HALVES.index(half))
    done = 0
    for piece in iterate_counts(path):
        window = _centre(piece.shape[-1], size)
        yield piece[(first - done) % step :: step, window, window]
        done += len(piece)


def _centre(size: int, kept: int) -> slice:
    """The central ``kept`` of ``size`` pixels: zero frequency stays at ``kept // 2``."""
    start = size // 2 - kept // 2
    return slice(start, start + kept)


def _crop_probe(probe: np.ndarray, size: int) -> np.ndarray:
    """The probe whose far field is the central part of this one's: unitary, so that kept light is conserved."""
    axes = (-2, -1)
    window = _centre(probe.shape[-1], size)
    wave = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe, axes=axes), norm="ortho"), axes=axes)
    kept = np.fft.ifftshift(wave[..., window, window], axes=axes)
    return np.fft.fftshift(np.fft.ifft2(kept, norm="ortho"), axes=axes).astype(np.complex64)


def _resample_truth(truth: Truth, shrink: float) -> Truth:
    """The object on pixels ``1 / shrink`` as large, low-passed to what they can show; its first pixel stays put."""
    rows, columns = (_lanczos(side, shrink) for side in truth.object.shape)
    resampled = (rows @ truth.object @ columns.T).astype(np.complex64)
    return Truth(resampled, tuple(float(value) * shrink for value in truth.origin))


def _lanczos(side: int, shrink: float, lobes: int = 4) -> np.ndarray:
    """Matrix ``(new, side)`` that resamples a line by a Lanczos-windowed sinc, each row summing to 1."""
    new = int((side - 1) * shrink) + 1
    distance = np.arange(new)[:, None] - np.arange(side) * shrink  # new pixels
    weights = np.where(abs(distance) < lobes, np.sinc(distance) * np.sinc(distance / lobes), 0)
    return weights / weights.sum(1, keepdims=True)
