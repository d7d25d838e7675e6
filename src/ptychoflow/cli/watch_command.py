"""``ptychoflow watch``, ``status`` and ``clean``: scans of a beam time as they arrive, their list, and disk space."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..orchestration import workflow_files
from ..orchestration.run_folder import REQUEST, SUFFIX, locked
from ..orchestration.watching import PAGE, STATE, WatchedFolder, watch_folder
from ..orchestration.workflow_run import require_snakemake
from .run_command import overrides_of

REMOVABLE = ("scans", "datasets", "patches", "networks", "reconstructions", "refined", "metrics", "exports")
"""Folders of a run's results that ``clean`` removes unless they are kept; report and logs stay."""


def watch(
    folder: Path,
    *,
    output: Path | None = None,
    names: Sequence[str] = ("*.h5", "*.hdf5", "*.nxs", "*.cxi", "*.npz", "*.mat", "*.emd", "*.ptyd"),
    quiet: str = "5",
    until_idle: str | None = None,
    config: str | None = None,
    set: Sequence[str] = (),
    profile: str | None = None,
    cores: str = "all",
) -> None:
    """Watch a folder and run the workflow on each scan as it arrives.

    Reads measurements as they appear. Makes a run folder for each scan, and one page that lists them with verdicts.

    A file that is still written is waited for. A scan that fails is listed with its reason and left alone until its
    file changes. Stopped and started again, it goes on where it was; nothing is done twice.

    Args:
        folder: where scans arrive.
        output: folder for the runs and the page instead of FOLDER.ptychoflow.
        names: patterns of the names of scans.
        quiet: time for which a file must not have changed before it is read, s.
        until_idle: end after this time without a new scan, s; without it, watch until interrupted.
        config: settings laid over those that ``inspect`` proposes, JSON text or a file.
        set: one setting such as refinement.epochs=30, laid over those; may be repeated.
        profile: where steps run: local, slurm, kubernetes, or a folder with a Snakemake profile.
        cores: number of processor cores to use, or all.

    Raises:
        FileNotFoundError: if the folder is missing.
        ValueError: if a setting is wrong, or another process watches into the same output.
        ModuleNotFoundError: if Snakemake is not installed.

    Example:
        ptychoflow watch /data/beamtime
    """
    require_snakemake()
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} not found: name the folder that scans arrive in")
    place = (output or folder.with_name(f"{folder.name}{SUFFIX}")).absolute()
    watched = WatchedFolder(folder, place, names, _seconds(quiet, "--quiet"))
    idle = None if until_idle is None else _seconds(until_idle, "--until-idle")
    profile_folder = workflow_files.find_profile(profile) if profile is not None else None
    overrides = overrides_of(config, set)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place):
        print(f"watching {folder}; the list of scans is {place / PAGE}", flush=True)
        watch_folder(watched, overrides, profile_folder, cores, idle)


def status(folder: Path) -> str:
    """Show what became of each scan of a watched folder.

    Reads the folder that ``watch`` writes. Makes text, a line for each scan.

    Args:
        folder: the output of ``watch``, or the folder that it watches.

    Raises:
        FileNotFoundError: if nothing was watched there.

    Example:
        ptychoflow status /data/beamtime
    """
    places = (folder, folder.with_name(f"{folder.name}{SUFFIX}"))
    place = next((place for place in places if (place / STATE).is_file()), None)
    if place is None:
        raise FileNotFoundError(f"{STATE} not found in {folder}: name the output folder of `ptychoflow watch`")
    entries = WatchedFolder(folder, place, (), 0).entries()
    width = max(map(len, entries), default=0)
    lines = [f"{name:<{width}}  {entry['level']:<6}  {entry['verdict']}" for name, entry in sorted(entries.items())]
    failed = sum(entry["level"] == "failed" for entry in entries.values())
    return "\n".join([*lines, f"{len(entries)} scans, {len(entries) - failed} reconstructed, {failed} failed"])


def clean(folder: Path, *, keep: Sequence[str] = ("refined", "metrics")) -> str:
    """Remove the large intermediate products of runs that have ended.

    Reads run folders. Makes free space: removes scans, datasets, patches and the like; keeps reports, logs, configs.

    Args:
        folder: a run folder, or the output of ``watch``.
        keep: products to keep: scans, datasets, patches, networks, reconstructions, refined, metrics, exports.

    Raises:
        FileNotFoundError: if the folder holds none.
        ValueError: if a name to keep is unknown, or a run is at work.

    Example:
        ptychoflow clean beamtime.ptychoflow --keep refined
    """
    unknown = [name for name in keep if name not in REMOVABLE]
    if unknown:
        raise ValueError(f"--keep: expected {', '.join(REMOVABLE)}, got {', '.join(unknown)}")
    runs = [path.parent for path in sorted([*folder.glob(REQUEST), *folder.glob(f"*/{REQUEST}")])]
    if not runs:
        raise FileNotFoundError(f"run folder not found in {folder}: name a folder that `ptychoflow run` made")
    freed = 0
    for run in runs:
        with locked(run):
            if (run / "results" / "report.html").is_file():
                freed += sum(_remove(run / "results" / name) for name in REMOVABLE if name not in keep)
    return f"freed {freed / 1e6:.1f} MB in {len(runs)} runs"


def _remove(folder: Path) -> int:
    """Remove a folder; returns the bytes that its files had."""
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    shutil.rmtree(folder, ignore_errors=True)
    return size


def _seconds(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{option}: expected a time in s, got {text}") from None
