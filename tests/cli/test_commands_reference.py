"""The reference of the command line in the repository is what the code writes."""

from pathlib import Path

import pytest

from ptychoflow.cli.commands_reference import commands, page
from ptychoflow.cli.commands_table import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"


def test_the_page_in_the_repository_is_up_to_date(tmp_path):
    commands(tmp_path / "commands.md")
    assert PAGE.read_text() == (tmp_path / "commands.md").read_text(), f"run: ptychoflow docs commands {PAGE.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_a_section_for_each_command(name):
    assert page().count(f"\n### ptychoflow {name}\n") == 1
