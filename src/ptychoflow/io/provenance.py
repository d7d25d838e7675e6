"""What made a product: code version, settings, fingerprints of inputs."""

import functools
import hashlib
import subprocess
from pathlib import Path

from .. import __version__


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code_version() -> str:
    """The library's version and, in a git checkout, its commit: ``0.1.0+1a2b3c4d5e6f`` (``.dirty`` if edited)."""
    here = Path(__file__).parents[1]
    try:
        git = functools.partial(subprocess.run, cwd=here, capture_output=True, text=True, timeout=10, check=True)
        commit = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        edited = git(["git", "status", "--porcelain", "--untracked-files=no", "--", "."]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{commit}{'.dirty' if edited else ''}"


def record_provenance(config: object = None, **inputs: Path | str | None) -> dict:
    """What made a product: code version, the settings of the step, and each input's name with its fingerprint."""
    return {
        "ptychoflow": code_version(),
        "config": config.model_dump(mode="json") if hasattr(config, "model_dump") else config,
        "inputs": {name: _fingerprint(Path(path)) for name, path in inputs.items() if path is not None},
    }


def different_input(metadata: dict, provenance: dict) -> str | None:
    """The dataset that a product was made from, if its facts tell of one and it is not that of ``provenance``."""
    told = metadata.get("provenance", {}).get("inputs", {}).get("dataset")
    same = told is None or told["sha256"] == provenance["inputs"]["dataset"]["sha256"]
    return None if same else told["name"]


def _fingerprint(path: Path) -> dict:
    """A file's checksum; a folder's is that of its manifest, which holds the checksums of the rest, or of all files."""
    if path.is_dir() and not (path / "manifest.json").is_file():
        listing = "".join(f"{sha256(file)} {file.name}\n" for file in sorted(path.iterdir()) if file.is_file())
        return {"name": path.name, "sha256": hashlib.sha256(listing.encode()).hexdigest()}
    return {"name": path.name, "sha256": sha256(path / "manifest.json" if path.is_dir() else path)}
