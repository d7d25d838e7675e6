"""Compare the products of two runs array by array, bit for bit: shows that a change of code changes no result.

    python benchmarks/equal_products.py BEFORE/results AFTER/results --renamed models=networks flat=rpie

Every numeric array of datasets (`.npy`), scans and reconstructions (`.cxi`, `.h5`), patches, evaluated images
(`.npz`) and trained weights (`.ckpt`) is compared. Wall and processor times are left out, and so is text (provenance,
logs). Exit code 1 where an array differs, or is in one run only.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
import torch

TIMES = re.compile(r"history/(cpu_)?seconds$|/seconds$|per_second")
"""Arrays that hold times, which no two runs share."""


def arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and content of every numeric array in a file, ``(name, array)``."""
    if path.suffix == ".npy":
        yield "", np.load(path, mmap_mode="r")
    elif path.suffix == ".npz":
        with np.load(path) as archive:
            yield from archive.items()
    elif path.suffix in (".h5", ".cxi"):
        with h5py.File(path) as file:
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            yield from ((name, file[name][()]) for name in names if file[name].dtype.kind in "biufc")
    elif path.suffix == ".ckpt":
        yield from _tensors(torch.load(path, map_location="cpu", weights_only=True), "")


def _tensors(content: object, name: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(content, torch.Tensor):
        yield name, content.numpy()
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{name}/{key}")


def products(folder: Path, renamed: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Read every array of a run, by its file and name in today's words.

    Args:
        folder: the results of the run.
        renamed: today's words for parts of the names of files and arrays.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".npy", ".npz", ".h5", ".cxi", ".ckpt") and "checkpoints" not in path.parts:
            for name, array in arrays(path):
                place = f"{path.relative_to(folder)}:{name}"
                if not TIMES.search(place):
                    found[_today(place, renamed)] = array
    return found


def _today(name: str, renamed: Mapping[str, str]) -> str:
    for old, new in renamed.items():
        name = re.sub(rf"(?<![A-Za-z0-9]){re.escape(old)}(?![A-Za-z0-9])", new, name)
    return name


def differences(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield a line for each array that is in one run only, or differs in shape, type or a single bit."""
    for name in sorted(before.keys() ^ after.keys()):
        yield f"{name}: only {'before' if name in before else 'after'}"
    for name in sorted(before.keys() & after.keys()):
        one, other = before[name], after[name]
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            yield f"{name}: {one.dtype}{list(one.shape)} before, {other.dtype}{list(other.shape)} after"
        elif one.tobytes() != other.tobytes():
            yield f"{name}: greatest difference {np.nanmax(np.abs(one - other.astype(one.dtype))):.3g}"


def main() -> int:
    """Compare two runs; return 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--renamed", nargs="*", default=[], metavar="OLD=NEW", help="names that changed")
    arguments = parser.parse_args()
    renamed = dict(pair.split("=", 1) for pair in arguments.renamed)
    before, after = (products(folder, renamed) for folder in (arguments.before, arguments.after))
    lines = list(differences(before, after))
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"{len(before.keys() & after.keys())} arrays compared, {len(lines)} differ or are in one run only")
    return int(bool(lines) or not before)


if __name__ == "__main__":
    sys.exit(main())
