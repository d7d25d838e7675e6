"""Build step of a wheel: it copies the workflow's files from the root of the repository into the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = ("Snakefile", "workflow", "config", "profiles", "envs")
"""Those of ptychoflow.orchestration.workflow_files, which finds the copies or, in a checkout, the originals."""


class BuildWithWorkflow(build_py):
    """Copy the workflow's files into the wheel; an editable install uses those of the checkout."""

    def run(self):
        """Build the package, then copy."""
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib, "ptychoflow", "workflow_files")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in FILES:
            if Path(name).is_dir():
                shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".snakemake"))
            else:
                shutil.copy(name, folder / name)


setup(cmdclass={"build_py": BuildWithWorkflow})
