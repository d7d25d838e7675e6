"""Loops in C and what torch does in their place."""

import shutil

import pytest
import torch

from ptychoflow.physics.kernels.build import compiled


@pytest.fixture(params=["in C", "in torch"])
def with_and_without_compiler(request, monkeypatch, tmp_path):
    """Everything holds with a compiler, and without one where nothing was compiled before."""
    if request.param == "in torch":
        for name in ("PATH", "HOME", "XDG_CACHE_HOME"):
            monkeypatch.setenv(name, str(tmp_path))
    elif shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    compiled.cache_clear()
    for source in ("pie.c", "accumulate.c"):
        assert (compiled(source, torch.float32) is None) == (request.param == "in torch")
    yield
    compiled.cache_clear()
