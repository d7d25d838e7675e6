"""A doubt: what is probably wrong about a scan or a reconstruction, the number that shows it, and a remedy."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Doubt:
    """Something that is probably wrong.

    Attributes:
        kind: what the doubt is about, such as ``mask``; a scan has at most one doubt of a kind.
        finding: what was found, with the number that raised the doubt.
        advice: what to try.
        serious: True if the reconstruction must not be called good while the doubt stands.
    """

    kind: str
    finding: str
    advice: str
    serious: bool = True

    def __str__(self) -> str:
        return f"{self.finding}: {self.advice}"


def as_data(doubts: Iterable[Doubt]) -> list[dict]:
    """Return doubts as plain data, for metadata and JSON."""
    return [asdict(doubt) for doubt in doubts]


def from_data(data: object) -> tuple[Doubt, ...]:
    """Return the doubts of :func:`as_data`, those that are one; others are left out."""
    entries = data if isinstance(data, list | tuple) else ()
    return tuple(doubt for doubt in map(_doubt, entries) if doubt is not None)


def join_doubts(*several: Iterable[Doubt]) -> tuple[Doubt, ...]:
    """Join doubts from several checks, the serious ones first; of a kind the first is kept."""
    kept: dict[str, Doubt] = {}
    for doubts in several:
        for doubt in doubts:
            kept.setdefault(doubt.kind, doubt)
    return tuple(sorted(kept.values(), key=lambda doubt: not doubt.serious))


def log_doubts(logger: logging.Logger, name: str, doubts: Iterable[Doubt]) -> None:
    """Log each doubt about a scan as one line."""
    for doubt in doubts:
        logger.warning("%s: %s", name, doubt)


def _doubt(entry: object) -> Doubt | None:
    if not isinstance(entry, Mapping):
        return None
    kind, finding, advice = (entry.get(name) for name in ("kind", "finding", "advice"))
    if not (isinstance(kind, str) and isinstance(finding, str) and isinstance(advice, str)):
        return None
    return Doubt(kind, finding, advice, bool(entry.get("serious", True)))
