"""JSON from outside: a file or a text of bounded length and depth, as a schema describes it."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .regular_file import check_regular, read_text

DEEPEST = 100
"""Most levels of nested lists and objects."""
LONGEST_NUMBER = 400
"""Most digits of an integer."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Halves of a character beyond 16 bits, which no text holds alone."""


class Schema(BaseModel):
    """Required parts of a JSON object that we wrote; others are kept as they are."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Schema)


def read_json(path: Path) -> dict:
    """Read a JSON object.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is not a JSON object, names a key twice, or is nested too deeply.
    """
    check_regular(Path(path))
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> dict:
    """Return the JSON object in a text.

    Args:
        text: the text.
        where: its place, for messages.

    Raises:
        ValueError: if it is not a JSON object, names a key twice, or is nested too deeply.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
        if SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"{where} is nested more than {DEEPEST} levels deep: make it again") from None
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON ({error}): make it again") from None
    if not isinstance(data, dict):
        raise ValueError(f"{where} holds a JSON {type(data).__name__}, expected an object: make it again")
    if _depth(data) > DEEPEST:
        raise ValueError(f"{where} is nested more than {DEEPEST} levels deep: make it again")
    return data


def check_schema(data: object, schema: type[S], where: str, remedy: str) -> S:
    """Return data as its schema holds it.

    Args:
        data: what was read.
        schema: what must be in it.
        where: its place, for messages.
        remedy: how to make it again.

    Raises:
        ValueError: naming the first part that is missing or wrong.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        found = "" if first["type"] == "missing" else f", got {_short(first['input'])}"
        reason = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
        raise ValueError(f"{where} is damaged or of another version: {place}: {reason}{found}: {remedy}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        (repeated, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {_short(repeated)} stands twice")
    return data


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _depth(data: Any) -> int:
    """Return the number of nested levels."""
    levels, depth = [data], 0
    while levels:
        inner = [part.values() if isinstance(part, dict) else part for part in levels if isinstance(part, dict | list)]
        levels = [value for values in inner for value in values]
        depth += 1
    return depth - 1


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
