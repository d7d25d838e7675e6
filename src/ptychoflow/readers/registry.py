"""The registry of file formats, and the entry points that read a file of any of them."""

import csv
import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config import Source
from ..core.scan import Scan
from ..io.npz_archive import open_npy
from ..io.ptychodus_product import Product
from ..io.regular_file import check_not_special
from ..io.safe_hdf5 import is_hdf5, links_into
from ..io.sandbox import read_in_subprocess
from ..io.zarr_store import is_zarr
from .conversion import leave_out, scan_from
from .detector_view import sample_patterns
from .formats.cxi import is_cxi, is_nxcxi, read_cxi
from .formats.electron_microscopes import (
    is_blockfile,
    is_digital_micrograph,
    is_merlin,
    is_microscope_file,
    read_blockfile,
    read_digital_micrograph,
    read_merlin,
)
from .formats.emd import is_emd, read_emd
from .formats.empad import is_empad, read_empad
from .formats.fold_slice import is_fold_slice, read_fold_slice
from .formats.hxn import is_hxn, read_hxn
from .formats.hyperspy import is_hspy, is_zspy, read_hspy, read_zspy
from .formats.image_stack import is_image_stack, read_image_stack
from .formats.matlab import is_matlab, read_matlab
from .formats.nexus import is_nexus, read_nexus
from .formats.npz import holds, is_ptychopinn, read_named_npz, read_ptychodus_npz, read_ptychopinn, read_slac
from .formats.ptychodus import is_standard, is_training, read_standard, read_training, read_with_ptychodus
from .formats.ptychodus_product import read_product
from .formats.ptypy import is_ptypy, read_ptypy, read_ptyr
from .formats.tike import read_tike
from .named_arrays import read_named_arrays
from .position_table import TEXTS, read_position_table
from .rasters import raster_positions
from .raw_scan import Measurement, UnknownFormatError
from .scan_positions import Positions
from .source_files import beside

DAMAGE = (OSError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError, struct.error, csv.Error)
"""Errors that libraries raise over damaged files, besides ValueError; FileNotFoundError is passed on."""


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        summary: its name for people.
        kind: family of files that it belongs to: ``hdf5``, ``npz``, ``matlab`` or ``images``.
        recognise: returns True if a path of that family is of this format.
        read: reads a path, with the name of the dataset of patterns or None.
    """

    summary: str
    kind: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path, str | None], Measurement]


READERS: dict[str, Format] = {
    "ptychodus": Format("ptychodus standard directory", "hdf5", is_standard, read_standard),
    "ptychodus_training": Format("ptychodus training file", "hdf5", is_training, read_training),
    "nxcxi_ptycho": Format("NXcxi_ptycho (Diamond)", "hdf5", is_nxcxi, read_cxi),
    "cxi": Format("CXI", "hdf5", is_cxi, read_cxi),
    "fold_slice": Format("fold_slice pair _dp and _para", "hdf5", is_fold_slice, read_fold_slice),
    "ptypy": Format("ptypy prepared data (.ptyd)", "hdf5", is_ptypy, read_ptypy),
    "hxn": Format("NSLS-II HXN (amplitudes)", "hdf5", is_hxn, read_hxn),
    "matlab": Format("MATLAB v5 or v7.3", "matlab", is_matlab, read_matlab),
    "hspy": Format("HyperSpy signal", "hdf5", is_hspy, read_hspy),
    "emd": Format("4D-STEM in EMD (py4DSTEM)", "hdf5", is_emd, read_emd),
    "nexus": Format("NeXus or Eiger master", "hdf5", is_nexus, read_nexus),
    "tike_npz": Format("tike archive", "npz", holds("data", "scan", "probe"), read_tike),
    "ptychopinn_npz": Format("PtychoPINN training archive", "npz", is_ptychopinn, read_ptychopinn),
    "slac_npz": Format("PtychoPINN, SLAC orientation", "npz", holds("diffraction", "xcoords_start"), read_slac),
    "npz": Format("named arrays with units", "npz", holds("patterns", "position_y_m", "position_x_m"), read_named_npz),
    "ptychodus_npz": Format("ptychodus patterns", "npz", holds("patterns"), read_ptychodus_npz),
    "empad": Format("EMPAD raw frames", "images", is_empad, read_empad),
    "zspy": Format("HyperSpy signal in Zarr", "images", is_zspy, read_zspy),
    "merlin": Format("Merlin or Medipix frames (.mib)", "images", is_merlin, read_merlin),
    "digital_micrograph": Format("Gatan DigitalMicrograph", "images", is_digital_micrograph, read_digital_micrograph),
    "blockfile": Format("NanoMEGAS block file", "images", is_blockfile, read_blockfile),
    "stack": Format("npy array, TIFF, folder of TIFFs", "images", is_image_stack, read_image_stack),
}
"""Formats by their names in the config, the particular before the general."""


def read_scan_of(path: Path, source: Source) -> Scan:
    """Read a file of any format as a scan.

    Args:
        path: the file or folder.
        source: what the config says about it.

    Raises:
        FileNotFoundError: if it or a file it needs is missing.
        ValueError: if it is damaged, hostile, of no known format, or incomplete; the message names the remedy.
    """
    if _may_crash(path, source):
        read_in_subprocess(lambda: _read_scan(path, source), path)
    return _read_scan(path, source)


def read_measurement(path: Path, source: Source) -> Measurement:
    """Read a file of any format before conversion, with positions and probe from the other files of ``source``.

    Args:
        path: the file or folder.
        source: what the config says about it.

    Raises:
        FileNotFoundError: if it or a file it needs is missing.
        ValueError: if it is damaged, hostile, or of no known format.
    """
    if _may_crash(path, source):
        read_in_subprocess(lambda: sample_patterns(_read_measurement(path, source).patterns), path)
    return _read_measurement(path, source)


def read_product_of(path: Path) -> Product:
    """Read a ptychodus product of any version and format.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged or not a product.
    """
    check_not_special(path)
    try:
        if path.is_file():
            read_in_subprocess(lambda: read_product(path), path)
        return read_product(path)
    except DAMAGE as error:
        raise _as_input_error(error, path) from error


def _may_crash(path: Path, source: Source) -> bool:
    """Return True if another library reads any of the files, which a damaged one could crash."""
    check_not_special(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} not found: check the path in source.file")
    by_library = "hdf5" in _kinds(path) or is_hdf5(path) or is_zarr(path) or is_microscope_file(path)
    return by_library or bool(source.positions or source.probe or ":" in source.format)


def _read_scan(path: Path, source: Source) -> Scan:
    try:
        scan = scan_from(_read_measurement(path, source), source)
    except DAMAGE as error:
        raise _as_input_error(error, path) from error
    return dataclasses.replace(scan, metadata={"source": path.name} | scan.metadata)


def _read_measurement(path: Path, source: Source) -> Measurement:
    with links_into(source.link_folders):
        return _read_files(path, source)


def _read_files(path: Path, source: Source) -> Measurement:
    try:
        by_keys = source.keys is not None and source.keys.patterns is not None
        name = "keys" if by_keys else recognise(path) if source.format == "auto" else source.format
        if name == "keys" and source.keys is not None:
            measurement = read_named_arrays(path, source.keys)
        elif name.startswith("ptychodus:"):
            measurement = read_with_ptychodus(name.partition(":")[2], path)
        else:
            measurement = READERS[name].read(path, source.dataset)
        if source.keys is not None and not by_keys:
            measurement = read_named_arrays(path, source.keys, measurement)
        if source.positions is not None:
            positions = read_positions(_beside(path, source.positions))
            measurement = dataclasses.replace(measurement, positions=positions)
        if source.raster is not None:
            positions = raster_positions(measurement, source.raster)
            measurement = dataclasses.replace(measurement, positions=positions)
        if source.probe is not None:
            probe, in_photons = read_probe(_beside(path, source.probe))
            measurement = dataclasses.replace(measurement, probe=probe, probe_in_photons=in_photons)
        measurement = dataclasses.replace(measurement, file=path.name, metadata=measurement.metadata | {"format": name})
        return leave_out(measurement, source)
    except DAMAGE as error:
        raise _as_input_error(error, path) from error


def recognise(path: Path) -> str:
    """Return the name of a file's format, a key of ``READERS``.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is of no known format.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} not found: check the path in source.file")
    kinds = _kinds(path)
    for name, known in READERS.items():
        if known.kind in kinds and known.recognise(path):
            return name
    if (path / "manifest.json").is_file():
        raise ValueError(f"{path} is a packed dataset: use it with refine, or with infer or reconstruct and a network")
    raise UnknownFormatError(
        f"{path} is of unknown format, expected one of {', '.join(READERS)}: name its arrays in source.keys, which "
        "`ptychoflow inspect` proposes, or set source.format to ptychodus:NAME for a reader of ptychodus"
    )


