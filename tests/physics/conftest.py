"""C kernels, and torch in their place."""

import shutil

import pytest
import torch

from ptychoflow.physics.kernels.build import compiled


@pytest.fixture(params=["C kernels", "torch"])
def with_and_without_compiler(request, monkeypatch, tmp_path):
    """Run a test with a compiler, and without one where nothing was compiled before."""
    if request.param == "torch":
        for name in ("PATH", "HOME", "XDG_CACHE_HOME"):
            monkeypatch.setenv(name, str(tmp_path))
    elif shutil.which("cc") is None:
        pytest.skip("no C compiler found")
    compiled.cache_clear()
    for source in ("pie.c", "accumulate.c"):
        assert (compiled(source, torch.float32) is None) == (request.param == "torch")
    yield
    compiled.cache_clear()
