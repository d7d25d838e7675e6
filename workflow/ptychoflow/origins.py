"""Which code made the products that are there: Snakemake does not look at the library, so this does."""

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .files import code_version, read_json

HERE = Path(__file__).parent
RECORDS = {
    "pack": ("datasets/*/manifest.json", ()),
    "train": ("models/*.json", ()),
    "infer": ("patches/*/*/manifest.json", ()),
    "stitch": ("metrics/*/*.json", ("made_by", "network")),
    "refine": ("metrics/*/*.json", ("made_by", "refined")),
    "evaluate": ("metrics/*/*.json", ()),
}
"""Where the provenance of each step's products is found, and under which keys of that file."""


def other_code(results: Path) -> list[str]:
    """A line for each other version of the code that made products: how many, what differs, how to make them again."""
    found: dict[str, dict[str, int]] = {}
    for step, version in made_by(results):
        found.setdefault(version, {}).setdefault(step, 0)
        found[version][step] += 1
    return [_told(version, steps) for version, steps in sorted(found.items()) if differs(version) is not None]


def made_by(results: Path) -> Iterator[tuple[str, str]]:
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
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split() or None


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
