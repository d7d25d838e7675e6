"""Say what differs between two runs: settings, code and data, and what that did to the measures."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..reporting.results import COLUMNS, Column, Result, stage_row
from ..reporting.run_loader import Run, read_run

BESIDE_NOISE = 1e-3
"""Relative change below which a measure is called the same: restarts of a clock and rounding do as much."""
SECTIONS = {"network": "stitching", "refined": "refinement"}
"""The section that a stage's settings belong to."""


@dataclass(frozen=True)
class Change:
    """What was one thing in A and is another in B.

    Attributes:
        what: a setting or a measure.
        before: in A; None where it is not there.
        after: in B.
    """

    what: str
    before: object
    after: object


@dataclass(frozen=True)
class Pair:
    """A stage that both runs have: its name, and its row of measures in each."""

    name: str
    before: dict
    after: dict


def compare(first: Path, second: Path) -> str:
    """Compare two runs: settings, code and data that differ, and metrics that changed.

    Reads two folders of results, reports or files of metrics. Makes text. Results are matched by method and scan; where
    each side holds a single one, those are compared whatever their names.

    Args:
        first: a folder of results, a report, or a file of measures.
        second: likewise.

    Raises:
        FileNotFoundError: if one of them is not there.
        ValueError: if one holds no measures of this version, or the two have nothing in common.

    Example:
        ptychoflow compare results last_week/report.html
    """
    a, b = read_run(first), read_run(second)
    matched = _match(a, b)
    if not matched:
        raise ValueError(
            f"{a.name} and {b.name} have no reconstruction in common ({_names(a.results)}; {_names(b.results)}): "
            "give two files of measures to compare one with the other"
        )
    lines = [_describe("A", a), _describe("B", b), "", *_settings(a, b, matched), *_data(matched), *_measures(matched)]
    for run, other, letter in ((a, matched, "A"), (b, matched, "B")):
        alone = [result for result in run.results if not any(result in pair for pair in other)]
        lines += [f"In {letter} only: {_names(alone)}", ""] if alone else []
    return "\n".join([*lines, _tally(matched)])


def changes_of(before: dict, after: dict) -> list[Change]:
    """Settings that differ, by the names they have in a config."""
    flat = [dict(_flatten(data)) for data in (before, after)]
    keys = dict.fromkeys([*flat[0], *flat[1]])
    return [Change(key, flat[0].get(key), flat[1].get(key)) for key in keys if flat[0].get(key) != flat[1].get(key)]


def better(column: Column, before: float, after: float) -> str:
    """Whether a measure got ``better``, ``worse`` or stayed the ``same``; nothing where neither is better."""
    if abs(after - before) <= BESIDE_NOISE * max(abs(before), abs(after)):
        return "same"
    if not column.better:
        return ""
    return "better" if (after < before) == (column.better == "low") else "worse"


def _match(a: Run, b: Run) -> list[tuple[Result, Result]]:
    if len(a.results) == len(b.results) == 1:
        return [(a.results[0], b.results[0])]
    known = {(result.method, result.scan): result for result in b.results}
    return [(result, known[key]) for result in a.results if (key := (result.method, result.scan)) in known]


def _describe(letter: str, run: Run) -> str:
    return f"{letter}  {run.name}: {_names(run.results)}; by ptychoflow {', '.join(run.versions)}"


def _settings(a: Run, b: Run, matched: Sequence[tuple[Result, Result]]) -> Iterator[str]:
    """Every changed setting once, with whom it concerns."""
    whom: dict[tuple[str, str, str], list[str]] = {}
    for owner, before, after in _owners(a, b, matched):
        for change in changes_of(before, after):
            key = (change.what, _text(change.before), _text(change.after))
            whom[key] = list(dict.fromkeys([*whom.get(key, []), owner]))
    yield "Settings"
    if not whom:
        yield "  all the same"
    for (what, before, after), owners in whom.items():
        yield f"  {what}: {before} -> {after}   ({', '.join(owners)})"
    yield ""


