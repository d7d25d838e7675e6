"""Export a reconstruction or a scan to what other programs open; the name of the output says the form."""

import dataclasses
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.reconstruction import Reconstruction
from ..core.scan import GroundTruth, Scan
from ..interop.ptychodus_directory import FILES, MODEL, write_standard
from ..interop.ptychopinn.npz import write_npz
from ..io.atomic import atomic_dir, atomic_file
from ..io.dataset import open_dataset, pieces
from ..io.ptychodus_product import Product, half_pixel, write_product
from ..io.reconstruction_h5 import product_of
from ..io.scan_cxi import iterate_counts, read_scan
from ..readers.formats.cxi import OURS
from ..readers.registry import read_product_of
from ..readers.safe_hdf5 import Hdf5, is_hdf5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patterns:
    """A scan whose counts stay on disk.

    Attributes:
        scan: everything else; its counts give shape and dtype.
        chunks: gives the counts in pieces, in order.
    """

    scan: Scan
    chunks: Callable[[], Iterable[np.ndarray]]


def export(source: Path, output: Path, scan: Path | None = None, model: Path | None = None) -> None:
    """Export a reconstruction or a scan to the formats of other programs.

    Reads a reconstruction, a product of ptychodus, a dataset or a scan. Makes what the name of the output says. The
    command ``convert`` goes the other way.

    Args:
        source: a reconstruction, a product of ptychodus (HDF5, NPZ or CXI), a dataset folder or a scan; a scan is
            exported with its truth as the object, or with an empty object.
        output: a folder (no suffix) becomes ptychodus's standard directory; ``.h5``, ``.npz``, ``.cxi`` its product;
            ``.tif`` amplitude and phase; ``.ptychopinn.npz`` PtychoPINN's training archive. It appears whole or not
            at all.
        scan: the dataset folder or scan with the patterns of a reconstruction, where the form holds patterns.
        model: a checkpoint to put into the standard directory, with which ptychodus then reconstructs.

    Raises:
        FileNotFoundError: if something is missing.
        ValueError: if it is damaged, does not belong together, or the form is none that is known.

    Example:
        ptychoflow export refined.h5 for-ptychodus --scan datasets/star --model pinn.ckpt
    """
    began = time.perf_counter()
    form = form_of(output)
    if model is not None and form != "":
        raise ValueError(f"a model goes into a standard directory, not into {output.name}: leave --model out")
    if model is not None and not Path(model).is_file():
        raise FileNotFoundError(f"there is no model {model}")
    patterns = open_patterns(scan if scan is not None else source)
    if patterns is None and scan is not None:
        raise ValueError(f"{scan} is no dataset and no scan of ours: convert it first")
    product = (
        read_product_of(source) if patterns is None or scan is not None else product_of(as_reconstruction(patterns))
    )
    if patterns is not None:
        check_together(product, patterns.scan)
    if form in HOLD_PATTERNS and patterns is None:
        raise ValueError(f"{output.name} holds patterns, {source} has none: name its dataset with --scan")
    summary, write = FORMS[form]
    write(output, product, patterns, model)
    logger.info("exported %s to %s, %s, in %.1f s", source, output, summary, time.perf_counter() - began)


def form_of(output: Path) -> str:
    """The ending that says in which form to write.

    Raises:
        ValueError: if it is none that is known.
    """
    name = output.name.lower()
    form = next((ending for ending in FORMS if ending and name.endswith(ending)), "")
    if form == "" and output.suffix:
        known = ", ".join(ending for ending in FORMS if ending)
        raise ValueError(f"{output.name} ends with none of {known}; a folder is named without a suffix")
    return form


