"""``ptychoflow doctor``: what is installed, what the machine has, and whether a small scan comes out as it should."""

import importlib.metadata
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ..io.provenance import code_version
from ..runtime.extras import EXTRAS

LIBRARIES = ("torch", "numpy", "scipy", "h5py")
TESTED = ("Linux", "x86_64")
"""System and machine that continuous integration runs on."""
UNTESTED = (("Linux", "aarch64"), ("Darwin", "arm64"))
"""Those for which every package that the core needs is published; not tested."""
BANDWIDTH_BYTES, REPETITIONS = 1 << 27, 5


def doctor(skip_test: bool = False) -> int:
    """Check the installation: versions, compiler, threads, memory, GPU, extras, and a self-test of ten seconds.

    Reads nothing. Makes text, to read or to send with a question. Exit code 1 if the self-test came out wrong.

    Args:
        skip_test: leave the self-test out.

    Returns:
        Exit code: 0, or 1 if a number of the self-test is outside its range.

    Example:
        ptychoflow doctor
    """
    for name, text in _findings():
        print(f"{name:<12} {text}", flush=True)
    return 0 if skip_test else _self_test()


def _self_test() -> int:
    """Run the self-test and print its numbers; returns the exit code."""
    from ..orchestration.self_test import self_test

    logging.getLogger("ptychoflow").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        checks, seconds = self_test(Path(folder))
    for check in checks:
        print(f"{'self-test':<12} {check}")
    passed = all(check.passed for check in checks)
    print(f"{'self-test':<12} {'passed' if passed else 'FAILED'} in {seconds:.1f} s")
    return 0 if passed else 1


def _findings() -> Iterator[tuple[str, str]]:
    """Yield name and text of each finding."""
    yield "ptychoflow", f"{code_version()} in {Path(__file__).parents[1]}"
    yield "platform", _platform()
    yield "python", f"{platform.python_version()} in {sys.executable}"
    yield "libraries", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    yield "extras", "; ".join(_extras())
    yield "compiler", _compiler()
    yield "kernels", _kernels()
    yield "processor", _processor()
    yield "memory", _memory()
    yield "GPU", _gpu()
    yield "data cache", _data_cache()


def _platform() -> str:
    here = (platform.system(), platform.machine())
    state = (
        "tested"
        if here == TESTED
        else "expected to work, not tested"
        if here in UNTESTED
        else "not supported: Linux or macOS is needed (on Windows: WSL)"
    )
    return f"{platform.platform()}: {state}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extras() -> Iterator[str]:
    """Yield for each extra the versions of its packages, or how to install it."""
    for extra in dict.fromkeys(EXTRAS.values()):
        versions = {package: _version(package) for package, each in EXTRAS.items() if each == extra}
        if None in versions.values():
            yield f"{extra} not installed (pip install 'ptychoflow[{extra}]')"
        else:
            yield f"{extra} ({', '.join(f'{package} {version}' for package, version in versions.items())})"


def _compiler() -> str:
    from ..physics.kernels.build import find_compiler

    compiler = find_compiler()
    if compiler is None:
        return "not found: install gcc or clang, refinement is then faster"
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    return f"{compiler}: {(done.stdout.splitlines() or ['unknown version'])[0]}"


def _kernels() -> str:
    import torch

    from ..physics.kernels.build import compiled

    missing = [name for name in ("pie.c", "accumulate.c") if compiled(name, torch.float32) is None]
    return "compiled" if not missing else f"{', '.join(missing)} not compiled: the slower torch code is used"


def _processor() -> str:
    import torch

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limit = f"; OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}" if "OMP_NUM_THREADS" in os.environ else ""
    return f"{available} cores for this process, {torch.get_num_threads()} threads in PyTorch{limit}"


def _memory() -> str:
    import psutil
    import torch

    memory, array = psutil.virtual_memory(), torch.zeros(BANDWIDTH_BYTES // 4)
    copy = array.clone()
    began = time.perf_counter()
    for _ in range(REPETITIONS):
        copy.copy_(array)
    rate = 2 * BANDWIDTH_BYTES * REPETITIONS / (time.perf_counter() - began)
    return (
        f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free; "
        f"{rate / 1e9:.1f} GB/s bandwidth (copy of {BANDWIDTH_BYTES >> 20} MiB)"
    )


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        build = "PyTorch is the build for CPUs" if torch.version.cuda is None else "PyTorch sees none"
        return f"none ({build}): everything runs on the processor"
    names = [
        f"{torch.cuda.get_device_name(number)}, {torch.cuda.get_device_properties(number).total_memory / 2**30:.0f} GiB"
        for number in range(torch.cuda.device_count())
    ]
    return f"{'; '.join(names)}; CUDA {torch.version.cuda}: runtime.accelerator=gpu uses it"


def _data_cache() -> str:
    from ..readers.download import data_cache

    folder = data_cache()
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    return f"{folder}, {free:.0f} GiB free{'' if os.access(place, os.W_OK) else ', NOT WRITABLE: set PTYCHOFLOW_DATA'}"
