"""Detection of products of other versions of the library, which Snakemake does not track, and the key of its cache."""

import ast
import functools
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..io.json_file import read_json
from ..io.provenance import code_version

PACKAGE = Path(__file__).parents[1]
RECORDS = {
    "pack": ("datasets/*/manifest.json", ()),
    "train": ("networks/*.json", ()),
    "infer": ("patches/*/*/manifest.json", ()),
    "stitch": ("metrics/*/*.json", ("reconstructions", "network")),
    "refine": ("metrics/*/*.json", ("reconstructions", "refined")),
    "evaluate": ("metrics/*/*.json", ()),
}
"""Files with the provenance of each step's products, and the keys below which each file holds it."""


def products_of_other_code(results: Path) -> list[str]:
    """Return a line for each other version of the code that made products: count, changed files, remedy.

    Args:
        results: the folder of results.
    """
    products: dict[str, dict[str, int]] = {}
    for step, version in provenance(results):
        products.setdefault(version, {}).setdefault(step, 0)
        products[version][step] += 1
    return [_outdated(version, steps) for version, steps in sorted(products.items()) if differs(version) is not None]


def provenance(results: Path) -> Iterator[tuple[str, str]]:
    """Yield step and code version of every product that records them."""
    files: dict[str, list[dict]] = {}
    for step, (pattern, keys) in RECORDS.items():
        if pattern not in files:
            files[pattern] = [record for path in sorted(results.glob(pattern)) if (record := _read(path))]
        for record in files[pattern]:
            for key in keys:
                record = record.get(key, {})
            version = (record.get("provenance") or {}).get("ptychoflow")
            if version:
                yield step, version


@functools.cache
def differs(version: str) -> list[str] | None:
    """Return the files that differ from those of a version; None if none does, empty if that is unknown."""
    if version == code_version() and not version.endswith(".dirty"):
        return None
    commit = version.partition("+")[2]
    if not commit or commit.endswith(".dirty"):
        return None if version == code_version() and not commit else []
    command = ["git", "diff", "--name-only", "--relative", commit, "--", "."]
    try:
        done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split() or None


def cache_of_this_code(location: str) -> str:
    """Return the folder for products of this code in a cache that working directories share.

    Snakemake's keys are made of settings and inputs, not of the library: one folder for each version of the code keeps
    them apart.

    Args:
        location: folder of the cache; anything else (a storage, a missing folder) is returned as it is.
    """
    key = checksum(source_of("simulate", "pack"))[:12]
    folder = Path(location)
    if folder.name == key or not folder.is_dir():
        return location
    if not (folder / key).is_dir():
        (folder / key).mkdir(exist_ok=True)
        (folder / key).chmod(folder.stat().st_mode)
    return str(folder / key)


def source_of(*commands: str) -> set[Path]:
    """Return the files of the library that commands run: their modules and, recursively, all that these import."""
    files, todo = set(), [PACKAGE / "commands" / f"{command}.py" for command in commands]
    while todo:
        path = todo.pop()
        if path.is_file() and path not in files:
            files.add(path)
            todo += _imported(path)
    return files


def checksum(files: set[Path]) -> str:
    """Return the SHA-256 checksum over names and contents of files of the library, hexadecimal."""
    hasher = hashlib.sha256()
    for path in sorted(files):
        hasher.update(f"{path.relative_to(PACKAGE)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return hasher.hexdigest()


def _imported(path: Path) -> Iterator[Path]:
    """Yield the files that a module may import from this library, first that of its package."""
    yield path.with_name("__init__.py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            yield from (base.with_suffix(".py"), base / "__init__.py")
            yield from (base / f"{alias.name}.py" for alias in node.names)


def _outdated(version: str, steps: dict[str, int]) -> str:
    changed = differs(version) or []
    files = f"{', '.join(changed[:3])}{f' and {len(changed) - 3} more' if len(changed) > 3 else ''} differ"
    counts = ", ".join(f"{step} {count}" for step, count in steps.items())
    return (
        f"outdated products (made by version {version}{'; ' + files if changed else ''}): {counts}; "
        f"to make them again: --forcerun {' '.join(steps)}"
    )


def _read(path: Path) -> dict | None:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None  # the step that reads a damaged product reports it
