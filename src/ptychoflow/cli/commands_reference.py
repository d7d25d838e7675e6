"""The reference of the command line, a Markdown page made of the same signatures and docstrings as ``--help``."""

import inspect
from pathlib import Path

from ..io.atomic import atomic_file
from .app import ABOUT, command_parameters, metavar, option_name, usage
from .commands_table import COMMANDS, GROUPS, Command
from .signatures import read_help

INTRODUCTION = f"""# Commands

{ABOUT}

`ptychoflow --help` lists the commands, `ptychoflow COMMAND --help` describes one, `ptychoflow --version` prints the
version. Exit codes: 0 done, 2 wrong usage or input (the last line on stderr says what to do), 130 interrupted, 141 the
reader of the output went away, 143 terminated by SIGTERM.

This page comes from the signatures of the commands: `ptychoflow docs commands docs/reference/commands.md`.
"""


def commands(output: Path) -> None:
    """Write the reference of every command, a Markdown page.

    Reads nothing. Makes a page with the usage, the parameters and an example of each command.

    Args:
        output: the page, ``.md``.

    Raises:
        ValueError: if the output has another suffix.
        OSError: if it cannot be written.

    Example:
        ptychoflow docs commands docs/reference/commands.md
    """
    with atomic_file(output) as partial:
        partial.write_text(page())


def page() -> str:
    """Return the page: a section for each group, in it a section for each command."""
    sections = []
    for group in GROUPS:
        members = [command for command in COMMANDS.values() if command.group == group]
        sections += [f"## {group}\n", *map(_section, members)]
    return "\n".join([INTRODUCTION, *sections])


def _section(command: Command) -> str:
    """Return one command: what it does, its usage, a table of its parameters, an example."""
    text, parameters = read_help(command.function), command_parameters(command)
    lines = [f"### ptychoflow {command.name}", "", text.description, "", f"```\n{usage(command, parameters)}\n```", ""]
    if parameters:
        lines += ["| parameter | meaning |", "|---|---|", *map(_row, parameters), ""]
    return "\n".join([*lines, "Example:", "", f"```bash\n{text.example}\n```", ""])


def _row(parameter: inspect.Parameter) -> str:
    name, meaning = metavar(parameter), parameter.annotation.__metadata__[0].help
    if parameter.kind is parameter.KEYWORD_ONLY:
        name = f"{option_name(parameter)} {name}".strip()
        meaning += " (required)" if parameter.default is parameter.empty else ""
    return "| `{}` | {} |".format(*(cell.replace("|", "\\|") for cell in (name, meaning)))
