"""The command line: paths in, settings as JSON, paths out. A command is imported only when it runs."""

import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from cyclopts import CycloptsError

from ..io.atomic import replacing
from ..io.output_guard import check_outputs
from ..runtime.extras import missing_extra
from .app import Invocation, make_app
from .exit_codes import BAD_INPUT, BROKEN_PIPE, INTERRUPTED, TERMINATED
from .outputs import inputs_of, outputs_of
from .usage_errors import usage_error

TRACEBACK = "PTYCHOFLOW_TRACEBACK"
"""Environment variable that acts as ``--traceback`` for every command."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        words: the command line without the program's name; by default that of the process.

    Returns:
        Exit code: 0, 2 for wrong usage or input, 130 when interrupted, 141 when the reader of the output went away,
        143 when terminated.
    """
    words = sys.argv[1:] if words is None else list(words)
    app = make_app()
    try:
        function, given, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        print(usage_error(error), file=sys.stderr)
        return BAD_INPUT
    answer = function(*given.args, **given.kwargs)
    if isinstance(answer, Invocation):
        return run(answer)
    # a page of help was printed; without a command it is an error not to have named one
    return 0 if any(word in ("--help", "-h", "--version") for word in words) else BAD_INPUT


def run(invocation: Invocation) -> int:
    """Run a command with its signals, its log and its errors handled; returns the exit code."""
    name, values = invocation.command.name, dict(invocation.values)
    show_traceback = values.pop("traceback", False)
    logging.basicConfig(format="%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    # the first rank logs for all
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    logging.getLogger("ptychoflow").setLevel(logging.INFO if first else logging.WARNING)
    # SystemExit lets a step remove its temporary files
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        return _call(invocation, values)
    except KeyboardInterrupt:
        print(f"ptychoflow {name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # nothing may be flushed into the closed pipe on the way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        if show_traceback or os.environ.get(TRACEBACK):
            raise
        print(f"ptychoflow {name}: {in_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        remedy = missing_extra(error)
        if show_traceback or remedy is None:
            raise
        print(f"ptychoflow {name}: {remedy}", file=sys.stderr)
        return BAD_INPUT


def in_one_line(error: BaseException) -> str:
    """Return the message of an error in one line; errors of libraries, which name no remedy, with one."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"out of memory ({text or 'no size given'}): close other programs, or take fewer or smaller patterns"
    if isinstance(error, RecursionError):
        return "a file or a setting is nested too deeply: make it again"
    if isinstance(error, RuntimeError):
        return f"{text or type(error).__name__} ({type(error).__name__}; --traceback shows where it arose)"
    return text or type(error).__name__


def load(name: str) -> ModuleType:
    """Import a module of this library.

    Garbage collection is off meanwhile, and what was imported is exempt from it afterwards: traversing a hundred
    thousand permanent objects again and again takes a third of the time in which a training starts.
    """
    gc.disable()
    try:
        return importlib.import_module(f"ptychoflow.{name}")
    finally:
        gc.freeze()
        gc.enable()


def _call(invocation: Invocation, values: dict[str, Any]) -> int:
    """Call the function of a command; what it returns is an exit code or a text to print."""
    command, sections = invocation.command, invocation.signature.sections
    arguments = dict(values)
    benchmark, force = values.pop("benchmark", None), values.pop("force", False)
    settings = _settings(invocation, values) if sections else {}
    outputs = _checked_outputs(command.name, arguments, settings, force)
    values |= settings
    _take_gpus(values)
    _refuse_special_files(values)
    positional = values.pop("arguments", ()) if command.name == "ptychodus" else ()
    module, _, function = command.function.partition(":")
    with replacing(*outputs) if force else nullcontext():
        answer = getattr(load(module), function)(*positional, **values)
    if isinstance(answer, str):
        print(answer)
    if benchmark is not None:
        load("orchestration.benchmark").write_benchmark(benchmark)
    return answer if isinstance(answer, int) else 0


def _refuse_special_files(values: dict[str, Any]) -> None:
    """Refuse pipes, sockets and devices among the paths of a command, which may be read or written without end."""
    for value in values.values():
        for path in value if isinstance(value, list | tuple) else (value,):
            if isinstance(path, Path):
                load("io.regular_file").check_not_special(path)


def _checked_outputs(command: str, arguments: dict[str, Any], settings: dict[str, Any], force: bool) -> list[Path]:
    """Return what a command will write, once it is certain that no input and nothing foreign is lost."""
    outputs = outputs_of(command, arguments)
    if outputs:
        check_outputs(outputs, inputs_of(command, arguments, settings), force)
    return [path for path, _ in outputs]


def _settings(invocation: Invocation, values: dict[str, Any]) -> dict[str, Any]:
    """Take the options that hold settings out of ``values``; return the sections they make."""
    from .step_settings import RUN_SECTIONS, step_settings

    command, signature = invocation.command, invocation.signature
    run_settings = {name: values.pop(name, None) for name in RUN_SECTIONS if name in signature.sections}
    measurement = None
    if command.file_argument is not None:
        measurement = str(values[command.file_argument])
        if command.file_argument not in {parameter.name for parameter in signature.parameters}:
            del values[command.file_argument]
    return step_settings(
        command.name,
        signature.sections,
        values.pop("config", None),
        values.pop("set", ()),
        run_settings,
        measurement,
    )


def _take_gpus(values: dict[str, Any]) -> None:
    """Reserve GPUs for this process before PyTorch is imported and looks for them."""
    runtime = values.get("runtime")
    if runtime is not None and runtime.accelerator == "gpu":
        load("runtime.gpu").take_devices(runtime.devices)
