"""A fuzz campaign: ``python -m tests.fuzz.campaign --runs 3000``, each run a forked process with limits.

A run copies the small example run, damages one file of it and gives that to a command as ``main`` of the command line
runs it. It may succeed, or end in one line with exit code 2 (143 after an interruption); everything else is counted.
"""

import argparse
import collections
import contextlib
import ctypes
import dataclasses
import faulthandler
import io
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptychoflow.cli import main as command_line
from ptychoflow.io.provenance import code_version

from .example_run import KINDS, READ, command_of, make_run
from .mutations import SECRET, Private, damage, make_place

LIMIT_SECONDS = 60
LIMIT_BYTES = 2 << 30
PR_SET_PDEATHSIG, DAMAGE_SECONDS = 1, 30
"""Address space of a run beyond that of the program before it."""
FAULTS = ("traceback", "crash", "hang", "memory", "copied", "executed", "untidy")
"""Outcomes that must not happen: an uncaught error, a signal, more than 60 s, more than 2 GiB, a private file in a
product, code of a file that ran, and a message of several lines."""
GOOD = ("passed", "refused")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of one run: its number, kind, damage and command, one of the outcomes above, what was said, its time."""

    number: int
    kind: str
    damage: str
    command: str
    what: str
    message: str
    seconds: float
    megabytes: float = 0.0


def campaign(root: Path, first: int, runs: int, kinds: list[str], limit: float = LIMIT_SECONDS) -> Iterator[Outcome]:
    """Yield the outcome of each run in turn; products come up twice as often as files of other programs."""
    kinds = [*kinds, *(kind for kind in kinds if not kind.startswith("foreign"))]
    example = root / "example"
    make_run(example)
    code_version()
    private = Private(root / "private")
    for number in range(first, first + runs):
        yield one_run(root, example, private, number, kinds[number % len(kinds)], limit)


def one_run(
    root: Path, example: Path, private: Private, number: int, kind: str, limit: float = LIMIT_SECONDS
) -> Outcome:
    """Copy, damage and read in a process of its own; judge what came of it. Negative numbers damage nothing."""
    run, notes = root / "run", root / "notes.json"
    shutil.rmtree(run, ignore_errors=True)
    notes.unlink(missing_ok=True)
    # HDF5 may crash over a file that is damaged twice
    if _wait(_forked(_damage, example, run, notes, private, number, kind), DAMAGE_SECONDS)[0] != 0:
        return Outcome(number, kind, "failed", "", "passed", "not read", 0.0)
    began = time.monotonic()
    status, usage = _wait(_forked(_read, run, notes), limit)
    seconds = time.monotonic() - began
    noted = json.loads(notes.read_text()) if notes.is_file() else {}
    what, message = noted.get("what", ""), noted.get("message", "")
    if status is None:
        what = "hang"
    elif os.WIFSIGNALED(status):
        what, message = "crash", f"signal {os.WTERMSIG(status)}"
    elif not what:
        what, message = "crash", f"ended with {status}"
    if (private.raw.parent / "PWNED").exists():
        (private.raw.parent / "PWNED").unlink()
        what = "executed"
    elif what in GOOD and holds_secret(run, kind):
        what = "copied"
    megabytes = usage / 1024
    if what in GOOD and usage > (LIMIT_BYTES >> 10) + noted.get("before", 0):
        what = "memory"
    return Outcome(
        number, kind, noted.get("damage", "?"), " ".join(noted.get("command", [])), what, message, seconds, megabytes
    )


def _wait(child: int, limit: float) -> tuple[int | None, int]:
    """Wait for a process; kill it after ``limit`` seconds. Return its status and its greatest memory, KiB."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return status, usage.ru_maxrss
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    usage = os.wait4(child, 0)[2]
    return None, usage.ru_maxrss


