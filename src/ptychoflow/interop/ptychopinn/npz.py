"""PtychoPINN's raw NPZ: its keys, shapes and dtypes, with the unit of the patterns written beside them."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from ...config import MeasuredGeometry, Source
from ...core.scan import Scan
from ...io.atomic import atomic_file
from ...io.npz_archive import open_npz
from ...io.product_kinds import CREATOR
from ...readers.conversion import scan_from
from ...readers.formats.npz import read_ptychopinn
from ...simulation.acquisition import cut_labels

Domain = Literal["counts", "amplitude"]
DOMAINS = {
    "counts": ("count_intensity", "ci_intensity_v2"),
    "amplitude": ("normalized_amplitude", "legacy_v1"),
}
"""What its programs call each unit: ``measurement_domain`` and ``scale_contract_version``."""


def write_npz(
    path: Path, scan: Scan, domain: Domain = "counts", labels: bool = True, chunks: Iterable[np.ndarray] | None = None
) -> None:
    """Write a scan for PtychoPINN atomically, in bounded memory where the counts come in pieces.

    Positions are converted to its frame: it counts the pixels of a patch from ``(N - 1) / 2``, we from ``N // 2``.

    Args:
        path: the file, ``.npz``.
        scan: what to write.
        domain: unit of ``diff3d``: counts, or their square roots.
        labels: True to add the patch of the ground truth under each pattern, where the scan has one.
        chunks: the counts in pieces, in order; ``scan.counts`` without it.
    """
    count, size = len(scan), scan.size
    with atomic_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.comment = CREATOR.encode()
        pieces = [scan.counts] if chunks is None else chunks
        _write_array(archive, "diff3d", (count, size, size), np.float32, (_in_unit(piece, domain) for piece in pieces))
        for name, array in _small_arrays(scan, domain).items():
            _write_array(archive, name, array.shape, array.dtype, [array])
        if labels and scan.truth is not None:
            _write_array(archive, "label", (count, size, size), np.complex64, cut_labels(scan))


def read_npz(path: Path, domain: Domain | None = None, geometry: MeasuredGeometry | None = None) -> Scan:
    """Read a raw NPZ of PtychoPINN; an ``objectGuess`` of ones is not a ground truth, as in PtychoPINN.

    Args:
        path: the file, ``.npz``.
        domain: unit of ``diff3d``; needed where the file does not say, and may not contradict it where it does.
        geometry: lengths, where the file has none.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is of another format, or its unit is unknown or contradicts ``domain``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: check the path")
    with open_npz(path) as archive:
        domain_of_file = archive.text("measurement_domain")
        known = {name: unit for unit, (name, _) in DOMAINS.items()}
        if domain_of_file and known.get(domain_of_file) is None:
            raise ValueError(f"{path}: measurement_domain is {domain_of_file}, expected {' or '.join(known)}")
        if not domain_of_file and domain is None:
            raise ValueError(f"{path} does not say whether diff3d holds counts or amplitudes: say which with domain")
        if domain_of_file and domain not in (None, known[domain_of_file]):
            raise ValueError(f"{path} holds {known[domain_of_file]}, not {domain}: leave domain out")
        guess = archive.array("objectGuess", kinds="c") if "objectGuess" in archive else np.ones(1)
        has_truth = bool((guess != 1).any())
    unit = domain or known[domain_of_file]
    source = Source(
        file=str(path), domain=unit, zero_frequency="centre", geometry=geometry, object_is_ground_truth=has_truth
    )
    return scan_from(read_ptychopinn(path), source)


def _small_arrays(scan: Scan, domain: Domain) -> dict[str, np.ndarray]:
    """Return everything but patterns and labels by PtychoPINN's names, and lengths by names that it also reads."""
    if scan.geometry.near_field:
        raise ValueError(f"{scan.name} is of the near field, PtychoPINN reads the far field only: write .h5 or .cxi")
    y, x = _in_its_frame(scan, scan.positions).T
    contract = {
        "xcoords": x,
        "ycoords": y,
        "xcoords_start": x,
        "ycoords_start": y,
        "probeGuess": (scan.probe[0] if len(scan.probe) == 1 else scan.probe).astype(np.complex64),
        "objectGuess": _object(scan),
        "scan_index": np.zeros(len(scan), np.int64),
        "measurement_domain": np.array(DOMAINS[domain][0]),
        "scale_contract_version": np.array(DOMAINS[domain][1]),
    }
    lengths = {
        "photon_energy_eV": np.array(scan.geometry.energy_ev),
        "detector_distance_m": np.array(scan.geometry.detector_distance_m),
        "detector_pixel_size_m": np.array(scan.geometry.detector_pixel_m(scan.size)),
    }
    bad = {} if scan.mask is None else {"bad_pixels": ~scan.mask}
    return contract | lengths | bad


def _in_its_frame(scan: Scan, positions: np.ndarray) -> np.ndarray:
    """Return positions relative to ``objectGuess``, px, the centre of a patch at ``(N - 1) / 2``."""
    origin = (0.0, 0.0) if scan.truth is None else scan.truth.origin
    return positions - np.asarray(origin) + ((scan.size - 1) / 2 - scan.size // 2)


def _object(scan: Scan) -> np.ndarray:
    """Return the ground truth, or ones over every patch: PtychoPINN requires an object."""
    if scan.truth is not None:
        return np.asarray(scan.truth.object, np.complex64)
    return np.ones(np.ceil(scan.positions.max(0)).astype(int) + scan.size, np.complex64)


def _in_unit(counts: np.ndarray, domain: Domain) -> np.ndarray:
    return np.asarray(counts if domain == "counts" else np.sqrt(counts.astype(np.float64)), np.float32)


def _write_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: DTypeLike, pieces: Iterable[np.ndarray]
) -> None:
    """Write one array of the archive from its pieces, in order."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for piece in pieces:
            member.write(np.ascontiguousarray(piece, dtype).tobytes())
