"""Run of the workflow by Snakemake as a process of its own: its log in a file, its progress in plain words."""

import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from .run_folder import RunFolder, locked
from .workflow_files import workflow_root

logger = logging.getLogger(__name__)

WORDS = {
    "simulate": "simulating {scan}",
    "convert": "reading {scan}",
    "pack": "packing the patterns of {scan}",
    "train": "training {method}",
    "infer": "predicting {scan} by {method}",
    "stitch": "stitching {scan} by {method}",
    "reconstruct": "reconstructing {scan} by {method}",
    "refine": "refining {scan} by {method}",
    "evaluate": "evaluating {scan} by {method}",
    "sweep": "drawing the sweep {sweep}",
    "export": "exporting {scan} by {method}",
    "export_file": "exporting {scan} by {method}",
    "report": "writing the report",
}
"""Work of each rule, in words; names in braces are its wildcards."""
RULE = re.compile(r"^(?:local)?rule (\w+):$")
LAST = "    resources: "
"""Start of the last line about a step that begins."""
WILDCARDS = re.compile(r"^    wildcards: (.*)$")
TOTAL = re.compile(r"^total +(\d+)$")
NOTHING = "Nothing to be done"
FAILED = re.compile(r"^ptychoflow: a step failed; (\S+) ends with: (.*)$")
REFUSED = re.compile(r"^ptychoflow: (config: .*)$")
BAD_INPUT = re.compile(r"^ptychoflow [\w-]+: (.*)$")
POLL_S = 0.1
GRACE_S = 20.0
"""Time that Snakemake has to end its steps when the run is stopped, s."""


class StepFailedError(Exception):
    """A step ended with an error that is not one of its input; the message names the log."""


@dataclass
class Progress:
    """Steps that the log of Snakemake shows to begin, and the errors of those that failed.

    Attributes:
        errors: message of each failed step, with the path of its log.
        at_fault: True while every failure is one of input, which the step itself explains in its last line.
    """

    errors: list[str] = field(default_factory=list)
    at_fault: bool = True
    _step: int = 0
    _steps: int = 0
    _rule: str = ""
    _wildcards: dict[str, str] = field(default_factory=dict)

    def read(self, line: str, folder: Path) -> str | None:
        """Return what to show for a line of the log, if anything.

        Args:
            line: a line without its end.
            folder: the working directory, which paths in the log are relative to.
        """
        if match := RULE.match(line):
            self._rule, self._wildcards = match[1], {}
        elif match := WILDCARDS.match(line):
            self._wildcards = dict(pair.split("=", 1) for pair in match[1].split(", ") if "=" in pair)
        elif line.startswith(LAST) and self._rule:
            return self._begun()
        elif match := TOTAL.match(line):
            self._steps, self._step = int(match[1]) - 1, 0  # without the target `all`
        elif line.startswith(NOTHING):
            return "nothing to do: each step was done before"
        elif match := FAILED.match(line):
            self._failed(folder / match[1], match[2])
        elif match := REFUSED.match(line):
            self.errors.append(match[1])
        return None

    def _begun(self) -> str | None:
        words, self._rule = WORDS.get(self._rule), ""
        if words is None:
            return None
        self._step += 1
        return f"step {self._step} of {self._steps}: {words.format_map(_Names(self._wildcards))}"

    def _failed(self, log: Path, last_line: str) -> None:
        explained = BAD_INPUT.match(last_line)
        self.at_fault = self.at_fault and explained is not None
        self.errors.append(f"{explained[1] if explained else last_line} (log: {log})")


class _Names(dict):
    """Wildcards by name; one that a rule lacks is left out."""

    def __missing__(self, name: str) -> str:
        return ""


def require_snakemake() -> None:
    """Raise the error of a missing import if Snakemake is not installed.

    Raises:
        ModuleNotFoundError: if it is not.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise ModuleNotFoundError("No module named 'snakemake'", name="snakemake")


def run_workflow(folder: RunFolder, profile: Path | None = None, cores: str = "all") -> None:
    """Run the workflow of a folder's config until its report is there; done steps are not done again.

    Args:
        folder: the run folder, with its config.
        profile: folder of a Snakemake profile; without one the steps run on this machine.
        cores: number of processor cores, or ``all``.

    Raises:
        ModuleNotFoundError: if Snakemake is not installed.
        ValueError: if a step found its input wrong, with the step's own message; or another run has the folder.
        StepFailedError: if a step failed otherwise.
    """
    require_snakemake()
    progress = Progress()
    with locked(folder.path) as lock, folder.log.open("a+", encoding="utf-8", errors="replace") as log:
        log.seek(0, os.SEEK_END)
        with _snakemake(folder, _command(folder, profile, cores), lock) as process:
            for line in _follow(log, process):
                if shown := progress.read(line, folder.path):
                    logger.info("%s", shown)
    if process.returncode:
        errors = progress.errors or [f"Snakemake ended with exit code {process.returncode} (log: {folder.log})"]
        raise (ValueError if progress.errors and progress.at_fault else StepFailedError)("; ".join(errors))


def _command(folder: RunFolder, profile: Path | None, cores: str) -> list[str]:
    """Return the command line of Snakemake. The lock is ours, so that a killed run leaves none behind."""
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(workflow_root() / "workflow" / "Snakefile")),
        *("--directory", str(folder.path), "--configfile", str(folder.config)),
        *("--rerun-incomplete", "--nocolor", "--nolock"),
        *(("--workflow-profile", str(profile)) if profile is not None else ("--cores", cores)),
    ]


@contextmanager
def _snakemake(folder: RunFolder, command: list[str], lock: int) -> Iterator[subprocess.Popen]:
    """Start Snakemake, and end it with the block. It keeps the lock where this process is killed before it."""
    environment = os.environ | {"PTYCHOFLOW_TERMINAL": os.ttyname(2) if os.isatty(2) else ""}
    with folder.log.open("a") as output:
        process = subprocess.Popen(
            command,
            cwd=folder.path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(lock,),
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _follow(log: TextIO, process: subprocess.Popen) -> Iterator[str]:
    """Yield the lines that a process appends to its log, until it has ended."""
    partial = ""
    while True:
        ended = process.poll() is not None
        for line in log:
            partial += line
            if partial.endswith("\n"):
                yield partial.rstrip("\n")
                partial = ""
        if ended:
            break
        time.sleep(POLL_S)
    if partial:
        yield partial
