"""Every command that the documentation shows is run here, or the page says in a comment why not."""

import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from ptychoflow.cli.app import make_app
from ptychoflow.cli.main import main
from ptychoflow.cli.step_settings import RUN_SECTIONS, step_settings

from .conftest import PAGES, ROOT
from .documented import SHELL, Block, blocks

pytestmark = pytest.mark.xdist_group("documented commands")
SHOWN = [block for path in PAGES for block in blocks(path) if block.language in SHELL]
GENERATED = "docs/reference/commands.md"
"""Its usage lines are patterns, and its examples name files of anybody: they are parsed."""
RUN = sorted({block.page for block in SHOWN if block.reason is None} - {GENERATED})
MARKED = [block for block in SHOWN if block.reason is not None]
PARSED = [
    line
    for block in SHOWN
    for line in block.commands
    if line.startswith("ptychoflow") and (block.reason or (block.page, block.language) == (GENERATED, "bash"))
]
WRITTEN_BY_READERS = {"config/mine.yaml", "inspection/config.yaml", "profiles/mine"}


@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(page, workplace, capfd):
    for block in (block for block in SHOWN if block.page == page and block.reason is None):
        for command in block.commands:
            assert _run(command) == 0, f"{command}\n{capfd.readouterr().err[-2000:]}"


def _run(command: str) -> int:
    """Run a line as a shell would; a command of the package in this process, which has imported what it needs."""
    command, _, output = command.partition(" > ")
    words = shlex.split(command)
    if words[0] != "ptychoflow":
        return subprocess.run(["bash", "-c", command], env=_environment()).returncode
    with Path(output or os.devnull).open("w") as stdout, redirect_stdout(stdout):
        try:
            return main(words[1:])
        except SystemExit as ended:
            return ended.code or 0


def _environment() -> dict[str, str]:
    """Return an environment in which programs are those of the tests' Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}


def _parse(words: list[str]) -> None:
    """Read a command line of the package, and the settings in it, without running anything."""
    function, given, _ = make_app().parse_args(words, print_error=False, exit_on_error=False)
    invocation = function(*given.args, **given.kwargs)
    assignments, sections = invocation.values.get("set", ()), invocation.signature.sections
    if assignments and sections:  # `run` lays them over a config that does not exist yet
        run_settings = {name: None for name in RUN_SECTIONS if name in sections}
        step_settings(invocation.command.name, sections, assignments=assignments, run_settings=run_settings)


@pytest.mark.parametrize("line", PARSED)
def test_a_command_that_is_not_run_is_parsed(line):
    _parse(shlex.split(line.partition(" > ")[0])[1:])


def test_commands_are_shown_and_most_of_those_of_the_package_run():
    pages = [block for block in SHOWN if block.page != GENERATED]
    ours = [(block, line) for block in pages for line in block.commands if line.startswith("ptychoflow")]
    run = [line for block, line in ours if block.reason is None]
    assert len(run) > 30 and len(run) > 0.75 * len(ours)


def _named(block: Block) -> str:
    return f"{block.page}: {block.commands[0]}"


@pytest.mark.parametrize("block", MARKED, ids=_named)
def test_a_command_that_is_not_run_has_a_reason_and_names_what_there_is(block):
    assert len(block.reason.split()) > 1
    for line in block.commands:
        if line.startswith("make "):
            [target] = [word for word in shlex.split(line)[1:] if "=" not in word]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        for option in re.findall(r"(?:CONFIG=|--configfile |--workflow-profile )(\S+)", line):
            assert option in WRITTEN_BY_READERS or (ROOT / option).exists(), f"{line}: {option} not found"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_command_within_a_sentence_exists(path, capsys):
    for family, command in re.findall(r"`ptychoflow ([a-z][a-z-]*)(?: ([a-z][a-z-]+))?", path.read_text()):
        words = [family, command] if family in ("config", "dataset", "docs") and command else [family]
        with pytest.raises(SystemExit) as ended:
            sys.exit(main([*words, "--help"]))
        assert ended.value.code in (0, None), f"ptychoflow {' '.join(words)}: {capsys.readouterr().err}"
