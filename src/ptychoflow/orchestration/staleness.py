"""Which code made the products that are there: Snakemake does not look at the library, so this does."""

import ast
import functools
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ..io.atomic import read_json
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
"""Where the provenance of each step's products is found, and under which keys of that file."""


def products_of_other_code(results: Path) -> list[str]:
    """A line for each other version of the code that made products: how many, what differs, how to make them again."""
    found: dict[str, dict[str, int]] = {}
    for step, version in provenance(results):
        found.setdefault(version, {}).setdefault(step, 0)
        found[version][step] += 1
    return [_told(version, steps) for version, steps in sorted(found.items()) if differs(version) is not None]


def provenance(results: Path) -> Iterator[tuple[str, str]]:
    """Step and code version of every product that says so."""
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
    """Files of the library that differ from those of a version; None if none does, empty if that cannot be told."""
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
    """Where, in a cache that working directories share, lies what this code simulates and packs.

    Snakemake knows by which settings and inputs a product was made, not by which library: a folder for each keeps
    apart what differs.

    Args:
        location: the cache's folder; anything else (a storage, a folder that is not there) is left to Snakemake.
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
    """Files of the library that commands run: their modules and, from there on, all that these import."""
    found, todo = set(), [PACKAGE / "commands" / f"{command}.py" for command in commands]
    while todo:
        path = todo.pop()
        if path.is_file() and path not in found:
            found.add(path)
            todo += _imported(path)
    return found


def checksum(files: set[Path]) -> str:
    """SHA-256 over the names and contents of files of the library, hexadecimal."""
    told = hashlib.sha256()
    for path in sorted(files):
        told.update(f"{path.relative_to(PACKAGE)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return told.hexdigest()


def _imported(path: Path) -> Iterator[Path]:
    """Files that may be what a module imports from its own library, first that of its package."""
    yield path.with_name("__init__.py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            yield from (base.with_suffix(".py"), base / "__init__.py")
            yield from (base / f"{alias.name}.py" for alias in node.names)


def _told(version: str, steps: dict[str, int]) -> str:
    changed = differs(version) or []
    several = f"{', '.join(changed[:3])}{f' and {len(changed) - 3} more' if len(changed) > 3 else ''} differ"
    counts = ", ".join(f"{step} {count}" for step, count in steps.items())
    return (
        f"products of other code ({version}{'; ' + several if changed else ''}): {counts}; "
        f"to make them again: --forcerun {' '.join(steps)}"
    )


def _read(path: Path) -> dict | None:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None  # a damaged product is told by the step that reads it
