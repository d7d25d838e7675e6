"""Kinds of products, each with a test by which a file or folder is recognised as one that ptychoflow wrote.

The tests read a few kilobytes and believe nothing; they decide only whether something may be replaced.
"""

import fnmatch
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .atomic import LEFT_BY_OTHERS

CREATOR = "ptychoflow"
"""Mark in files of formats that other programs write too."""
HEAD_BYTES = 1 << 14
"""Bytes at the beginning of a file, among which a mark stands."""
LARGEST_JSON = 1 << 28


@dataclass(frozen=True)
class ProductKind:
    """A kind of product.

    Attributes:
        name: its name in messages.
        recognise: returns True for an existing file or folder that is such a product; may raise any error for others.
        endings: suffixes that its name may have, in lower case with the dot; empty for any.
        files: patterns of the names of its files, if it is a folder; empty for a file.
    """

    name: str
    recognise: Callable[[Path], bool]
    endings: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def foreign_files(self, folder: Path) -> list[str]:
        """Return the names of files in a folder that such a product does not hold, in order."""
        known = (*self.files, *LEFT_BY_OTHERS)
        names = sorted(entry.name for entry in folder.iterdir())
        return [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in known)]

    def is_product(self, path: Path) -> bool:
        """Return True if a path is a product of this kind; False for anything else, damaged files among it."""
        if path.is_dir() != bool(self.files) or not (path.is_dir() or path.is_file()):  # a pipe would be waited for
            return False
        try:
            return not (self.files and self.foreign_files(path)) and self.recognise(path)
        except Exception:  # whatever a foreign or damaged file makes a library raise: it is not recognised
            return False


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _json(path: Path) -> dict:
    """Return a JSON object; an empty one for other content."""
    if path.stat().st_size > LARGEST_JSON:
        return {}
    data = json.loads(path.read_bytes())
    return data if isinstance(data, dict) else {}


def _json_with(*keys: str) -> Callable[[Path], bool]:
    return lambda path: set(keys) <= _json(path).keys()


def _text_with(first_line: str, *words: str) -> Callable[[Path], bool]:
    """Return the test for a text that begins with a line and names words soon after."""

    def recognise(path: Path) -> bool:
        head = _head(path).decode("utf-8", "replace")
        return head.startswith(first_line) and all(word in head for word in words)

    return recognise


def _is_table(*columns: str) -> Callable[[Path], bool]:
    """Return the test for a comma-separated table whose first columns have these names."""
    return lambda path: _head(path).decode("utf-8", "replace").startswith(",".join(columns) + ",")


def _hdf5_holds(path: Path, group: str) -> bool:
    import h5py

    with h5py.File(path, "r") as file:
        return file.get(group, getclass=True, getlink=True) is h5py.HardLink


def hdf5_creator(path: Path) -> str | None:
    """Return the attribute ``creator`` of an HDF5 file, None without it."""
    import h5py

    with h5py.File(path, "r") as file:
        return file.attrs.get("creator")


def _is_scan(path: Path) -> bool:
    return _hdf5_holds(path, "entry_1") and _hdf5_holds(path, "entry_1/ptychoflow")


def _is_simulated_scan(path: Path) -> bool:
    """Return True for a scan that does not come from a measurement, which no simulation brings back."""
    import h5py

    if not _is_scan(path):
        return False
    with h5py.File(path, "r") as file:
        return "source" not in json.loads(file["entry_1/ptychoflow"].attrs["metadata"])


def _is_reconstruction(path: Path) -> bool:
    return _hdf5_holds(path, "ptychoflow")


def _is_exported_hdf5(path: Path) -> bool:
    return hdf5_creator(path) == CREATOR and not _is_reconstruction(path)


