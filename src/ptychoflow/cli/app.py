"""The cyclopts application: parameters and help of a command come from its function, which is imported when it runs."""

import inspect
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from cyclopts import App, Group, Parameter

from .. import __version__
from .commands_table import COMMANDS, FAMILIES, GROUPS, Command
from .help_format import PlainHelp
from .outputs import OUTPUTS
from .signatures import CommandSignature, read_description, read_help, read_signature
from .step_settings import RUN_SECTIONS

ABOUT = """Ptychography as a workflow: simulate or read scans, train networks, reconstruct, refine, evaluate.

Each command is one step: it reads files, makes one product and reports on stderr. Products are written atomically; \
one replaces an earlier product of its kind, never another file. The workflow (`snakemake`) runs these commands in \
order; run one by hand to try a setting."""
ARGUMENTS, OPTIONS, SETTINGS, EXECUTION = (
    Group(name, sort_key=place)
    for place, name in enumerate(("Arguments", "Options", "Settings", "Execution (changes no result)"))
)
MEASUREMENT = "the measurement; a bare name is looked for in the data cache (PTYCHOFLOW_DATA) too"
CONFIG = (
    "{{{}}} as text or a file; settings that it does not name have their defaults. "
    "`ptychoflow config explain {}` lists them"
)
SET = "one setting, laid over --config, its value in YAML; may be repeated, the last one wins"
RUN_MEANINGS = {
    "runtime": '{"devices": ...}: devices, workers, memory',
    "tracking": '{"uri": ...}: where MLflow keeps runs',
}
FORCE = "replace what stands at the output even if it is not such a product; an input is never replaced"
BENCHMARK = "write time and memory, as Snakemake does"
PREFIX = "ptychoflow "
"""Start of the names under which cyclopts asks for a command."""
KEYWORD = inspect.Parameter.KEYWORD_ONLY


class Invocation(NamedTuple):
    """A command and what it was given.

    Attributes:
        command: which.
        signature: what it takes.
        values: what was given, by parameter.
    """

    command: Command
    signature: CommandSignature
    values: dict[str, Any]


def make_app() -> App:
    """Build the application; a command is read when it is asked for."""
    app = App(
        name="ptychoflow",
        help=ABOUT,
        help_format="plaintext",
        help_formatter=PlainHelp(),
        usage="ptychoflow COMMAND ...",
        version=__version__,
        default_parameter=Parameter(negative=(), show_default=False),
        group_arguments=ARGUMENTS,
        group_parameters=OPTIONS,
        group_commands=Group("Help", sort_key=len(GROUPS)),
    )
    headings = {name: Group(name, sort_key=place) for place, name in enumerate(GROUPS)}
    for place, (name, command) in enumerate(COMMANDS.items()):
        family, _, last = name.rpartition(" ")
        if family and family not in app:
            summary, group = FAMILIES[family]
            app.command(App(name=family, help=summary, group=headings[group], sort_key=place))
        (app[family] if family else app).command(
            f"{__name__}:{PREFIX}{name}",
            name=last,
            help=read_description(command.function),
            group=headings[command.group] if not family else "Commands",
            sort_key=place,
        )
    return app


def __getattr__(name: str) -> App:
    """Return the application of one command, for the lazy loading of cyclopts."""
    command = COMMANDS.get(name.removeprefix(PREFIX))
    if command is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    signature, text = read_signature(command.function), read_help(command.function)
    parameters = command_parameters(command)
    signature_of_command = inspect.Signature(parameters)

    def invoke(*arguments: Any, **options: Any) -> Invocation:
        bound = signature_of_command.bind(*arguments, **options)
        return Invocation(command, signature, bound.arguments)

    vars(invoke)["__signature__"] = signature_of_command
    app = App(
        name=name.rpartition(" ")[2],
        usage=usage(command, parameters),
        help_epilogue="Example:\n" + textwrap.indent(text.example, "  "),
    )
    app.default(invoke)
    return app


def command_parameters(command: Command) -> list[inspect.Parameter]:
    """Return the parameters of a command as cyclopts reads them, with meanings and groups."""
    signature, text = read_signature(command.function), read_help(command.function)
    return [
        *_file_argument(command, signature),
        *(_described(parameter, text.parameters[parameter.name]) for parameter in signature.parameters),
        *common_options(command, signature),
    ]


