"""Plain piles of patterns: an npy array, a TIFF of many pages, a folder of TIFFs. Positions stand in another file."""

import re
from pathlib import Path

import numpy as np

from ..lazy_stack import Stack, joined, stack_of
from ..npz_archive import open_npy
from ..raw_scan import Measurement

TIFFS = (".tif", ".tiff")
LARGEST_SIDE = 1 << 14


def is_image_stack(path: Path) -> bool:
    """Whether it is an npy array, a TIFF, or a folder with TIFFs."""
    return path.suffix.lower() in (".npy", *TIFFS) or (path.is_dir() and bool(_tiffs(path)))


def read_pile(path: Path, dataset: str | None = None) -> Measurement:
    """Patterns without anything else; of four dimensions the first two are run together."""
    if path.suffix.lower() == ".npy":
        array = open_npy(path)
        if array.ndim not in (3, 4) or array.dtype.kind not in "uif" or 0 in array.shape:
            raise ValueError(f"{path.name} is {array.dtype} {array.shape}, expected real (patterns, H, W)")
        patterns = stack_of(array)
    else:
        patterns = joined([_tiff(file) for file in (_tiffs(path) if path.is_dir() else [path])])
    return Measurement(patterns=patterns, amplitude=None, corner=None, name=path.stem)


def _tiffs(folder: Path) -> list[Path]:
    """TIFFs in the order of the numbers in their names."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in TIFFS and file.is_file()]
    return sorted(
        files, key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]
    )


def _tiff(path: Path) -> Stack:
    """The pages of a TIFF, each a pattern, left on disk."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            pages = len(file.pages)
            shape, dtype = file.pages[0].shape, file.pages[0].dtype
    except (tifffile.TiffFileError, OSError, KeyError, TypeError, IndexError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"{path.name} is damaged or no TIFF ({error})") from None
    if len(shape) != 2 or dtype is None or dtype.kind not in "uif" or 0 in shape or max(shape) > LARGEST_SIDE:
        raise ValueError(f"{path.name} holds pages of {dtype} {shape}, expected one real number a pixel")

    def read(start: int, stop: int) -> np.ndarray:
        try:
            with tifffile.TiffFile(path) as file:
                held = [file.pages[i].asarray() for i in range(start, stop)]
        except (tifffile.TiffFileError, OSError, KeyError, TypeError, IndexError, RuntimeError) as error:
            raise ValueError(f"{path.name} is damaged near page {start} ({error})") from None
        if any(page.shape != shape for page in held):
            raise ValueError(f"{path.name} holds pages of different sizes: expected {shape} throughout")
        return np.array(held, dtype).reshape(-1, *shape)

    return Stack((pages, *shape), dtype, read)
