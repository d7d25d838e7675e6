"""`snakemake --sdm conda` makes the environments of the steps, from a channel made here: `make test-conda`."""

import asyncio
import ensurepip
import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..workflow.conftest import Workflow
from ..workflow.test_environments import ROOT, _pinned

pytestmark = pytest.mark.skipif(os.environ.get("PTYCHOFLOW_CONDA") != "1", reason="make test-conda runs it")

SITE = "lib/python{}.{}/site-packages".format(*sys.version_info)
HERE = Path(sysconfig.get_path("purelib"))
TORCH = ("torch", "torchgen", "functorch", "sympy", "mpmath", "networkx", "filelock", "fsspec")


def _package(channel: Path, name: str, version: str, needs: list[str], files: dict[str, bytes | Path]) -> None:
    """Write a conda package of files, each with its content or as a link to where it is."""
    kinds = [
        {"_path": path, "path_type": "softlink" if isinstance(what, Path) else "hardlink"}
        for path, what in files.items()
    ]
    index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": needs, "subdir": "linux-64"}
    about = {"info/index.json": index, "info/paths.json": {"paths_version": 1, "paths": kinds}}
    with tarfile.open(channel / "linux-64" / f"{name}-{version}-0.tar.bz2", "w:bz2") as archive:
        for path, what in ({path: json.dumps(data).encode() for path, data in about.items()} | files).items():
            entry = tarfile.TarInfo(path)
            if isinstance(what, Path):
                entry.type, entry.linkname = tarfile.SYMTYPE, str(what)
            else:
                entry.size = len(what)
            archive.addfile(entry, None if isinstance(what, Path) else io.BytesIO(what))


def _pip() -> Iterator[tuple[str, bytes]]:
    """The files of the pip that comes with Python."""
    [wheel] = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            yield f"{SITE}/{name}", archive.read(name)


@pytest.fixture(scope="module")
def channel(tmp_path_factory) -> Path:
    """A channel of what the environments ask conda for: the Python, the pip and the PyTorch of this machine."""
    from rattler.index import index_fs

    folder = tmp_path_factory.mktemp("channels") / "conda-forge"
    (folder / "linux-64").mkdir(parents=True)
    (folder / "noarch").mkdir()
    version = ".".join(map(str, sys.version_info[:3]))
    python = Path(sys._base_executable).resolve()
    config = f"home = {python.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    _package(folder, "python", version, [], {"bin/python": python, "pyvenv.cfg": config.encode()})
    _package(folder, "pip", "23", ["python"], dict(_pip()))
    torch = [HERE / name for name in TORCH] + [*HERE.glob("torch-*.dist-info")]
    links = {f"{SITE}/{path.name}": path for path in torch if path.exists()}
    _package(folder, "pytorch-cpu", "2.13.0", ["python"], links)
    asyncio.run(index_fs(folder))
    return folder


def test_steps_run_in_an_environment_with_the_locked_versions(channel, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDA_CHANNEL_ALIAS", channel.parent.as_uri())
    monkeypatch.setenv("PATH", f"{Path(__file__).parent / 'bin'}:{os.environ['PATH']}")
    done = Workflow(tmp_path).run("--cores", "1", "--sdm", "conda", "--", "results/datasets/leaves", timeout=1800)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (done.stdout + done.stderr).count("Activating conda environment: ") == 2
    assert (tmp_path / "results/datasets/leaves/manifest.json").is_file()
    [made] = (path.parent for path in (tmp_path / ".snakemake/conda").glob("*/conda-meta"))
    listed = subprocess.run([made / "bin/python", "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
    found = _pinned(listed.stdout.splitlines())
    locked = _pinned((ROOT / "envs/analysis.linux-64.lock.txt").read_text().splitlines())
    assert locked.items() <= found.items() and "lightning" not in found
