"""The dataset folder: a scan as plain arrays that open in no time at any size, each pattern once.

``counts.npy`` in the smallest dtype that loses nothing, ``positions.npy``, ``probe.npy``, and ``mask.npy`` and
``truth.npy`` where the scan has them. ``manifest.json`` is written last and says what each array must be.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..files import provenance, read_json, sha256, whole_folder, write_json
from ..scan import Geometry, Scan, Truth, check_counts, smallest_dtype

FORMAT = 1
UNITS = {
    "counts": "photons",
    "positions": "object pixels (y, x)",
    "probe": "sqrt(photons)",
    "mask": "True where a pixel counts",
    "truth": "complex transmission",
}


def write_dataset(
    folder: Path, scan: Scan, chunks: Iterable[np.ndarray] | None = None, made_by: dict | None = None
) -> None:
    """Write a scan as a dataset folder, whole or not at all.

    Args:
        folder: the dataset; one that stands there already is replaced.
        scan: what to write; ``scan.counts`` gives the shape.
        chunks: the counts in pieces, in order and already checked, where they do not fit in memory; ``scan.counts``
            without it.
        made_by: provenance for the manifest.
    """
    if chunks is None:
        check_counts(scan.counts)
        chunks = [scan.counts]
    with whole_folder(folder) as partial:
        total = _write_counts(partial / "counts.npy", chunks, scan.counts.shape)
        np.save(partial / "positions.npy", scan.positions.astype(np.float64))
        np.save(partial / "probe.npy", scan.probe.astype(np.complex64))
        if scan.mask is not None:
            np.save(partial / "mask.npy", scan.mask.astype(bool))
        if scan.truth is not None:
            np.save(partial / "truth.npy", scan.truth.object.astype(np.complex64))
        manifest = {
            "format": FORMAT,
            "name": scan.name,
            "geometry": vars(scan.geometry),
            "truth_origin": None if scan.truth is None else list(scan.truth.origin),
            "facts": scan.facts | {"photons_measured": total / len(scan)},
            "arrays": {path.stem: _describe(path) for path in sorted(partial.glob("*.npy"))},
            "provenance": provenance() if made_by is None else made_by,
        }
        write_json(partial / "manifest.json", manifest)


def open_dataset(folder: Path) -> Scan:
    """The scan in a dataset folder, its counts and truth memory-mapped: nothing is read before it is used.

    Raises:
        FileNotFoundError: if there is no dataset, or no whole one.
        ValueError: if the manifest and the arrays disagree, or an older version wrote them.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        arrays = {name: _open_array(folder / f"{name}.npy", told) for name, told in manifest["arrays"].items()}
        truth = arrays.get("truth")
        return Scan(
            counts=arrays["counts"],
            positions=np.array(arrays["positions"]),
            probe=np.array(arrays["probe"]),
            geometry=Geometry(**manifest["geometry"]),
            mask=np.array(arrays["mask"]) if "mask" in arrays else None,
            truth=None if truth is None else Truth(truth, tuple(manifest["truth_origin"])),
            name=manifest["name"],
            facts=manifest["facts"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder}/manifest.json is damaged ({error}): pack the scan again") from None


def verify_dataset(folder: Path) -> dict[str, str]:
    """Check every array of a dataset against its checksum; returns the checksums by name.

    Raises:
        FileNotFoundError: if there is no dataset.
        ValueError: naming each array that differs from what was packed.
    """
    open_dataset(folder)
    expected = {name: told["sha256"] for name, told in read_manifest(folder)["arrays"].items()}
    damaged = [f"{name}.npy" for name, checksum in expected.items() if sha256(folder / f"{name}.npy") != checksum]
    if damaged:
        raise ValueError(f"{folder}: {', '.join(damaged)} changed since packing: pack the scan again")
    return expected


def read_manifest(folder: Path) -> dict:
    """The manifest of a dataset folder, of the format this version reads.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged or of another format.
    """
    path = Path(folder) / "manifest.json"
    if not path.is_file():
        raise FileNotFoundError(f"there is no dataset {folder} (no manifest.json in it): pack a scan into it")
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{folder} is in format {manifest.get('format')}, this version reads {FORMAT}: pack it again")
    return manifest


def _describe(path: Path) -> dict:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    unit = UNITS[path.stem]
    return {"shape": list(array.shape), "dtype": array.dtype.name, "unit": unit, "sha256": sha256(path)}


def _open_array(path: Path, told: dict) -> np.ndarray:
    """An array as a memory map, if it is what the manifest says."""
    if not path.is_file():
        raise ValueError(f"{path} is missing although the manifest names it: pack the scan again")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is truncated or no array ({error}): pack the scan again") from None
    if list(array.shape) != told["shape"] or array.dtype.name != told["dtype"]:
        came, expected = f"{array.dtype.name} {list(array.shape)}", f"{told['dtype']} {told['shape']}"
        raise ValueError(f"{path} holds {came}, the manifest says {expected}: pack the scan again")
    if path.stat().st_size != array.offset + array.nbytes:
        raise ValueError(f"{path} is longer than its array: pack the scan again")
    return array


def _write_counts(path: Path, chunks: Iterable[np.ndarray], shape: tuple[int, int, int]) -> float:
    """Stream the counts to an npy file in one pass, widening what is written when a piece needs it; gives their sum."""
    dtype, done, total = np.dtype(np.uint8), 0, 0.0
    file = _start(path, dtype, shape)
    try:
        for piece in chunks:
            if piece.shape[1:] != shape[1:]:
                raise ValueError(f"patterns of {piece.shape[1:]} px came, {shape[1:]} px were announced")
            wider = np.promote_types(dtype, smallest_dtype(piece))
            if wider != dtype:
                file.close()
                file, dtype = _widen(path, wider, dtype, done, shape), wider
            piece.astype(dtype).tofile(file)
            done += len(piece)
            total += float(piece.sum(dtype=np.float64))
    finally:
        file.close()
    if done != shape[0]:
        raise ValueError(f"{done} patterns came, {shape[0]} were announced")
    return total


def _start(path: Path, dtype: np.dtype, shape: tuple[int, int, int]) -> BinaryIO:
    """An npy file with its header written, open for the patterns to follow."""
    file = path.open("wb")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(map(int, shape))}
    np.lib.format.write_array_header_1_0(file, header)
    return file


def _widen(path: Path, wider: np.dtype, dtype: np.dtype, done: int, shape: tuple[int, int, int]) -> BinaryIO:
    """Start the file again in a wider dtype with the ``done`` patterns it holds."""
    narrow = path.rename(path.with_suffix(".narrow"))
    file = _start(path, wider, shape)
    with narrow.open("rb") as old:
        np.lib.format.read_magic(old)
        np.lib.format.read_array_header_1_0(old)
        for _ in range(done):
            np.fromfile(old, dtype, shape[1] * shape[2]).astype(wider).tofile(file)
    narrow.unlink()
    return file
