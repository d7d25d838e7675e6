"""Watch of a folder: each scan is run once it is complete; its verdict, or the reason why it failed, is kept."""

import fnmatch
import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..io.atomic import atomic_file, write_json
from ..io.json_file import read_json
from ..reporting.results import read_results
from ..reporting.scan_list import render_scan_list
from ..reporting.summary_text import verdict
from .run_folder import SUFFIX, InUseError, RunFolder, file_state
from .run_preparation import prepare
from .workflow_run import StepFailedError, run_workflow

logger = logging.getLogger(__name__)

STATE, PAGE = "scans.json", "index.html"
"""Files of the output folder: the state of each scan, and the page that lists them."""
POLL_S = 1.0
Entry = dict[str, Any]


@dataclass(frozen=True)
class WatchedFolder:
    """A folder that scans arrive in, and the folder of their runs.

    Attributes:
        folder: where scans arrive.
        output: holds a run folder for each scan, the state and the page.
        patterns: of the names of scans, such as ``*.h5``.
        quiet_s: time for which a file must not have changed, s.
    """

    folder: Path
    output: Path
    patterns: Sequence[str]
    quiet_s: float

    def entries(self) -> dict[str, Entry]:
        """Return what is known of each scan, by name."""
        path = self.output / STATE
        return read_json(path) if path.is_file() else {}

    def waiting(self) -> Iterator[tuple[str, Entry]]:
        """Yield name and state of the scans that are new, or have changed since they were run or failed."""
        known = self.entries()
        for path in sorted(self.folder.iterdir()):
            wanted = any(fnmatch.fnmatch(path.name, pattern) for pattern in self.patterns)
            if not wanted or path.name.startswith(".") or path.suffix == SUFFIX:
                continue
            state = file_state(path)
            if known.get(path.name, {}).get("file") != state:
                yield path.name, state

    def is_complete(self, state: Entry) -> bool:
        """Return True if a file has not changed for a while and no other program writes it."""
        still = time.time() - state["changed_ns"] * 1e-9 >= self.quiet_s
        return still and not _is_written(Path(state["path"]))

    def record(self, name: str, entry: Entry) -> None:
        """Keep the outcome of a scan, and write the page anew."""
        entries = self.entries() | {name: entry}
        write_json(self.output / STATE, entries)
        with atomic_file(self.output / PAGE) as partial:
            partial.write_text(render_scan_list(self.folder.name, entries), encoding="utf-8")


def watch_folder(
    watched: WatchedFolder, overrides: dict[str, Any], profile: Path | None, cores: str, until_idle_s: float | None
) -> None:
    """Run each scan of a folder as it arrives, until interrupted or idle.

    Args:
        watched: the folder.
        overrides: settings laid over those that ``inspect`` proposes.
        profile: folder of a Snakemake profile.
        cores: number of processor cores, or ``all``.
        until_idle_s: end after this time without a scan to run, s; None watches on.
    """
    idle_since = time.monotonic()
    while until_idle_s is None or time.monotonic() - idle_since < until_idle_s:
        complete = [(name, state) for name, state in watched.waiting() if watched.is_complete(state)]
        for name, state in complete:
            folder = watched.output / f"{name}{SUFFIX}"
            run = functools.partial(_run, folder, state, overrides, profile, cores)
            try:
                watched.record(name, run_scan(state, run))
            except InUseError as error:  # a run of a process that was killed ends by itself
                logger.info("%s waits: %s", name, error)
            idle_since = time.monotonic()
        time.sleep(POLL_S)


def run_scan(state: Entry, run: Callable[[], RunFolder]) -> Entry:
    """Run a scan; return its verdict, or the reason why it failed.

    Raises:
        InUseError: if another process runs in its folder.
    """
    began = time.time()
    try:
        folder = run()
    except InUseError:
        raise
    except (ValueError, OSError, StepFailedError) as error:
        reason = " ".join(str(error).split())
        logger.warning("%s failed: %s", Path(state["path"]).name, reason)
        return {"file": state, "level": "failed", "verdict": reason, "finished": time.time()}
    result = min(read_results(folder.metrics), key=lambda found: found.refined["r_factor"])
    level, reason = verdict(result)
    logger.info("%s: %s; it %s", result.scan, level, reason)
    return {
        "file": state,
        "level": level,
        "verdict": reason,
        "r_factor": result.refined["r_factor"],
        "noise_floor": result.refined["noise_floor"],
        "report": str(folder.report.relative_to(folder.path.parent)),
        "seconds": time.time() - began,
        "finished": time.time(),
    }


def _run(path: Path, state: Entry, overrides: dict[str, Any], profile: Path | None, cores: str) -> RunFolder:
    """Run a scan in its folder; a file that has changed since an earlier run gets a folder of its own."""
    folder = prepare(Path(state["path"]), path, overrides, numbered=True)
    run_workflow(folder, profile, cores)
    return folder


def _is_written(path: Path) -> bool:
    """Return True if another program has an HDF5 file open for writing, also in SWMR mode."""
    import h5py

    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r"):
            return False
    except BlockingIOError:
        return True
    except OSError as error:
        return "unable to lock" in str(error) or "open for write" in str(error)
