"""Reader of EMPAD raw files: frames of 130 rows by 128 columns, float32, with two rows below the 128 of the image."""

import re
from pathlib import Path

import numpy as np

from ...io.lazy_stack import Stack
from ...io.regular_file import read_text
from ..raw_scan import Measurement

SIDE = 128
ROWS = 130
FRAME_BYTES = ROWS * SIDE * 4
LARGEST_XML = 1 << 22
ACQUIRED = re.compile(r"<scan_parameters[^>]*\bmode\s*=\s*[\"']acquire[\"'][^>]*>(.*?)</scan_parameters>", re.DOTALL)


def is_empad(path: Path) -> bool:
    """Return True for a ``.raw`` file of whole EMPAD frames."""
    if path.suffix.lower() != ".raw" or not path.is_file():
        return False
    size = path.stat().st_size
    return size > 0 and size % FRAME_BYTES == 0


def read_empad(path: Path, dataset: str | None = None) -> Measurement:
    """Read the frames of an EMPAD file, left on disk; positions are in another file.

    Raises:
        ValueError: if its size is not that of whole frames, or not that of the scan in the XML beside it.
    """
    size = path.stat().st_size if path.is_file() else 0
    frames = size // FRAME_BYTES
    if frames == 0 or size % FRAME_BYTES:
        raise ValueError(
            f"{path.name} has {size} bytes, expected a multiple of {FRAME_BYTES} (EMPAD frames of {ROWS} x {SIDE} "
            "float32): copy the file again or correct source.format"
        )
    scan = _scan_shape(path.with_suffix(".xml"))
    if scan is not None and scan[0] * scan[1] != frames:
        raise ValueError(
            f"{path.name} holds {frames} frames, expected {scan[0]} x {scan[1]} by {path.stem}.xml: copy both again"
        )

    def read(start: int, stop: int) -> np.ndarray:
        values = np.fromfile(path, "<f4", (stop - start) * ROWS * SIDE, offset=start * FRAME_BYTES)
        return values.reshape(-1, ROWS, SIDE)[:, :SIDE]

    return Measurement(
        patterns=Stack((frames, SIDE, SIDE), np.dtype("<f4"), read),
        corner=False,
        radiation="electrons",
        name=path.stem,
        metadata={} if scan is None else {"scan_shape": list(scan)},
    )


def _scan_shape(path: Path) -> tuple[int, int] | None:
    """Return rows and columns of the acquired scan by the XML beside the frames; None if it does not say them."""
    if not path.is_file():
        return None
    acquired = ACQUIRED.search(read_text(path, LARGEST_XML))
    counts = [
        re.search(rf"<scan_resolution_{axis}>\s*(\d{{1,6}})\s*<", acquired.group(1)) if acquired else None
        for axis in "yx"
    ]
    rows, columns = (None if count is None else int(count.group(1)) for count in counts)
    return None if rows is None or columns is None else (rows, columns)
