"""Scans of any size to measure with, written in pieces."""

from pathlib import Path

import numpy as np

from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.io.scan_cxi import write_scan

PIECE = 512
"""Patterns written at once."""


def large_scan(path: Path, patterns: int, size: int = 64) -> None:
    """Write a scan of about so many patterns: uint16 counts of some 300 photons a pixel, on a jittered raster."""
    rng = np.random.default_rng(0)
    piece, pieces = rng.poisson(300, (PIECE, size, size)).astype(np.uint16), -(-patterns // PIECE)
    announced = np.broadcast_to(np.zeros((), np.uint16), (pieces * PIECE, size, size))
    side = int(np.ceil(np.sqrt(len(announced))))
    raster = np.stack(np.divmod(np.arange(len(announced)), side), axis=1)
    positions = size + 4.0 * raster + rng.uniform(-1, 1, raster.shape)
    y, x = np.mgrid[:size, :size] - size // 2
    probe = np.exp(-(y**2 + x**2) / (size / 4) ** 2)[None].astype(np.complex64)
    scan = Scan(announced, positions, probe, Geometry(1e-8, 1e-10, 1.0), name=path.stem)
    write_scan(path, scan, (piece for _ in range(pieces)))