def _is_exported_npz(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.comment == CREATOR.encode()


def _is_exported_tiff(path: Path) -> bool:
    head = _head(path)
    return head[:4] in (b"II*\0", b"MM\0*") and CREATOR.encode() + b"\0" in head


def _is_checkpoint(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as file:
            content = file.read(LARGEST_JSON)
    keys = ("format", "network", "window", "size", "weights", "metadata")
    # a pickled string: X, its length, the text
    return all(b"X" + len(key).to_bytes(4, "little") + key.encode() in content for key in keys)


def _manifest_has(*keys: str) -> Callable[[Path], bool]:
    return lambda folder: set(keys) <= _json(folder / "manifest.json").keys()


def _is_figures(folder: Path) -> bool:
    with zipfile.ZipFile(folder / "arrays.npz") as archive:
        return {"origin.npy", "refined.npy", "patterns_measured.npy"} <= set(archive.namelist())


def _is_standard_directory(folder: Path) -> bool:
    return all(hdf5_creator(folder / name) == CREATOR for name in ("diffraction.h5", "product.h5"))


def _is_schema(path: Path) -> bool:
    schema = _json(path)
    return schema.get("title") == "Config" and {"ScanEntry", "MethodEntry"} <= schema.get("$defs", {}).keys()


SCAN = ProductKind("scan", _is_scan)
SIMULATED_SCAN = ProductKind("simulated scan", _is_simulated_scan)
DATASET = ProductKind(
    "dataset",
    _manifest_has("format", "arrays", "geometry"),
    files=(
        "manifest.json",
        *(f"{name}.npy" for name in ("counts", "positions", "probe", "mask", "truth", "true_positions")),
    ),
)
CHECKPOINT = ProductKind("checkpoint", _is_checkpoint, endings=(".ckpt",))
PRIOR = ProductKind("prior", lambda path: b"ptychoflow object prior" in _head(path), endings=(".safetensors",))
MODEL_CARD = ProductKind("model card", _json_with("description", "network", "sha256"))
TRAINING_LOG = ProductKind("training log", _json_with("method", "config", "validation", "provenance"))
PATCHES = ProductKind(
    "folder of patches",
    _manifest_has("format", "patches", "shards"),
    files=("manifest.json", "timing.json", "patches-*.npy", "positions-*.npy", "members-*.npy"),
)
RECONSTRUCTION = ProductKind("reconstruction", _is_reconstruction, endings=(".h5", ".hdf5"))
METRICS = ProductKind("metrics file", _json_with("format", "stages", "split_half"), endings=(".json",))
FIGURES = ProductKind("folder of figures", _is_figures, files=("arrays.npz", "*.png"))
SWEEP_TABLE = ProductKind("table of a sweep", _is_table("method", "scan", "stage"))
SWEEP_FIGURE = ProductKind(
    "figure of a sweep", lambda path: (head := _head(path)).startswith(b"\x89PNG") and b"Software\0ptychoflow" in head
)
REPORT = ProductKind("report", _text_with("<!DOCTYPE html>", '<meta name="generator" content="ptychoflow">'))
REPORT_DATA = ProductKind(
    "folder of a report's values",
    lambda folder: all(_head(path).startswith(b"(window.explorerData ??= {})") for path in folder.glob("*.js")),
    files=("*.js",),
)
METRICS_TABLE = ProductKind("table of metrics", _is_table("scan", "method", "stage"))
INSPECTION = ProductKind(
    "inspection",
    lambda folder: {"file", "source", "detector", "missing"} <= _json(folder / "inspection.json").keys(),
    files=("config.yaml", "inspection.json", "inspection.png"),
)
BENCHMARK = ProductKind("benchmark", lambda path: _head(path).startswith(b"s\t") and b"max_rss" in _head(path))
GALLERY = ProductKind(
    "gallery", lambda folder: _text_with("# What can be simulated")(folder / "README.md"), files=("README.md", "*.webp")
)
COMMANDS_PAGE = ProductKind("commands page", _text_with("# Commands\n", "ptychoflow docs commands"), endings=(".md",))
SETTINGS_PAGE = ProductKind("settings page", _text_with("# Settings\n", "ptychoflow config reference"), (".md",))
SCHEMA = ProductKind("schema", _is_schema, endings=(".json",))
ANY_FOLDER = ProductKind("folder", Path.is_dir, files=("*",))
"""A folder that a product is put into, beside what it holds."""

EXPORTS = {
    ".ptychopinn.npz": ProductKind("exported archive", _is_exported_npz),
    **dict.fromkeys((".h5", ".hdf5", ".cxi"), ProductKind("exported product", _is_exported_hdf5)),
    ".npz": ProductKind("exported product", _is_exported_npz),
    **dict.fromkeys((".tif", ".tiff"), ProductKind("exported image", _is_exported_tiff)),
    "": ProductKind(
        "exported standard directory",
        _is_standard_directory,
        files=("diffraction.h5", "product.h5", "settings.ini", "model.ckpt"),
    ),
}
"""Kinds of exports by the suffix of the output, the particular before the general."""


def export_kind(output: Path) -> ProductKind:
    """Return the kind of export that an output's name asks for; that of a folder for an unknown suffix."""
    name = output.name.lower()
    return next(kind for suffix, kind in EXPORTS.items() if name.endswith(suffix))
