"""Wrong usage of the command line, told in one line: what was expected, what was found, what to do."""

from collections.abc import Iterable

from cyclopts import CycloptsError
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from ..core.suggestions import did_you_mean

FLAGS = ("--help", "--version")


def usage_error(error: CycloptsError) -> str:
    """Return the message for an error of cyclopts, beginning with the command it concerns."""
    command = " ".join(("ptychoflow", *(error.command_chain or ())))
    return f"{command}: {_explain(error)} (see {command} --help)"


def _explain(error: CycloptsError) -> str:
    word = next(iter(error.unused_tokens or ()), "")
    argument = error.argument
    if isinstance(error, UnknownCommandError) and word.startswith("-"):
        return _unknown("option", word, FLAGS)
    if isinstance(error, UnknownCommandError):
        return _unknown("command", word, (name for name in error.app or () if not name.startswith("-")))
    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value).partition("=")[0]
        known = [name for each in error.argument_collection for name in each.names if name.startswith("--")]
        return _unknown("option", option, (*known, *FLAGS))
    if isinstance(error, UnusedCliTokensError):
        return f"{word}: expected no further argument"
    if isinstance(error, MissingArgumentError) and argument is not None:
        meaning = (argument.parameter.help or "a value").partition(";")[0]
        return f"{argument.name}: expected {meaning}; got {len(error.tokens_so_far) or 'no'} values"
    if isinstance(error, CoercionError) and argument is not None and error.token is not None:
        return f"{argument.name}: expected {argument.parameter.metavar}, got {error.token.value!r}"
    return " ".join(str(error).split())


def _unknown(kind: str, word: str, known: Iterable[str]) -> str:
    return f"{word}: no such {kind}{did_you_mean(word, known)}"
