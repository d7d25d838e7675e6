"""``ptychoflow run`` and ``ptychoflow init``: the workflow from a file to its report, and a copy of it for editing."""

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..orchestration import workflow_files
from ..orchestration.run_folder import SUFFIX, RunFolder
from ..orchestration.run_preparation import prepare
from ..orchestration.workflow_run import StepFailedError, require_snakemake, run_workflow
from ..reporting.results import read_results
from ..reporting.summary_text import figures, verdict
from .exit_codes import BAD_INPUT
from .step_settings import assigned, parse_assignment, read_settings

FAILED = 1
"""Exit code of a run in which a step failed, not for its input."""


def run(
    files: Sequence[Path],
    *,
    output: Path | None = None,
    config: str | None = None,
    set: Sequence[str] = (),
    profile: str | None = None,
    cores: str = "all",
    view: bool = False,
) -> int:
    """Run the workflow on measurements, from each file to its report.

    Reads measurements of any format, or configs. Makes a folder for each: the config that ``inspect`` proposes, the
    reconstruction, metrics and a report.

    A second run of the same file and settings resumes. Other settings, or a file that has changed, get a folder of
    their own. Exit codes: 0 done, 1 a step failed, 2 wrong input.

    Args:
        files: measurements, or configs of runs (``.yaml``); a bare name is looked for in the data cache too.
        output: folder for the run instead of FILE.ptychoflow; of several files, the folder for theirs.
        config: settings laid over those that ``inspect`` proposes, JSON text or a file.
        set: one setting such as refinement.epochs=30, laid over those; may be repeated.
        profile: where steps run: local, slurm, kubernetes, or a folder with a Snakemake profile.
        cores: number of processor cores to use, or all.
        view: open each report in the browser.

    Returns:
        Exit code.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged or a setting is wrong.
        ModuleNotFoundError: if Snakemake is not installed.

    Example:
        ptychoflow run measurement.h5
    """
    require_snakemake()
    profile_folder = workflow_files.find_profile(profile) if profile is not None else None
    overrides = overrides_of(config, set)
    codes = [0]
    for file in files:
        place = output / f"{file.name}{SUFFIX}" if output is not None and len(files) > 1 else output
        try:
            folder = prepare(file, place, overrides)
            print(f"{'resuming' if folder.resumed else 'running'} in {folder.path}", file=sys.stderr)
            run_workflow(folder, profile_folder, cores)
            print("\n".join(_summary(folder)), flush=True)
            if view:
                webbrowser.open(folder.report.as_uri())
        except (ValueError, OSError, StepFailedError) as error:
            codes.append(FAILED if isinstance(error, StepFailedError) else BAD_INPUT)
            print(f"ptychoflow run: {file}: {' '.join(str(error).split())}", file=sys.stderr)
    return max(codes)


def overrides_of(config: str | None, assignments: Sequence[str]) -> dict[str, Any]:
    """Return the sections of ``--config`` with those of ``--set`` laid over them."""
    settings = read_settings(config, "--config")
    for assignment in assignments:
        settings |= assigned(settings, *parse_assignment(assignment))
    return settings


def _summary(folder: RunFolder) -> list[str]:
    """Return how good each reconstruction of a run is, and where its files are."""
    lines = []
    for result in read_results(folder.metrics):
        level, reason = verdict(result)
        lines.append(f"{result.scan} by {result.method}: {level}; it {reason}")
        lines += [f"  {figure.name}: {figure.value} ({figure.comparison})" for figure in figures(result)]
        lines.append(f"  object   {folder.path / 'results' / 'refined' / result.method / result.scan}.h5")
    return [*lines, f"report     {folder.report}", f"config     {folder.config}"]


def init(directory: Path) -> str:
    """Copy the workflow for editing: Snakefile, rules, configs, profiles and environments.

    Reads nothing. Makes copies of the files that ``run`` uses; Snakemake runs them from the folder.

    Args:
        directory: a new folder, or one without such files.

    Raises:
        ValueError: if the folder holds such files already.
        OSError: if it is not writable.

    Example:
        ptychoflow init my-workflow
    """
    workflow_files.copy_workflow(directory)
    return f"wrote {', '.join(workflow_files.NAMES)} to {directory}: run `snakemake --cores all` there"
