"""Standard directory of ptychodus: patterns, product, settings, and optionally a checkpoint of ours."""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from ..core.scan import Scan
from ..io.product_kinds import CREATOR
from ..io.ptychodus_product import Product, centred, write_product

DIFFRACTION, PRODUCT, SETTINGS, MODEL = "diffraction.h5", "product.h5", "settings.ini", "model.ckpt"
FILES = (DIFFRACTION, PRODUCT, SETTINGS, MODEL)


def write_standard(folder: Path, product: Product, scan: Scan, chunks: Iterable[np.ndarray]) -> None:
    """Write a folder as ``ptychodus -b`` expects it.

    Args:
        folder: an empty folder.
        product: the reconstruction.
        scan: the scan of its patterns, one for each position of the product.
        chunks: the counts in pieces, in order, ``(n, N, N)``.
    """
    write_diffraction(folder / DIFFRACTION, scan, product.indexes, chunks)
    write_product(folder / PRODUCT, centred(product))
    (folder / SETTINGS).write_text(settings_for(scan.size))


def write_diffraction(path: Path, scan: Scan, indexes: np.ndarray, chunks: Iterable[np.ndarray]) -> None:
    """Write patterns as ptychodus stores them, zero frequency in the middle, each with its scan index.

    Args:
        path: the file.
        scan: the scan of the patterns; its counts give shape and dtype.
        indexes: scan index of each pattern, ``(J,)``.
        chunks: the counts in pieces, in order, ``(n, N, N)``.
    """
    with h5py.File(path, "w") as file:
        file.attrs["creator"] = CREATOR
        file.create_dataset("indexes", data=np.asarray(indexes, np.int64), compression="lzf")
        shape, dtype = scan.counts.shape, scan.counts.dtype
        patterns = file.create_dataset("patterns", shape, dtype, chunks=(1, *shape[1:]), compression="lzf")
        done = 0
        for piece in chunks:
            patterns[done : done + len(piece)] = piece
            done += len(piece)
        pitch = scan.geometry.detector_pixel_m(scan.size)
        patterns.attrs.update({"detector_pixel_width_m": pitch, "detector_pixel_height_m": pitch})
        bad = np.zeros(shape[1:], bool) if scan.mask is None else ~scan.mask
        file.create_dataset("bad_pixels", data=bad, compression="lzf")


def settings_for(size: int) -> str:
    """Return settings with which ptychodus takes patterns of ``size`` px unchanged and reconstructs with our engine."""
    sections: dict[str, dict[str, object]] = {
        "Diffraction": {"CropEnabled": "false"},
        "Products": {"FileType": "HDF5"},
        "Processing": {"Algorithm": "PtychoPINN-Torch_Unsupervised"},
        "PtychoPINNTorchData": {"model_size": size},
    }
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
        for name, settings in sections.items()
    )
