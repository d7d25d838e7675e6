"""What the log of Snakemake tells, in plain words."""

import re
from pathlib import Path

from ptychoflow.cli.commands_table import COMMANDS
from ptychoflow.orchestration.workflow_run import WORDS, Progress

LOG = """Job stats:
job         count
--------  -------
pack            1
all             1
total           2

localrule pack:
    input: results/scans/star.cxi
    jobid: 3
    wildcards: scan=star
    resources: tmpdir=/tmp, mem_mb=900
[Mon Nov 30 20:38:32 2026]
Finished jobid: 3 (Rule: pack)
1 of 2 steps (50%) done

localrule all:
    jobid: 0
    resources: tmpdir=/tmp
""".splitlines()


def _read(*lines: str) -> tuple[Progress, list[str]]:
    progress = Progress()
    shown = [progress.read(line, Path("/runs/a")) for line in lines]
    return progress, [text for text in shown if text]


def test_a_step_is_named_when_it_begins_and_the_target_is_not():
    begins = LOG.index("    resources: tmpdir=/tmp, mem_mb=900") + 1
    assert _read(*LOG[:begins])[1] == _read(*LOG)[1]
    assert _read(*LOG)[1] == ["step 1 of 1: packing the patterns of star"]


def test_a_run_with_nothing_to_do_is_a_run_that_was_done_before():
    assert _read("Nothing to be done (all requested files are present and up to date).")[1] == [
        "nothing to do: each step was done before"
    ]


def test_an_error_of_input_is_the_message_of_the_step_with_its_log():
    progress, _ = _read(
        "ptychoflow: a step failed; results/logs/pack/a.log ends with: ptychoflow pack: 3 counts below 0"
    )
    assert progress.errors == ["3 counts below 0 (log: /runs/a/results/logs/pack/a.log)"]
    assert progress.at_fault


def test_a_crash_is_not_an_error_of_input():
    progress, _ = _read("ptychoflow: a step failed; results/logs/pack/a.log ends with: KeyError: 'x'")
    assert progress.errors and not progress.at_fault


def test_a_refused_config_is_an_error_of_input():
    progress, _ = _read("ptychoflow: config: scans is empty")
    assert progress.errors == ["config: scans is empty"] and progress.at_fault


def test_each_rule_has_words():
    rules = Path(__file__).parents[2].joinpath("workflow", "rules").glob("*.smk")
    names = {name for path in rules for name in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)}
    assert names - {"paper", "inspect"} == WORDS.keys()
    assert WORDS.keys() - {"export_file"} <= COMMANDS.keys()
