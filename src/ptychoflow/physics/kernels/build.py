"""Build of the C kernels: compiled when first needed, for what takes several passes over memory in torch."""

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

C_TYPES = {torch.float32: "float", torch.float64: "double"}
"""C types that ``REAL`` stands for, by dtype."""


@functools.cache
def compiled(source: str, dtype: torch.dtype) -> ctypes.CDLL | None:
    """Compile a C file of this folder, or load it from the user's cache.

    The library is built for any processor of the architecture, since the nodes of a cluster share that cache.

    Args:
        source: name of the file.
        dtype: precision, a key of :data:`C_TYPES`.

    Returns:
        The functions of the file; None where it cannot be compiled.
    """
    import pooch

    path = Path(__file__).with_name(source)
    # a sum rounds alike on every processor, and a vectorised loop may read numbers that it does not use
    flags = [
        "-O3",
        "-ffp-contract=off",
        "-fno-trapping-math",
        "-fno-math-errno",
        "-shared",
        "-fPIC",
        f"-DREAL={C_TYPES[dtype]}",
    ]
    key = hashlib.sha256(f"{path.read_text()} {flags} {platform.system()} {platform.machine()}".encode()).hexdigest()
    library = pooch.os_cache("ptychoflow") / f"{path.stem}-{key[:16]}.so"
    try:
        if not library.is_file():
            _compile(path, flags, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        logger.info("%s cannot be compiled (%s): using the slower torch implementation", path, error)
        return None


def call(function: Callable[..., int], *values: Tensor | int | float | None) -> int:
    """Call a C kernel, passing tensors by the address of their first number.

    Args:
        function: of the library that :func:`compiled` returns.
        values: contiguous tensors, numbers as int64 and float32, and None as a null pointer.

    Returns:
        Result of the function; undefined for one that returns nothing.

    Raises:
        ValueError: if a tensor is not contiguous, or its conjugation is pending.
    """
    if not all(value.is_contiguous() and not value.is_conj() for value in values if isinstance(value, Tensor)):
        raise ValueError("C kernels need contiguous tensors: call .resolve_conj().contiguous() first")
    return function(*map(_c_argument, values))


def _c_argument(value: Tensor | int | float | None) -> ctypes.c_void_p | ctypes.c_int64 | ctypes.c_float:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_float(value)


def find_compiler() -> str | None:
    """Return the path of a C compiler; None where there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def _compile(path: Path, flags: list[str], library: Path) -> None:
    """Compile a C file to a shared library, atomically.

    Raises:
        OSError: if no compiler is found, or the library cannot be written.
        subprocess.CalledProcessError: if the compiler fails.
    """
    compiler = find_compiler()
    if compiler is None:
        raise FileNotFoundError("no C compiler found")
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        partial = Path(folder) / library.name
        subprocess.run([compiler, *flags, str(path), "-o", str(partial)], check=True, capture_output=True)
        partial.replace(library)
