"""Formats that a reconstruction or a scan is exported to, chosen by the name of the output."""

import dataclasses
import logging
import shutil
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
from ..io.product_kinds import CREATOR, RECONSTRUCTION
from ..io.provenance import different_input, record_provenance
from ..io.ptychodus_product import Product, half_pixel, write_product
from ..io.reconstruction_h5 import product_of, read_reconstruction
from ..io.scan_cxi import is_scan, iterate_counts, read_scan
from ..readers.registry import read_product_of
from ..runtime.memory import check_memory

logger = logging.getLogger(__name__)

PIXEL_BYTES = 30
"""Memory per pixel of an exported object at least: the object, its weight and coverage, a copy to pad or to write."""


@dataclass(frozen=True)
class Patterns:
    """A scan whose counts stay on disk.

    Attributes:
        scan: everything else; its counts give shape and dtype.
        chunks: returns the counts in pieces, in order.
    """

    scan: Scan
    chunks: Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class ExportFormat:
    """A format to export to.

    Attributes:
        summary: its name for people.
        write: takes output, product, patterns and checkpoint.
        holds_patterns: True if it cannot be written without patterns.
        holds_model: True if it may hold a checkpoint.
    """

    summary: str
    write: Callable[[Path, Product, Patterns | None, Path | None], None]
    holds_patterns: bool = False
    holds_model: bool = False


def format_of(output: Path) -> ExportFormat:
    """Return the format that the name of the output asks for.

    Raises:
        ValueError: if its suffix is unknown.
    """
    name = output.name.lower()
    suffix = next((suffix for suffix in FORMATS if suffix and name.endswith(suffix)), "")
    if suffix == "" and output.suffix:
        known = ", ".join(suffix for suffix in FORMATS if suffix)
        raise ValueError(f"{output.name} has an unknown suffix, expected {known}, or none for a folder")
    return FORMATS[suffix]


def write_export(
    source: Path, output: Path, export_format: ExportFormat, scan: Path | None = None, model: Path | None = None
) -> None:
    """Write a reconstruction or a scan in a format, atomically.

    Args:
        source: a reconstruction, a product of ptychodus, a dataset folder or a scan.
        output: file or folder to write.
        export_format: from :func:`format_of`.
        scan: the dataset folder or scan with the patterns of a reconstruction.
        model: a checkpoint that goes along.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged, scan and reconstruction differ, or the format lacks its patterns.
    """
    if model is not None and not export_format.holds_model:
        raise ValueError(f"{output.name} cannot hold a model, a standard directory (no suffix) can: remove --model")
    if model is not None and not Path(model).is_file():
        raise FileNotFoundError(f"model {model} not found: check the path in --model")
    patterns = open_patterns(scan if scan is not None else source)
    if patterns is None and scan is not None:
        raise ValueError(f"{scan} is neither a dataset nor a ptychoflow scan: convert it first")
    product = (
        read_product_of(source) if patterns is None or scan is not None else product_of(as_reconstruction(patterns))
    )
    if patterns is not None:
        check_together(product, patterns.scan)
    if scan is not None:
        _check_provenance(source, scan)
    if export_format.holds_patterns and patterns is None:
        raise ValueError(f"{output.name} holds patterns, {source} has none: name its dataset with --scan")
    export_format.write(output, product, patterns, model)


def open_patterns(path: Path) -> Patterns | None:
    """Open the scan in a dataset folder or in a ptychoflow CXI file; return None if it is neither.

    Raises:
        FileNotFoundError: if the path does not exist.
    """
    if path.is_dir():
        scan = open_dataset(path)
        return Patterns(scan, lambda: pieces(scan.counts))
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: check the path")
    if not is_scan(path):
        return None
    return Patterns(read_scan(path, counts=False), lambda: iterate_counts(path))


def as_reconstruction(patterns: Patterns) -> Reconstruction:
    """Return a scan as a reconstruction: its ground truth, or a uniform object on the canvas that ptychodus chooses."""
    scan = patterns.scan
    if scan.truth is not None:
        image, origin = np.asarray(scan.truth.object), scan.truth.origin
    else:
        low, high = scan.positions.min(0), scan.positions.max(0)
        height, width = (np.ceil(high - low).astype(int) + scan.size).tolist()
        check_memory(
            PIXEL_BYTES * height * width,
            f"a uniform object of {height} x {width} px under all positions",
            "check the unit of the positions",
        )
        image = np.ones((height, width), np.complex64)
        y, x = (low + high) / 2 - half_pixel(scan.size) - (np.array(image.shape) - 1) / 2
        origin = (float(y), float(x))
    everywhere = np.ones(image.shape, bool)
    return Reconstruction(
        image,
        origin,
        scan.probe,
        scan.positions,
        scan.geometry,
        weight=everywhere.astype(np.float32),
        coverage=everywhere,
        name=scan.name,
    )


