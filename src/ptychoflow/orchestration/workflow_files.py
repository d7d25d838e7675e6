"""Location of the workflow's own files: Snakefile, rules, configs, profiles and environments, and copies of them."""

import shutil
from pathlib import Path

from ..core.suggestions import did_you_mean
from ..io.atomic import staging_dir

PACKAGE = Path(__file__).parents[1]
INSTALLED = PACKAGE / "workflow_files"
"""Where a wheel holds the files; setup.py copies them there."""
NAMES = ("Snakefile", "workflow", "config", "profiles", "envs")
"""Files and folders of the workflow, at the root of a checkout."""
IGNORED = shutil.ignore_patterns("__pycache__", ".snakemake", ".ipynb_checkpoints")


def workflow_root() -> Path:
    """Return the folder that holds the Snakefile: in the installed package, or the root of the checkout.

    Raises:
        FileNotFoundError: if the package was installed without the files.
    """
    for folder in (INSTALLED, PACKAGE.parents[1]):
        if all((folder / name).exists() for name in NAMES):
            return folder
    raise FileNotFoundError(
        f"the workflow's Snakefile is neither in {INSTALLED} nor in {PACKAGE.parents[1]}: install ptychoflow again"
    )


def find_profile(name: str) -> Path:
    """Return the folder of a profile: one of the workflow by its name, or a path.

    Raises:
        FileNotFoundError: if neither exists, with the nearest name.
    """
    folder = workflow_root() / "profiles"
    for place in (Path(name), folder / name):
        if (place / "config.yaml").is_file():
            return place.resolve()
    known = sorted(path.name for path in folder.iterdir())
    raise FileNotFoundError(
        f"--profile: expected {', '.join(known)} or a folder with a config.yaml, got {name}{did_you_mean(name, known)}"
    )


def copy_workflow(folder: Path) -> None:
    """Copy the workflow's files into a folder, for editing.

    Raises:
        ValueError: if a file or folder of the same name is there already; nothing is copied then.
        OSError: if the folder is not writable.
    """
    taken = [name for name in NAMES if (folder / name).exists()]
    if taken:
        raise ValueError(f"{folder} holds {', '.join(taken)} already: name a new folder")
    source = workflow_root()
    with staging_dir(folder / NAMES[0]) as place:
        for name in NAMES:
            path = source / name
            if path.is_dir():
                shutil.copytree(path, place / name, ignore=IGNORED)
            else:
                shutil.copy(path, place / name)
        for name in NAMES:
            (place / name).rename(folder / name)
