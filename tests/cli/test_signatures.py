"""What is read from a function's source is what Python sees after importing it."""

import importlib
import inspect
from pathlib import Path

import pytest

from ptychoflow.cli.app import command_parameters
from ptychoflow.cli.commands_table import COMMANDS, FAMILIES, GROUPS
from ptychoflow.cli.signatures import plain, read_help, read_signature
from ptychoflow.cli.step_settings import RUN_SECTIONS
from ptychoflow.config import IN_ONE, READS
from ptychoflow.config.root import OTHER_COMMANDS


def _function(name: str):
    module, _, function = COMMANDS[name].function.partition(":")
    return getattr(importlib.import_module(f"ptychoflow.{module}"), function)


@pytest.mark.parametrize("name", COMMANDS)
def test_parameters_have_the_types_and_defaults_of_the_function(name):
    function = inspect.signature(_function(name)).parameters
    signature = read_signature(COMMANDS[name].function)
    for parameter in signature.parameters:
        assert parameter.annotation == function[parameter.name].annotation
        assert parameter.default == function[parameter.name].default
    given = {parameter.name for parameter in signature.parameters} | set(signature.sections)
    missing = [each for each in function if each not in given and function[each].default is inspect.Parameter.empty]
    assert not missing, "the command line cannot call the function without these"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_is_described_in_the_docstring(name):
    described = read_help(COMMANDS[name].function).parameters
    assert list(described) == [each for each in inspect.signature(_function(name)).parameters if each in described]
    assert all(parameter.annotation.__metadata__[0].help for parameter in command_parameters(COMMANDS[name]))


def test_sections_are_those_that_the_configuration_says_a_command_reads():
    read = {name: set(sections) for name, sections in (READS | IN_ONE | OTHER_COMMANDS).items()}
    for name, command in COMMANDS.items():
        assert set(read_signature(command.function).sections) - set(RUN_SECTIONS) == read.get(name, set()), name


def test_every_step_of_the_workflow_is_a_command():
    assert set(READS) | set(IN_ONE) | set(OTHER_COMMANDS) <= set(COMMANDS)


def test_every_command_has_a_group_and_every_family_members():
    assert {command.group for command in COMMANDS.values()} == set(GROUPS)
    assert {name.split()[0] for name in COMMANDS if " " in name} == set(FAMILIES)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("from ``start``\n    on", "from --start on"),
        ("by ``stitched_halves`` of ``refine``", "by --stitched-halves of `refine`"),
        (":class:`Path` or :data:`X`", "`Path` or `X`"),
    ],
)
def test_options_are_named_as_on_the_command_line(text, line):
    assert plain(text, {"start", "stitched_halves"}) == line


def test_required_parameters_are_arguments_and_others_options():
    parameters = {each.name: each for each in read_signature("commands.evaluate:evaluate").parameters}
    assert parameters["dataset"].kind is parameters["output"].kind is inspect.Parameter.POSITIONAL_ONLY
    assert parameters["refined"].kind is inspect.Parameter.KEYWORD_ONLY and parameters["refined"].annotation is Path
    assert parameters["stitched"].default is None