def read_positions(path: Path) -> Positions:
    """Read positions of a text table, a product, or any file of a scan.

    Raises:
        ValueError: if the file holds no positions.
    """
    if path.suffix.lower() in (*TEXTS, ".npy"):
        return read_position_table(path)
    try:
        product = read_product(path)
    except ValueError:
        measurement = READERS[recognise(path)].read(path, None)
        if measurement.positions is None:
            raise ValueError(f"positions not found in {path.name}: correct source.positions") from None
        return measurement.positions
    return Positions(np.stack([product.y_m, product.x_m], axis=1))


def read_probe(path: Path) -> tuple[np.ndarray, bool]:
    """Read probe modes ``(M, N, N)`` of a product, ``.ptyr``, npy array or any scan; True if in sqrt(photons).

    Raises:
        ValueError: if the file holds no probe.
    """
    if path.suffix.lower() == ".ptyr":
        return read_ptyr(path), False
    if path.suffix.lower() == ".npy":
        probe = open_npy(path)
        if probe.dtype.kind != "c" or probe.ndim not in (2, 3):
            raise ValueError(f"{path.name} is {probe.dtype} {probe.shape}, expected complex (modes, N, N)")
        return np.array(probe).reshape(-1, *probe.shape[-2:]), False
    try:
        product = read_product(path)
    except ValueError:
        measurement = READERS[recognise(path)].read(path, None)
        if measurement.probe is None:
            raise ValueError(f"probe not found in {path.name}: correct source.probe") from None
        return measurement.probe, measurement.probe_in_photons
    return product.probe[0], product.photons > 0


def _kinds(path: Path) -> set[str]:
    """Return the families of formats that a file may belong to, by its first bytes."""
    if path.is_dir():
        return {"hdf5", "images"} if (path / "diffraction.h5").is_file() else {"images"}
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"MATLAB"):
        return {"matlab"}
    if is_hdf5(path):
        return {"hdf5"}
    return {"npz"} if head.startswith((b"PK", b"BZh")) else {"images"}


def _beside(path: Path, other: str) -> Path:
    """Return the path of another file, as it is named or in the folder of the first."""
    candidate = beside(path, other)
    if candidate is None:
        raise FileNotFoundError(f"{other} not found, nor beside {path}: check source.positions and source.probe")
    return candidate


def _as_input_error(error: Exception, path: Path) -> Exception:
    if isinstance(error, FileNotFoundError):
        return error
    return ValueError(f"{path} is damaged or of another format ({type(error).__name__}: {error}): download it again")
