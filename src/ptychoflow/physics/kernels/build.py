"""Build of the C kernels: compiled when first needed, for what takes several passes over memory in torch."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

COMPILE_LIMIT_S = 120
"""Longest time of a compilation, s; torch does the work without it."""
DIGEST_BYTES = hashlib.sha256().digest_size
"""Bytes at the end of a file of the cache: the SHA-256 digest of the library before them."""
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
    cached = pooch.os_cache("ptychoflow") / f"{path.stem}-{key[:16]}.kernel"
    try:
        content = _read_cached(cached)
        if content is None:
            content = _compile(path, flags)
            _write_cached(cached, content)
        return _load(content)
    except (OSError, subprocess.SubprocessError) as error:
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


def _compile(path: Path, flags: list[str]) -> bytes:
    """Compile a C file and return the shared library.

    Raises:
        OSError: if no compiler is found.
        subprocess.SubprocessError: if the compiler fails, or takes longer than :data:`COMPILE_LIMIT_S`.
    """
    compiler = find_compiler()
    if compiler is None:
        raise FileNotFoundError("no C compiler found")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "kernel.so"
        command = [compiler, *flags, str(path), "-o", str(library)]
        subprocess.run(command, check=True, timeout=COMPILE_LIMIT_S, stdin=subprocess.DEVNULL, capture_output=True)
        return library.read_bytes()


def _load(content: bytes) -> ctypes.CDLL:
    """Load a shared library from memory: what others do to a file cannot reach it, no truncation ends the process."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("ptychoflow-kernel")
        with open(handle, "wb", closefd=False) as file:
            file.write(content)
        return ctypes.CDLL(f"/proc/self/fd/{handle}")  # the handle stays open: the name must not be given again
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "kernel.so"
        library.write_bytes(content)
        return ctypes.CDLL(str(library))


def _read_cached(path: Path) -> bytes | None:
    """Return a library from the cache; None if it is missing, damaged, or someone else could have written it."""
    try:
        with open(path, "rb") as file:
            mine = _is_private(os.fstat(file.fileno())) and _is_private(path.parent.stat())
            content = file.read() if mine else b""
    except OSError:
        return None
    library, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if not library or hashlib.sha256(library).digest() != digest:
        logger.info("%s is damaged or not of this user: compiling it again", path)
        return None
    return library


def _is_private(status: os.stat_result) -> bool:
    """Return True if nobody but this user can have written a file or folder."""
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _write_cached(path: Path, library: bytes) -> None:
    """Keep a library and its digest for the next process, atomically; a cache that cannot be written is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_private(path.parent.stat()):  # a umask of 002 lets the group write
            path.parent.chmod(0o700)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            partial = Path(folder) / path.name
            with partial.open("wb") as file:
                file.write(library + hashlib.sha256(library).digest())
                file.flush()
                os.fsync(file.fileno())
            partial.chmod(0o600)
            partial.replace(path)
    except OSError as error:
        logger.debug("%s cannot be kept (%s)", path, error)
