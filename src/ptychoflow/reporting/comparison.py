"""Comparison of two runs: settings, data and metrics that changed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .results import COLUMNS, Column, Result, stage_row
from .run_loader import Run

SAME_WITHIN = 1e-3
"""Relative change up to which a metric counts as the same: it exceeds rounding and the jitter of clocks."""
SECTIONS = {"network": "stitching", "refined": "refinement"}
"""The config section of each stage."""

MatchedResults = Sequence[tuple[Result, Result]]


@dataclass(frozen=True)
class Change:
    """A value that differs between runs A and B.

    Attributes:
        key: of the setting.
        before: in A; None where A lacks it.
        after: in B; None where B lacks it.
    """

    key: str
    before: object
    after: object


@dataclass(frozen=True)
class StagePair:
    """A stage that both runs have: its name, and its row of metrics in each."""

    name: str
    before: dict
    after: dict


def compare_runs(first: Run, second: Run) -> str:
    """Return the changes of settings, data and metrics from one run to another as text.

    Raises:
        ValueError: if the runs have no reconstruction in common.
    """
    matched = _match_results(first, second)
    if not matched:
        raise ValueError(
            f"{first.name} and {second.name} have no reconstruction in common ({_names(first.results)}; "
            f"{_names(second.results)}): give two metrics files to compare one with the other"
        )
    lines = [_describe_run("A", first), _describe_run("B", second), ""]
    lines += [*_changed_settings(first, second, matched), *_changed_data(matched), *_changed_metrics(matched)]
    for run, letter in ((first, "A"), (second, "B")):
        unmatched = [result for result in run.results if not any(result in pair for pair in matched)]
        lines += [f"In {letter} only: {_names(unmatched)}", ""] if unmatched else []
    return "\n".join([*lines, _tally(matched)])


def changed_settings(before: dict, after: dict) -> list[Change]:
    """Return the settings that differ between two configs, by dotted key."""
    flat = [dict(_flatten(data)) for data in (before, after)]
    keys = dict.fromkeys([*flat[0], *flat[1]])
    return [Change(key, flat[0].get(key), flat[1].get(key)) for key in keys if flat[0].get(key) != flat[1].get(key)]


def verdict(column: Column, before: float, after: float) -> str:
    """Return ``better``, ``worse`` or ``same``; an empty string for a metric without a better direction."""
    if abs(after - before) <= SAME_WITHIN * max(abs(before), abs(after)):
        return "same"
    if not column.better:
        return ""
    return "better" if (after < before) == (column.better == "low") else "worse"


def _match_results(first: Run, second: Run) -> list[tuple[Result, Result]]:
    if len(first.results) == len(second.results) == 1:
        return [(first.results[0], second.results[0])]
    by_name = {(result.method, result.scan): result for result in second.results}
    return [(result, by_name[key]) for result in first.results if (key := (result.method, result.scan)) in by_name]


def _describe_run(letter: str, run: Run) -> str:
    return f"{letter}  {run.name}: {_names(run.results)}; by ptychoflow {', '.join(run.versions)}"


def _changed_settings(first: Run, second: Run, matched: MatchedResults) -> Iterator[str]:
    """Yield every changed setting once, with the methods and scans that it belongs to."""
    owners_of: dict[tuple[str, str, str], list[str]] = {}
    for owner, before, after in _configs(first, second, matched):
        for change in changed_settings(before, after):
            key = (change.key, _text(change.before), _text(change.after))
            owners_of[key] = list(dict.fromkeys([*owners_of.get(key, []), owner]))
    yield "Settings"
    if not owners_of:
        yield "  all the same"
    for (setting, before_text, after_text), owners in owners_of.items():
        yield f"  {setting}: {before_text} -> {after_text}   ({', '.join(owners)})"
    yield ""


def _configs(first: Run, second: Run, matched: MatchedResults) -> Iterator[tuple[str, dict, dict]]:
    """Yield the settings of both runs for each training, scan and reconstruction."""
    trained = [{record["method"]: record["config"] for record in run.records} for run in (first, second)]
    for before, after in matched:
        if before.method in trained[0] and after.method in trained[1]:
            yield _both(before.method, after.method), trained[0][before.method], trained[1][after.method]
        scans = [_scan_settings(result.metrics["scan"]) for result in (before, after)]
        yield _both(before.scan, after.scan), scans[0], scans[1]
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


def _changed_data(matched: MatchedResults) -> Iterator[str]:
    """Yield a line that names the scans with different datasets."""
    differ = []
    for pair in matched:
        checksums = [result.metrics["provenance"]["inputs"]["dataset"]["sha256"] for result in pair]
        if checksums[0] != checksums[1]:
            differ.append(_both(*(result.scan for result in pair)))
    if differ:
        yield f"Data\n  different datasets: {', '.join(dict.fromkeys(differ))}\n"


def _changed_metrics(matched: MatchedResults) -> Iterator[str]:
    """Yield a table for each stage; metrics that stayed the same are listed in one line."""
    for pair in _stage_pairs(matched):
        yield pair.name
        same = []
        for column in COLUMNS:
            before, after = pair.before[column.key], pair.after[column.key]
            if before is None and after is None:
                continue
            word = verdict(column, before, after) if None not in (before, after) else "not in both"
            if word == "same":
                same.append(column.heading)
                continue
            numbers = ["-" if value is None else f"{value:{column.digits}}" for value in (before, after)]
            change = "" if word == "not in both" else _format_change(column, before, after)
            yield f"  {column.heading:<24}{numbers[0]:>10} -> {numbers[1]:<10}{change:>10}  {word}".rstrip()
        yield from [f"  the same: {', '.join(same)}"] if same else []
        yield ""


def _format_change(column: Column, before: float, after: float) -> str:
    """Format a change as a difference for decibels, which are a ratio already, and in percent otherwise."""
    if "(dB)" in column.heading or before == 0:
        return f"{after - before:+{column.digits}}"
    return f"{after / before - 1:+.1%}"


def _stage_pairs(matched: MatchedResults) -> Iterator[StagePair]:
    for before, after in matched:
        for stage in before.stages:
            if stage in after.stages:
                name = _both(f"{before.method}/{before.scan}", f"{after.method}/{after.scan}")
                yield StagePair(f"{name}, {stage}", stage_row(before, stage), stage_row(after, stage))


def _tally(matched: MatchedResults) -> str:
    """Return one line that counts the metrics by verdict; times and ratios without a better direction are left out."""
    verdicts = [
        verdict(column, pair.before[column.key], pair.after[column.key])
        for pair in _stage_pairs(matched)
        for column in COLUMNS
        if column.better and None not in (pair.before[column.key], pair.after[column.key])
    ]
    counts = {word: verdicts.count(word) for word in ("better", "worse", "same")}
    return f"Metrics of B against A: {counts['better']} better, {counts['worse']} worse, {counts['same']} the same."


def _flatten(data: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, data


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _names(results: Sequence[Result]) -> str:
    return ", ".join(f"{result.method}/{result.scan}" for result in results)
