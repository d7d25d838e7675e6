"""PtychoPINN's raw NPZ: its keys, shapes and dtypes, with the unit of the patterns written beside them."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from ...config import MeasuredGeometry, Source
from ...core.scan import Scan
from ...io.atomic import atomic_file
from ...readers.conversion import scan_from
from ...readers.formats.npz import read_ptychopinn
from ...readers.npz_archive import open_npz
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
    """Write a scan for PtychoPINN, whole or not at all, in bounded memory where the counts come in pieces.

    Positions are taken to its frame: it counts the pixels of a patch from ``(N - 1) / 2``, we from ``N // 2``.

    Args:
        path: the file, ``.npz``.
        scan: what to write.
        domain: unit of ``diff3d``: counts, or their square roots.
        labels: whether to add the patch of the truth under each pattern, where the scan has a truth.
        chunks: the counts in pieces, in order; ``scan.counts`` without it.
    """
    count, size = len(scan), scan.size
    with atomic_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        pieces = [scan.counts] if chunks is None else chunks
        _write_array(archive, "diff3d", (count, size, size), np.float32, (_in_unit(piece, domain) for piece in pieces))
        for name, array in _small_arrays(scan, domain).items():
            _write_array(archive, name, array.shape, array.dtype, [array])
        if labels and scan.truth is not None:
            _write_array(archive, "label", (count, size, size), np.complex64, cut_labels(scan))


def read_npz(path: Path, domain: Domain | None = None, geometry: MeasuredGeometry | None = None) -> Scan:
    """Read such a file. An ``objectGuess`` of ones is no truth, as PtychoPINN has it.

    Args:
        path: the file, ``.npz``.
        domain: unit of ``diff3d``; needed where the file does not say, and may not contradict it where it does.
        geometry: lengths, where the file has none.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not such a file, does not say its unit, or says another one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with open_npz(path) as archive:
        said = archive.text("measurement_domain")
        known = {name: unit for unit, (name, _) in DOMAINS.items()}
        if said and known.get(said) is None:
            raise ValueError(f"{path}: measurement_domain is {said}, expected {' or '.join(known)}")
        if not said and domain is None:
            raise ValueError(f"{path} does not say whether diff3d holds counts or amplitudes: say which with domain")
        if said and domain not in (None, known[said]):
            raise ValueError(f"{path} holds {known[said]}, not {domain}: leave domain out")
        guess = archive.array("objectGuess", kinds="c") if "objectGuess" in archive else np.ones(1)
        has_truth = bool((guess != 1).any())
    unit = domain or known[said]
    source = Source(
        file=str(path), domain=unit, zero_frequency="centre", geometry=geometry, object_is_ground_truth=has_truth
    )
    return scan_from(read_ptychopinn(path), source)


def _small_arrays(scan: Scan, domain: Domain) -> dict[str, np.ndarray]:
    """Everything but patterns and labels, by the names of the contract, then lengths by names that it also reads."""
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
    """Positions relative to ``objectGuess``, px, a patch's centre at ``(N - 1) / 2``."""
    origin = (0.0, 0.0) if scan.truth is None else scan.truth.origin
    return positions - np.asarray(origin) + ((scan.size - 1) / 2 - scan.size // 2)


def _object(scan: Scan) -> np.ndarray:
    """The truth, or ones that hold every patch: the contract wants an object."""
    if scan.truth is not None:
        return np.asarray(scan.truth.object, np.complex64)
    return np.ones(np.ceil(scan.positions.max(0)).astype(int) + scan.size, np.complex64)


def _in_unit(counts: np.ndarray, domain: Domain) -> np.ndarray:
    return np.asarray(counts if domain == "counts" else np.sqrt(counts.astype(np.float64)), np.float32)


def _write_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: np.dtype, pieces: Iterable[np.ndarray]
) -> None:
    """One array of the archive from its pieces, in order."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for piece in pieces:
            member.write(np.ascontiguousarray(piece, dtype).tobytes())