def check_together(product: Product, scan: Scan) -> None:
    """Refuse patterns that are not those of a reconstruction.

    Raises:
        ValueError: if their number or size differs.
    """
    if len(product.indexes) != len(scan):
        raise ValueError(
            f"got {len(scan)} patterns of {scan.name} for {len(product.indexes)} positions of the reconstruction: name "
            "the dataset it was made from"
        )
    if product.probe.shape[-1] != scan.size:
        raise ValueError(
            f"got patterns of {scan.size} px of {scan.name} for a probe of {product.probe.shape[-1]} px: name the "
            "dataset it was made from"
        )


def _check_provenance(source: Path, scan: Path) -> None:
    """Refuse the dataset of another measurement, although it has as many patterns of that size.

    Raises:
        ValueError: if a reconstruction of ours records another dataset than this one.
    """
    if not RECONSTRUCTION.is_product(source) or not scan.is_dir():
        return  # another program's product and a scan outside a dataset record nothing to compare
    made_from = different_input(read_reconstruction(source).metadata, record_provenance(dataset=scan))
    if made_from is not None:
        raise ValueError(
            f"{source} was made from another dataset ({made_from}) than {scan}: name the dataset it was made from, or "
            "reconstruct this one"
        )


def _write_standard(output: Path, product: Product, patterns: Patterns | None, model: Path | None) -> None:
    assert patterns is not None
    with atomic_dir(output, FILES) as partial:
        write_standard(partial, product, patterns.scan, patterns.chunks())
        if model is not None:
            shutil.copyfile(model, partial / MODEL)


def _write_product(output: Path, product: Product, patterns: Patterns | None, model: Path | None) -> None:
    write_product(output, product)


def _write_ptychopinn(output: Path, product: Product, patterns: Patterns | None, model: Path | None) -> None:
    assert patterns is not None
    scan = patterns.scan
    positions = np.stack([product.y_m, product.x_m], axis=1) / product.pixel_m
    if len(product.object) > 1:
        raise ValueError(
            f"{output.name} holds thin objects, the reconstruction has {len(product.object)} slices: export it as .h5, "
            ".npz or .tif"
        )
    truth = GroundTruth(product.object[0], product.origin_px(scan.size))
    scan = dataclasses.replace(scan, positions=positions, probe=product.probe[0], truth=truth)
    # a scan with a ground truth can be trained on with supervision, which needs the patch under each pattern
    write_npz(output, scan, labels=patterns.scan.truth is not None, chunks=patterns.chunks())


def _write_tiff(output: Path, product: Product, patterns: Patterns | None, model: Path | None) -> None:
    """Write amplitude and phase, rad, as two pages of float32 with the pixel size, as ImageJ reads them."""
    import tifffile

    image = product.object.prod(0)  # ASSUME layers so thin that they multiply
    pages = np.stack([np.abs(image), np.angle(image)]).astype(np.float32)
    per_um = 1e-6 / product.pixel_m
    tags = {"axes": "CYX", "unit": "um", "mode": "grayscale", "Labels": ["amplitude", "phase (rad)"]}
    with atomic_file(output) as partial:
        tifffile.imwrite(partial, pages, imagej=True, resolution=(per_um, per_um), metadata=tags, software=CREATOR)


PRODUCT = ExportFormat("a product of ptychodus", _write_product)
TIFF = ExportFormat("amplitude and phase", _write_tiff)
FORMATS: dict[str, ExportFormat] = {
    ".ptychopinn.npz": ExportFormat("a training archive of PtychoPINN", _write_ptychopinn, holds_patterns=True),
    **dict.fromkeys((".h5", ".hdf5", ".npz", ".cxi"), PRODUCT),
    **dict.fromkeys((".tif", ".tiff"), TIFF),
    "": ExportFormat("a standard directory of ptychodus", _write_standard, holds_patterns=True, holds_model=True),
}
"""Formats by the suffix of the output, the particular before the general."""
