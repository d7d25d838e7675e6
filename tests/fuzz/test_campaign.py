"""A part of the fuzz for every run of the tests; `make test-fuzz` runs three thousand."""

import subprocess
import sys
from pathlib import Path

from .example_run import KINDS

ROOT = Path(__file__).parents[2]


def test_damaged_files_of_every_kind_end_in_one_line():
    runs = len(KINDS)
    command = [sys.executable, "-m", "tests.fuzz.campaign", "--runs", str(runs), "--first", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and f"{runs} runs: " in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