def usage(command: Command, parameters: Sequence[inspect.Parameter]) -> str:
    """Return the usage line: required options, positional arguments, then that there are options."""
    words = ["ptychoflow", command.name]
    for parameter in parameters:
        if parameter.kind is KEYWORD and parameter.default is parameter.empty:
            words.append(f"{option_name(parameter)} {metavar(parameter)}")
        elif parameter.kind is parameter.VAR_POSITIONAL:
            words.append(f"-- [{parameter.name.upper()}...]")
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            words.append(metavar(parameter))
    optional = any(parameter.default is not parameter.empty for parameter in parameters)
    return " ".join([*words, *(["[OPTIONS]"] if optional else [])])


def option_name(parameter: inspect.Parameter) -> str:
    """Return the option of a keyword-only parameter."""
    return f"--{parameter.name.replace('_', '-')}"


def metavar(parameter: inspect.Parameter) -> str:
    """Return what stands for the value of a parameter in help: its name, or its type for an option."""
    kind, details = parameter.annotation.__origin__, parameter.annotation.__metadata__[0]
    if details.metavar is not None:
        return details.metavar
    if parameter.kind is not KEYWORD:
        return parameter.name.upper() + ("..." if kind == Sequence[Path] else "")
    kinds = {bool: "", Sequence[Path]: "PATH...", Sequence[str]: "NAME...", Path: "PATH", str: "NAME", int: "N"}
    kind = next((each for each in get_args(kind) if each is not type(None)), kind) if _is_optional(kind) else kind
    if choices := get_args(kind) if get_origin(kind) is Literal else ():
        return "|".join(choices)
    return "PATH PATH" if get_origin(kind) is tuple else kinds[kind]


def _is_optional(kind: Any) -> bool:
    return type(None) in get_args(kind)


def common_options(command: Command, signature: CommandSignature) -> list[inspect.Parameter]:
    """Return the options that commands share: settings, execution, tracebacks."""
    options = []
    settings = [name for name in signature.sections if name not in RUN_SECTIONS]
    if settings:
        shape = ", ".join(f'"{name}": {{...}}' for name in settings)
        options += [_option("config", str | None, SETTINGS, "JSON|FILE", CONFIG.format(shape, settings[0]))]
        options += [_option("set", Sequence[str], SETTINGS, f"{settings[0]}.KEY=VALUE", SET)]
    for name in RUN_SECTIONS:
        if name in signature.sections:
            options.append(_option(name, str | None, EXECUTION, "JSON|FILE", RUN_MEANINGS[name]))
    if command.name in OUTPUTS:
        options.append(_option("force", bool, EXECUTION, None, FORCE))
    if settings:
        options.append(_option("benchmark", Path | None, EXECUTION, "FILE.tsv", BENCHMARK))
    if command.name != "ptychodus":
        options.append(_option("traceback", bool, EXECUTION, None, "show where in the code an error arose"))
    return options


def _option(name: str, kind: Any, group: Group, value: str | None, meaning: str) -> inspect.Parameter:
    default = {bool: False, Sequence[str]: ()}.get(kind)
    annotation = Annotated[kind, Parameter(help=meaning, group=group, metavar=value)]
    return inspect.Parameter(name, KEYWORD, annotation=annotation, default=default)


def _file_argument(command: Command, signature: CommandSignature) -> list[inspect.Parameter]:
    """Return the argument that gives ``source.file``, where the function has none of its own."""
    name = command.file_argument
    if name is None or name in {parameter.name for parameter in signature.parameters}:
        return []
    annotation = Annotated[str, Parameter(help=MEASUREMENT)]
    return [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY, annotation=annotation)]


def _described(parameter: inspect.Parameter, meaning: str) -> inspect.Parameter:
    """Return a parameter as cyclopts reads it: with its meaning; lists after one option, data as JSON."""
    details: dict[str, Any] = {"help": meaning.rstrip(".")}
    kind = parameter.annotation
    if parameter.kind is parameter.VAR_POSITIONAL:
        details |= {"allow_leading_hyphen": True}
    elif kind == Sequence[dict]:
        kind, details = Any, details | {"converter": _from_json, "n_tokens": 1}
    elif parameter.kind is KEYWORD and kind == Sequence[Path]:
        details |= {"consume_multiple": True}
    plain = parameter.replace(annotation=Annotated[parameter.annotation, Parameter()])
    details["metavar"] = "JSON" if kind is Any else metavar(plain) or None
    return parameter.replace(annotation=Annotated[kind, Parameter(**details)])


def _from_json(_kind: Any, tokens: Sequence) -> Any:
    return json.loads(tokens[0].value)