def _forked(work: Callable[..., None], *arguments: Any) -> int:
    """Start work in a process of its own, which ends with this one; return its number."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        faulthandler.disable()
        try:
            work(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    return child


def _damage(example: Path, run: Path, notes: Path, private: Private, number: int, kind: str) -> None:
    """Copy what a kind of file needs, damage one file, and note how and the command that is to read it."""
    rng = np.random.default_rng([abs(number), sum(map(ord, kind))])
    chosen = KINDS[kind]
    for part in chosen.keep:
        copy = shutil.copytree if (example / part).is_dir() else shutil.copy
        (run / part).parent.mkdir(parents=True, exist_ok=True)
        copy(example / part, run / part)
    victims = sorted({path for pattern in chosen.files for path in run.glob(pattern) if path.is_file()})
    victims = [path for path in victims if path.name != "NAME"]
    command = command_of(chosen, run, int(rng.integers(1000)) if number >= 0 else -1 - number)
    named = [path for path in victims if str(path.relative_to(run)) in " ".join(command)]
    pool = named if named and rng.random() < 0.8 else victims
    victim = pool[int(rng.integers(len(pool)))]
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        done = damage(victim, rng, private) if number >= 0 else "none"
    notes.write_text(json.dumps({"command": command, "damage": f"{victim.relative_to(run)} {done}"}))


def _read(run: Path, notes: Path) -> None:
    """Give the damaged file to its command; add to the notes what happened."""
    noted = json.loads(notes.read_text())
    noted["before"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    make_place(run)
    os.chdir(run)
    _limit_memory()
    notes.write_text(json.dumps(noted | _execute(noted["command"])))


def _execute(command: list[str]) -> dict:
    """Run a command as a process of its own would; return the outcome and the message."""
    logging.getLogger().handlers.clear()
    with open("../stderr", "w+") as errors, open(os.devnull, "r+") as nowhere:
        sys.stdin = nowhere
        os.dup2(errors.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
        sys.stderr, sys.stdout = errors, nowhere
        try:
            code = READ[command[1]](Path(command[2])) if command[0] == "READ" else command_line.main(command)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            return {"what": "traceback", "message": traceback.format_exc()[-1800:]}
        errors.flush()
        errors.seek(0)
        text = errors.read()
    return _judge(code or 0, text)


def _judge(code: int, text: str) -> dict:
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if "Traceback" in text:
        return {"what": "traceback", "message": text[-1800:]}
    if code == 0:
        return {"what": "passed", "message": "\n".join(lines)[-300:]}
    if code != 2 or not last.startswith(("ptychoflow", "READ")):
        return {"what": "untidy", "message": f"exit code {code}: {text[-600:]}"}
    if "out of memory" in last or "MemoryError" in last:
        return {"what": "memory", "message": last}
    return {"what": "refused", "message": last}


def holds_secret(run: Path, kind: str) -> bool:
    """Return True if a file that a command wrote holds the content of a private one."""
    resumed = [*run.glob("refined/net/star.h5"), *run.glob("networks/net.*")]
    for path in [*run.glob("out/**/*"), *(resumed if kind.startswith("interrupted") else ())]:
        if path.is_file() and not path.is_symlink() and _file_holds_secret(path):
            return True
    return False


def _file_holds_secret(path: Path) -> bool:
    if SECRET in path.read_bytes():
        return True
    with contextlib.suppress(Exception):
        if path.suffix in (".h5", ".cxi"):
            found: list[bool] = []
            with h5py.File(path) as file:
                file.visititems(
                    lambda name, node: found.append(SECRET in node[()].tobytes()) if hasattr(node, "dtype") else None
                )
            return any(found)
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return any(SECRET in archive.read(name) for name in archive.namelist())
    return False


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read_model_folder(folder: Path) -> int:
    """Read the folder of a network as MLflow's loader does."""
    from ptychoflow.models.model_folder import read_model_folder

    try:
        read_model_folder(folder)
    except (ValueError, OSError) as error:
        print(f"READ: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


READ["model_folder"] = _read_model_folder


def load_everything() -> None:
    """Import what commands import, so that a run does not."""
    import lightning  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import tifffile  # noqa: F401
    import torch

    torch.set_num_threads(1)
    for name in (
        "simulate",
        "convert",
        "pack",
        "export",
        "compare",
        "sweep",
        "report",
        "run_directory",
        "inspect_file",
    ):
        command_line.load(f"commands.{name}")


def report(outcomes: list[Outcome]) -> str:
    """Return the figures of a campaign, and each fault."""
    counts = collections.Counter(outcome.what for outcome in outcomes)
    lines = [f"{len(outcomes)} runs: " + ", ".join(f"{counts[what]} {what}" for what in (*GOOD, *FAULTS))]
    table = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        table[outcome.kind][outcome.what] += 1
    lines += [f"  {kind:28s} {dict(counts)}" for kind, counts in sorted(table.items())]
    return "\n".join(lines)


def main() -> int:
    """Run a campaign from the command line; 1 if anything happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="number of the first run, its seed")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds after which a run hangs")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), help="kinds of files")
    parser.add_argument("--log", type=Path, help="file for every outcome, JSON lines")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if any(kind.startswith(name) for name in options.kinds)]
    load_everything()
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        log = stack.enter_context(options.log.open("w")) if options.log else None
        for outcome in campaign(Path(scratch).resolve(), options.first, options.runs, kinds, options.limit):
            outcomes.append(outcome)
            if log:
                print(json.dumps(dataclasses.asdict(outcome)), file=log, flush=True)
            if outcome.what in FAULTS:
                print(f"{outcome.number} {outcome.kind}: {outcome.what}: {outcome.damage}\n  {outcome.command}")
                print(f"  {outcome.message[-400:]}")
    print(report(outcomes))
    return int(any(outcome.what in FAULTS for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
