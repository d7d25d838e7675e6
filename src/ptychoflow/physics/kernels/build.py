"""Loops in C, compiled when they are first needed: for what takes several passes over memory otherwise."""

import ctypes
import functools
import hashlib
import logging
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

NAMES = {torch.float32: "float", torch.float64: "double"}
"""What C calls the numbers that ``REAL`` stands for."""


@functools.cache
def compiled(source: str, dtype: torch.dtype) -> ctypes.CDLL | None:
    """The functions of a C file of this folder, for numbers of this type; None where it cannot be compiled.

    What was compiled is kept in the user's cache. For any processor of the kind, since clusters share that folder.

    Args:
        source: name of the file.
        dtype: a key of :data:`NAMES`.
    """
    import pooch

    path = Path(__file__).with_name(source)
    # a sum rounds alike on every processor, and a loop may look at numbers that it does not take
    flags = [
        "-O3",
        "-ffp-contract=off",
        "-fno-trapping-math",
        "-fno-math-errno",
        "-shared",
        "-fPIC",
        f"-DREAL={NAMES[dtype]}",
    ]
    key = hashlib.sha256(f"{path.read_text()} {flags} {platform.system()} {platform.machine()}".encode()).hexdigest()
    library = pooch.os_cache("ptychoflow") / f"{path.stem}-{key[:16]}.so"
    try:
        if not library.is_file():
            _compile(path, flags, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        logger.info("%s is not compiled (%s): torch does it, slower", path, error)
        return None


def call(function: Callable[..., int], *values: Tensor | int | float) -> int:
    """Call a function in C, which is told where the numbers of a tensor begin.

    Raises:
        ValueError: if they do not lie there one after another, as they are.
    """
    kinds = {int: ctypes.c_int64, float: ctypes.c_float}
    if not all(type(value) in kinds or (value.is_contiguous() and not value.is_conj()) for value in values):
        raise ValueError("a loop in C needs tensors as they lie in memory, without gaps")
    return function(*(kinds[type(v)](v) if type(v) in kinds else ctypes.c_void_p(v.data_ptr()) for v in values))


def _compile(path: Path, flags: list[str], library: Path) -> None:
    """Make a library, whole or not at all.

    Raises:
        OSError: if there is no compiler, or no place for what it makes.
        subprocess.CalledProcessError: if it fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise FileNotFoundError("no C compiler found")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        subprocess.run([compiler, *flags, str(path), "-o", str(made)], check=True, capture_output=True)
        made.replace(library)
