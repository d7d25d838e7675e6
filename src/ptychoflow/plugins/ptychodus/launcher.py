"""Start ptychodus with ptychoflow as its PtychoPINN-Torch backend."""

import os
import sys
from pathlib import Path
from typing import NoReturn

FACADE = Path(__file__).with_name("shim")
"""The folder that holds what ptychodus imports as ``ptycho_torch``."""


def launch(*arguments: str) -> NoReturn:
    """Run ptychodus with ptychoflow as its PtychoPINN-Torch backend.

    Reads what ptychodus 1.7.0 is told after ``--``; without arguments ptychodus opens its window. Makes what ptychodus
    makes, and ends with its exit code: this process becomes ptychodus.

    Args:
        arguments: arguments of ptychodus.

    Raises:
        ValueError: if ptychodus is not installed.

    Example:
        ptychoflow ptychodus -- -b train -i standard-directory -o trained
    """
    command = [str(_python()), "-P", "-m", "ptychodus", *arguments]
    # its child processes, which do the work, inherit the path too
    os.execve(command[0], command, os.environ | {"PYTHONPATH": python_path()})


def python_path() -> str:
    """The path on which Python finds our engine under the name that ptychodus imports."""
    library = Path(__file__).parents[3]
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(FACADE), str(library), *([before] if before else [])])


def _python() -> Path:
    """A Python that has ptychodus: this one, or that of the environment that the Makefile puts beside it."""
    from importlib.util import find_spec

    beside = Path(sys.prefix) / "ptychodus" / "bin" / "python"
    if find_spec("ptychodus") is not None:
        return Path(sys.executable)
    if beside.is_file():
        return beside
    raise ValueError("ptychodus is not installed: pip install ptychodus==1.7.0, or make test-ptychodus")
