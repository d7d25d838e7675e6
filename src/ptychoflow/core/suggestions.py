"""The one "did you mean": the nearest known name to a mistyped command, option, setting or scan."""

import difflib
from collections.abc import Iterable

SIMILARITY = 0.6
"""Least ratio of :mod:`difflib` at which a known name is suggested."""
MOST_LISTED = 30
"""Number of known names up to which all are listed where none is similar."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name.

    Args:
        word: the unknown name; of a dotted one the last part is compared too.
        known: the names that exist.

    Returns:
        ``; did you mean NAME?`` where a known name is similar, else ``; known: ...`` where there are few, else nothing.
    """
    names = list(dict.fromkeys(known))
    by_part = {name.rpartition(".")[2]: name for name in names} | {name: name for name in names}
    for wanted in (word, word.rpartition(".")[2]):
        similar = difflib.get_close_matches(wanted, by_part, n=1, cutoff=SIMILARITY)
        if similar:
            return f"; did you mean {by_part[similar[0]]}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= MOST_LISTED else ""
