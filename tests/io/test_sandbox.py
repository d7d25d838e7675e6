"""A file that crashes a library, takes too long or too much memory does so in a process of its own."""

import os
import signal
from pathlib import Path

import pytest

from ptychoflow.io import sandbox


def _spin() -> None:
    while True:
        pass


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), r"crashed \(exit code -11\)"),
        (_spin, "took longer than 1 s"),
        (lambda: bytes(1 << 33), "takes more than 0.5 GiB of memory"),
        (lambda: _raise(KeyError("no\nsuch")), r"damaged \(KeyError: .*such"),
        (lambda: _raise(ValueError("as it is")), "^as it is$"),
    ],
    ids=["crash", "endless", "memory", "library", "ours"],
)
def test_what_happens_in_the_child_is_one_line_here(monkeypatch, read, reason):
    monkeypatch.setattr(sandbox, "LIMIT_SECONDS", 1.0)
    with pytest.raises(ValueError, match=reason) as caught:
        sandbox.read_in_subprocess(read, Path("a.h5"), 1 << 29)
    assert "\n" not in str(caught.value)