def _owners(a: Run, b: Run, matched: Sequence[tuple[Result, Result]]) -> Iterator[tuple[str, dict, dict]]:
    """Settings of both runs by whom they concern: a training, a scan, a reconstruction."""
    trained = [{record["method"]: record["config"] for record in run.records} for run in (a, b)]
    for before, after in matched:
        if before.method in trained[0] and after.method in trained[1]:
            yield _both(before.method, after.method), trained[0][before.method], trained[1][after.method]
        yield _both(before.scan, after.scan), *(_scan_settings(result.metrics["scan"]) for result in (before, after))
        name = _both(f"{before.method}/{before.scan}", f"{after.method}/{after.scan}")
        yield name, _stage_settings(before), _stage_settings(after)


def _both(before: str, after: str) -> str:
    return before if before == after else f"{before} and {after}"


def _scan_settings(scan: dict) -> dict:
    config = scan["metadata"].get("provenance", {}).get("config") or {}
    return config if "source" in config else {"simulation": config}


def _stage_settings(result: Result) -> dict:
    settings = {"evaluation": result.metrics["provenance"]["config"]}
    for stage, metadata in result.metrics["reconstructions"].items():
        settings[SECTIONS[stage]] = metadata.get("provenance", {}).get("config")
    return settings


def _data(matched: Sequence[tuple[Result, Result]]) -> Iterator[str]:
    """Scans whose data differ."""
    differ = []
    for pair in matched:
        checksums = [result.metrics["provenance"]["inputs"]["dataset"]["sha256"] for result in pair]
        if checksums[0] != checksums[1]:
            differ.append(_both(*(result.scan for result in pair)))
    if differ:
        yield f"Data\n  not the same patterns: {', '.join(dict.fromkeys(differ))}\n"


def _measures(matched: Sequence[tuple[Result, Result]]) -> Iterator[str]:
    """A table for each stage; measures that stayed the same are only counted."""
    for pair in _pairs(matched):
        yield pair.name
        same = []
        for column in COLUMNS:
            before, after = pair.before[column.key], pair.after[column.key]
            if before is None and after is None:
                continue
            verdict = better(column, before, after) if None not in (before, after) else "not in both"
            if verdict == "same":
                same.append(column.heading)
                continue
            numbers = ["-" if value is None else f"{value:{column.digits}}" for value in (before, after)]
            change = "" if verdict == "not in both" else _change(column, before, after)
            yield f"  {column.heading:<24}{numbers[0]:>10} -> {numbers[1]:<10}{change:>10}  {verdict}".rstrip()
        yield from [f"  the same: {', '.join(same)}"] if same else []
        yield ""


def _change(column: Column, before: float, after: float) -> str:
    """By how much: decibels are a ratio already, of anything else the share is told."""
    if "(dB)" in column.heading or before == 0:
        return f"{after - before:+{column.digits}}"
    return f"{after / before - 1:+.1%}"


def _pairs(matched: Sequence[tuple[Result, Result]]) -> Iterator[Pair]:
    for before, after in matched:
        for stage in before.stages:
            if stage in after.stages:
                name = _both(f"{before.method}/{before.scan}", f"{after.method}/{after.scan}")
                yield Pair(f"{name}, {stage}", stage_row(before, stage), stage_row(after, stage))


def _tally(matched: Sequence[tuple[Result, Result]]) -> str:
    """One line: how many measures got better and worse; times are no measures of quality."""
    verdicts = [
        better(column, pair.before[column.key], pair.after[column.key])
        for pair in _pairs(matched)
        for column in COLUMNS
        if column.better and None not in (pair.before[column.key], pair.after[column.key])
    ]
    counts = {word: verdicts.count(word) for word in ("better", "worse", "same")}
    return f"B against A, measures: {counts['better']} better, {counts['worse']} worse, {counts['same']} the same."


def _flatten(data: object, where: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _flatten(value, f"{where}.{key}" if where else str(key))
    else:
        yield where, data


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _names(results: Sequence[Result]) -> str:
    return ", ".join(f"{result.method}/{result.scan}" for result in results)
