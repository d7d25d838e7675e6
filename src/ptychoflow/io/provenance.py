"""Provenance of products: code version, settings, checksums of inputs."""

import functools
import hashlib
import subprocess
from pathlib import Path

from .. import __version__


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code_version() -> str:
    """Return the version and, in a git checkout, the commit: ``0.1.0+1a2b3c4d5e6f`` (``.dirty`` if edited)."""
    package = Path(__file__).parents[1]
    try:
        git = functools.partial(subprocess.run, cwd=package, capture_output=True, text=True, timeout=10, check=True)
        commit = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        edited = git(["git", "status", "--porcelain", "--untracked-files=no", "--", "."]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{commit}{'.dirty' if edited else ''}"


def record_provenance(config: object = None, **inputs: Path | str | None) -> dict:
    """Return the provenance of a product as plain data.

    Args:
        config: settings of the step, a pydantic model or plain data.
        inputs: paths of its inputs by name; None is left out.

    Returns:
        ``ptychoflow`` (code version), ``config`` and, for each of ``inputs``, its ``name`` and ``sha256``.
    """
    return {
        "ptychoflow": code_version(),
        "config": config.model_dump(mode="json") if hasattr(config, "model_dump") else config,
        "inputs": {name: _fingerprint(Path(path)) for name, path in inputs.items() if path is not None},
    }


def different_input(metadata: dict, provenance: dict) -> str | None:
    """Return the name of the dataset that a product was made from, if it is not that of ``provenance``; else None."""
    recorded = metadata.get("provenance", {}).get("inputs", {}).get("dataset")
    same = recorded is None or recorded.get("sha256") == provenance["inputs"]["dataset"]["sha256"]
    return None if same else recorded["name"]


def _fingerprint(path: Path) -> dict:
    """Return name and checksum of a file, of a folder's manifest, which holds checksums, or of all its files."""
    if path.is_dir() and not (path / "manifest.json").is_file():
        listing = "".join(f"{sha256(file)} {file.name}\n" for file in sorted(path.iterdir()) if file.is_file())
        return {"name": path.name, "sha256": hashlib.sha256(listing.encode()).hexdigest()}
    return {"name": path.name, "sha256": sha256(path / "manifest.json" if path.is_dir() else path)}
