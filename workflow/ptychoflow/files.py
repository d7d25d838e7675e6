"""Files that appear whole or not at all, their checksums, and the record of what made them."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import __version__


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; it takes its name only when the block ends well.

    A step that is killed or fails leaves whatever stood at ``path`` before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask())
    try:
        yield Path(name)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` to fill; it replaces ``path`` only when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    fresh.chmod(0o777 & ~_umask())
    try:
        yield fresh
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.rename(path, old / "old")
            os.rename(fresh, path)
            shutil.rmtree(old)
        else:
            os.rename(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_json(path: Path, data: object) -> None:
    """Write ``data`` as JSON, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> dict:
    """Read a JSON object.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not a JSON object.
    """
    try:
        data = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}): make it again") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a JSON {type(data).__name__}, expected an object: make it again")
    return data


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code_version() -> str:
    """The library's version and, in a git checkout, its commit: ``0.1.0+1a2b3c4d5e6f`` (``.dirty`` if edited)."""
    here = Path(__file__).parent
    try:
        git = functools.partial(subprocess.run, cwd=here, capture_output=True, text=True, timeout=10, check=True)
        commit = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        edited = git(["git", "status", "--porcelain", "--untracked-files=no", "--", "."]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{commit}{'.dirty' if edited else ''}"


def provenance(config: object = None, **inputs: Path | str | None) -> dict:
    """What made a product: code version, the settings of the step, and each input's name with its fingerprint."""
    return {
        "ptychoflow": code_version(),
        "config": config.model_dump(mode="json") if hasattr(config, "model_dump") else config,
        "inputs": {name: _fingerprint(Path(path)) for name, path in inputs.items() if path is not None},
    }


def _fingerprint(path: Path) -> dict:
    """A file's checksum; a folder's is that of its manifest, which holds the checksums of the rest."""
    return {"name": path.name, "sha256": sha256(path / "manifest.json" if path.is_dir() else path)}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
