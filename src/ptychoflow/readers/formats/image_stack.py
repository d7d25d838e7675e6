"""Reader of plain patterns: an npy array, a TIFF of many pages, a folder of TIFFs; positions are in another file."""

import re
from pathlib import Path

import numpy as np

from ...io.lazy_stack import Stack, concatenate_stacks, stack_of
from ...io.npz_archive import open_npy
from ..raw_scan import Measurement

TIFFS = (".tif", ".tiff")
LARGEST_SIDE = 1 << 14


def is_image_stack(path: Path) -> bool:
    """Return True for an npy array, a TIFF, or a folder with TIFFs."""
    return path.suffix.lower() in (".npy", *TIFFS) or (path.is_dir() and bool(_tiffs(path)))


def read_image_stack(path: Path, dataset: str | None = None) -> Measurement:
    """Read patterns alone, ``(J, H, W)`` or ``(Jy, Jx, H, W)``."""
    if path.suffix.lower() == ".npy":
        array = open_npy(path)
        if array.ndim not in (3, 4) or array.dtype.kind not in "uif" or 0 in array.shape:
            raise ValueError(f"{path.name} is {array.dtype} {array.shape}, expected real (patterns, H, W)")
        patterns = stack_of(array)
    else:
        patterns = concatenate_stacks([_tiff(file) for file in (_tiffs(path) if path.is_dir() else [path])])
    return Measurement(patterns=patterns, amplitude=None, corner=None, name=path.stem)


def _tiffs(folder: Path) -> list[Path]:
    """Return the TIFFs of a folder in the order of the numbers in their names."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in TIFFS and file.is_file()]
    return sorted(
        files, key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]
    )


def _tiff(path: Path) -> Stack:
    """Return the pages of a TIFF as patterns, left on disk."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            count = len(file.pages)
            shape, dtype = file.pages[0].shape, file.pages[0].dtype
    except (tifffile.TiffFileError, OSError, KeyError, TypeError, IndexError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"{path.name} is damaged or not a TIFF ({error}): write it again") from None
    if len(shape) != 2 or dtype is None or dtype.kind not in "uif" or 0 in shape or max(shape) > LARGEST_SIDE:
        raise ValueError(
            f"{path.name} holds pages of {dtype} {shape}, expected one real number a pixel: convert it to grey values"
        )

    def read(start: int, stop: int) -> np.ndarray:
        try:
            with tifffile.TiffFile(path) as file:
                pages = [file.pages[i].asarray() for i in range(start, stop)]
        except (tifffile.TiffFileError, OSError, KeyError, TypeError, IndexError, RuntimeError) as error:
            raise ValueError(f"{path.name} is damaged near page {start} ({error}): write it again") from None
        if any(page.shape != shape for page in pages):
            raise ValueError(
                f"{path.name} holds pages of different sizes, expected {shape} throughout: split it into scans"
            )
        return np.array(pages, dtype).reshape(-1, *shape)

    return Stack((count, *shape), dtype, read)
