"""Parameters and help of a command, read from the source of its function without importing what the command needs.

Importing PyTorch takes seconds, too long for a help page, and GPUs must be taken before it is imported.
"""

import ast
import inspect
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

PACKAGE = Path(__file__).parents[1]
TYPES = {
    "Literal": Literal,
    "Path": Path,
    "Sequence": Sequence,
    "bool": bool,
    "dict": dict,
    "int": int,
    "str": str,
    "tuple": tuple,
}
"""Names that types of command-line parameters are made of; parameters of other types are for Python callers."""
SECTION = re.compile(r"^(?:Args|Returns|Raises|Example):$", re.MULTILINE)
ROLE = re.compile(r":\w+:`([^`]*)`")
LITERAL = re.compile(r"``([^`]*)``")


class CommandSignature(NamedTuple):
    """The parameters of a command.

    Attributes:
        parameters: those of the command line: positional-only, variadic or keyword-only.
        sections: names of the parameters that are configuration sections, such as ``refinement: Refinement``.
    """

    parameters: tuple[inspect.Parameter, ...]
    sections: tuple[str, ...]


class CommandHelp(NamedTuple):
    """The parts of a command's docstring, as plain text.

    Attributes:
        description: the summary and the paragraphs below it, one line each.
        parameters: meaning of each parameter.
        example: command lines.
    """

    description: str
    parameters: dict[str, str]
    example: str


def read_signature(function: str) -> CommandSignature:
    """Return what the command line gives to ``module:function``.

    A required parameter is a positional argument unless it stands behind ``*``; one with a default is an option.
    """
    definition = ast.parse(_head(function)[0]).body[0]
    assert isinstance(definition, ast.FunctionDef)
    parameters, sections = [], []
    for argument, default, kind in _parameters(definition.args):
        assert argument.annotation is not None, f"{function}: {argument.arg} has no type"
        annotation = ast.unparse(argument.annotation)
        if annotation == argument.arg.capitalize():
            sections.append(argument.arg)
        elif _is_for_the_command_line(argument.annotation):
            # the annotation holds only names of TYPES
            parameter = inspect.Parameter(argument.arg, kind, annotation=eval(annotation, {**TYPES}))
            if default is not None:
                parameter = parameter.replace(kind=parameter.KEYWORD_ONLY, default=ast.literal_eval(default))
            parameters.append(parameter)
    return CommandSignature(tuple(sorted(parameters, key=lambda parameter: parameter.kind)), tuple(sections))


def read_help(function: str) -> CommandHelp:
    """Return what the docstring of ``module:function`` says, options written as on the command line."""
    from docstring_parser import google  # imported where a help page needs it

    docstring = google.parse(inspect.cleandoc(_head(function)["docstring"]))
    options = _options(function)
    return CommandHelp(
        read_description(function),
        {each.arg_name: plain(each.description or "", options) for each in docstring.params},
        "\n".join(inspect.cleandoc(each.description or "") for each in docstring.examples),
    )


def read_description(function: str) -> str:
    """Return a docstring's summary and paragraphs, without its sections."""
    text = SECTION.split(inspect.cleandoc(_head(function)["docstring"]))[0].strip()
    options = _options(function) if "``" in text else ()
    return "\n\n".join(plain(paragraph, options) for paragraph in re.split(r"\n\s*\n", text))


def plain(text: str, options: Container[str] = ()) -> str:
    """Return a docstring's text in one line: names in single backticks, those of options with their dashes."""

    def named(match: re.Match) -> str:
        return f"--{match[1].replace('_', '-')}" if match[1] in options else f"`{match[1]}`"

    return LITERAL.sub(named, ROLE.sub(r"``\1``", " ".join(text.split())))


def _options(function: str) -> set[str]:
    parameters = read_signature(function).parameters
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def _head(function: str) -> re.Match:
    """Return the source of a function up to the end of its docstring."""
    module, _, name = function.partition(":")
    source = (PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    head = re.search(rf'^def {name}\(.*?"""(?P<docstring>.*?)"""', source, re.MULTILINE | re.DOTALL)
    if head is None:
        raise LookupError(f"{function}: expected a function with a docstring in {module}")
    return head


def _parameters(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None, Any]]:
    """Yield each parameter with its default and its kind on the command line."""
    kinds = inspect.Parameter
    required = len(arguments.args) - len(arguments.defaults)
    defaults = [*([None] * required), *arguments.defaults]
    for argument, default in zip(arguments.args, defaults):
        yield argument, default, kinds.POSITIONAL_ONLY
    if arguments.vararg is not None:
        yield arguments.vararg, None, kinds.VAR_POSITIONAL
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        yield argument, default, kinds.KEYWORD_ONLY


def _is_for_the_command_line(annotation: ast.expr) -> bool:
    """Return True if a type is made of :data:`TYPES` alone."""
    nodes = list(ast.walk(annotation))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names <= TYPES.keys() and not any(isinstance(node, ast.Attribute | ast.Call) for node in nodes)
