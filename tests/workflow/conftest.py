"""Running the Snakefile on the tiny configuration, in a folder of its own."""

import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from ptychoflow.config import merge

ROOT = Path(__file__).parents[2]
TINY = yaml.safe_load((Path(__file__).parent / "tiny.yaml").read_text())


@dataclass(frozen=True)
class Workflow:
    """The Snakefile at work in ``folder``."""

    folder: Path

    def run(
        self, *words: str, config: dict | None = None, timeout: float = 600, **changes: dict
    ) -> subprocess.CompletedProcess:
        """Call snakemake with the tiny configuration, ``changes`` laid over it, or with another one."""
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(merge(deepcopy(TINY), changes) if config is None else config))
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", self.folder]
        command += ["--nocolor", "--configfile", path, *(words or ["--cores", "2"])]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.folder, timeout=timeout)

    def would_run(self, *words: str, **changes: dict) -> dict[str, int]:
        """How many jobs of each rule a run would start; a run of one core where ``words`` do not say."""
        done = self.run("--dry-run", *words, **changes)
        assert done.returncode == 0, done.stderr
        table = re.search(r"Job stats:\n(.*?)\n\n", done.stdout + done.stderr, re.DOTALL)
        rows = [line.split() for line in table[1].splitlines()[2:]] if table else []
        return {rule: int(count) for rule, count in rows if rule not in ("all", "total")}


@pytest.fixture
def workflow(tmp_path) -> Workflow:
    """An empty folder to run in."""
    return Workflow(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    """A folder where the whole tiny run has ended well. Tests leave its results as they are."""
    workflow = Workflow(tmp_path_factory.mktemp("finished"))
    done = workflow.run()
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return workflow