def open_patterns(path: Path) -> Patterns | None:
    """The scan in a dataset folder or in a CXI file of ours; None if it is neither.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    if path.is_dir():
        scan = open_dataset(path)
        return Patterns(scan, lambda: pieces(scan.counts))
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    if not _is_scan(path):
        return None
    return Patterns(read_scan(path, counts=False), lambda: iterate_counts(path))


def as_reconstruction(patterns: Patterns) -> Reconstruction:
    """A scan as what is known of its object: the truth, or nothing, on the canvas that ptychodus would choose."""
    scan = patterns.scan
    if scan.truth is not None:
        image, origin = np.asarray(scan.truth.object), scan.truth.origin
    else:
        low, high = scan.positions.min(0), scan.positions.max(0)
        image = np.ones(np.ceil(high - low).astype(int) + scan.size, np.complex64)
        y, x = (low + high) / 2 - half_pixel(scan.size) - (np.array(image.shape) - 1) / 2
        origin = (float(y), float(x))
    everywhere = np.ones(image.shape, bool)
    parts = {"weight": everywhere.astype(np.float32), "coverage": everywhere, "name": scan.name}
    return Reconstruction(image, origin, scan.probe, scan.positions, scan.geometry, **parts)


def check_together(product: Product, scan: Scan) -> None:
    """Refuse patterns that are not those of a reconstruction.

    Raises:
        ValueError: saying how they differ.
    """
    if len(product.indexes) != len(scan):
        raise ValueError(
            f"the reconstruction has {len(product.indexes)} positions, {scan.name} {len(scan)} patterns: name the "
            "dataset it was made from"
        )
    if product.probe.shape[-1] != scan.size:
        raise ValueError(
            f"the reconstruction's probe has {product.probe.shape[-1]} px, patterns of {scan.name} have {scan.size}: "
            "name the dataset it was made from"
        )


def _write_standard(output: Path, product: Product, patterns: Patterns, model: Path | None) -> None:
    with atomic_dir(output, FILES) as partial:
        write_standard(partial, product, patterns.scan, patterns.chunks())
        if model is not None:
            shutil.copyfile(model, partial / MODEL)


def _write_product(output: Path, product: Product, patterns: Patterns | None, model: None) -> None:
    write_product(output, product)


def _write_ptychopinn(output: Path, product: Product, patterns: Patterns, model: None) -> None:
    scan = patterns.scan
    positions = np.stack([product.y_m, product.x_m], axis=1) / product.pixel_m
    truth = GroundTruth(product.object[0], product.origin_px(scan.size))
    scan = dataclasses.replace(scan, positions=positions, probe=product.probe[0], truth=truth)
    write_npz(output, scan, labels=False, chunks=patterns.chunks())


def _write_tiff(output: Path, product: Product, patterns: Patterns | None, model: None) -> None:
    """Amplitude and phase, rad, as two pages of float32 with the size of a pixel, as ImageJ reads them."""
    import tifffile

    image = product.object.prod(0)  # ASSUME layers so thin that they multiply
    pages = np.stack([np.abs(image), np.angle(image)]).astype(np.float32)
    per_um = 1e-6 / product.pixel_m
    said = {"axes": "CYX", "unit": "um", "mode": "grayscale", "Labels": ["amplitude", "phase (rad)"]}
    with atomic_file(output) as partial:
        tifffile.imwrite(partial, pages, imagej=True, resolution=(per_um, per_um), metadata=said)


PRODUCT, TIFF = ("a product of ptychodus", _write_product), ("amplitude and phase", _write_tiff)
FORMS: dict[str, tuple[str, Callable]] = {
    ".ptychopinn.npz": ("a training archive of PtychoPINN", _write_ptychopinn),
    **dict.fromkeys((".h5", ".hdf5", ".npz", ".cxi"), PRODUCT),
    **dict.fromkeys((".tif", ".tiff"), TIFF),
    "": ("a standard directory of ptychodus", _write_standard),
}
"""What each ending of the output means and who writes it, the particular before the general."""
HOLD_PATTERNS = ("", ".ptychopinn.npz")


def _is_scan(path: Path) -> bool:
    """Whether it is a CXI file of ours."""
    if not is_hdf5(path):
        return False
    with Hdf5(path) as file:
        return OURS in file
