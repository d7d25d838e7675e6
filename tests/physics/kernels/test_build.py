"""A compiled kernel is believed only where nobody else can have written it, and only if it is whole."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ptychoflow.physics.kernels import build
from ptychoflow.physics.kernels.build import compiled

SOURCE = "accumulate.c"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the user."""
    if build.shutil.which("cc") is None:
        pytest.skip("no C compiler found")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.cache_clear()
    yield tmp_path / "ptychoflow"
    compiled.cache_clear()


def _again():
    compiled.cache_clear()
    return compiled(SOURCE, torch.float32)


@pytest.fixture
def compilations(monkeypatch) -> list[Path]:
    """Files that are compiled from now on."""
    seen: list[Path] = []
    real = build._compile

    def watched(path: Path, flags: list[str]) -> bytes:
        seen.append(path)
        return real(path, flags)

    monkeypatch.setattr(build, "_compile", watched)
    return seen


def test_a_kernel_is_compiled_once_and_kept_for_this_user_alone(cache, compilations):
    assert _again() is not None and _again() is not None
    assert len(compilations) == 1
    (kept,) = cache.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["truncated", "empty", "replaced", "writable by others", "folder writable"])
def test_a_kernel_that_cannot_be_believed_is_compiled_again(cache, compilations, damage):
    _again()
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    content = {"truncated": whole[: len(whole) // 2], "empty": b"", "replaced": b"\x7fELF" + bytes(5000)}.get(damage)
    if content is not None:
        kept.write_bytes(content)
    else:
        (kept if damage == "writable by others" else cache).chmod(0o777)
    assert _again() is not None and _again() is not None and len(compilations) == 2, "compiled once more, then believed"
    assert kept.read_bytes() == whole


def test_a_kernel_of_another_user_is_not_believed(cache, compilations, monkeypatch):
    _again()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert _again() is not None and len(compilations) == 2


def test_a_kernel_that_is_truncated_while_it_is_used_ends_nothing(cache):
    """A library that is mapped from the cache would end the process by SIGBUS."""
    code = (
        "import torch; from pathlib import Path; from ptychoflow.physics.kernels.build import compiled\n"
        f"kernels = compiled({SOURCE!r}, torch.float32)\n"
        f"for path in Path({str(cache)!r}).iterdir(): path.write_bytes(b'')\n"
        "from ptychoflow.physics.kernels.accumulate import splat_\n"
        "image = torch.zeros(9, 9); ones = torch.ones(1, 4, 4)\n"
        "splat_(image, ones, torch.full((1, 2), 4.0, dtype=torch.float64), ones[0], torch.zeros(9, 9))\n"
        "print(kernels is not None, image.sum().item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True 16.0\n"), done.stderr


def test_a_compiler_that_hangs_is_given_up(cache, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cc").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "bin" / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(build, "COMPILE_LIMIT_S", 0.2)
    began = time.monotonic()
    assert _again() is None and time.monotonic() - began < 10


def test_a_cache_that_cannot_be_written_only_costs_time(cache, compilations):
    cache.parent.joinpath("ptychoflow").write_text("a file")
    assert _again() is not None and _again() is not None and len(compilations) == 2
