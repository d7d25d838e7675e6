"""A run as it can be compared with another: measures and settings, from its folder, its files or its report alone."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from .results import Result, read_metrics, read_records

LONGEST = 16
"""Items of a list that a report keeps of what was measured: settings are shorter, curves are longer."""
EMBEDDED = re.compile(r'<script type="application/json" id="run">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True)
class Run:
    """Measures and settings of some reconstructions.

    Attributes:
        name: where they come from.
        results: what ``evaluate`` found out; their arrays may be missing.
        records: of the trainings.
    """

    name: str
    results: list[Result]
    records: list[dict]

    @property
    def versions(self) -> list[str]:
        """Of the code that measured."""
        return sorted({result.metrics["provenance"]["ptychoflow"] for result in self.results})


def read_run(path: Path) -> Run:
    """A run, from a folder of results, a report, or a file of measures.

    Raises:
        FileNotFoundError: if there is nothing there.
        ValueError: if it holds no measures, or those of another version.
    """
    path = Path(path)
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give a folder of results, a report or a file of measures")
    if path.suffix == ".html":
        return _from_report(path)
    folder = path.resolve().parent
    record = folder.parent.parent / "networks" / f"{folder.name}.json"
    return _run(path, [path], [record] if record.is_file() else [])


def embedded(results: Sequence[Result], records: Sequence[dict]) -> Markup:
    """What a report carries for :func:`read_run`, as JSON that may stand in a page: all but the curves."""
    kept = {
        "metrics": [_short(result.metrics) for result in results],
        "records": [_short(record) for record in records],
    }
    return Markup(json.dumps(kept, separators=(",", ":")).replace("<", "\\u003c"))


def _from_folder(folder: Path) -> Run:
    metrics = (
        sorted(folder.glob("metrics/*/*.json")) or sorted(folder.glob("*/*.json")) or sorted(folder.glob("*.json"))
    )
    if not metrics:
        raise ValueError(f"{folder} holds no measures: give a folder of results in which evaluate has run")
    return _run(folder, metrics, sorted(folder.glob("networks/*.json")))


def _from_report(page: Path) -> Run:
    found = EMBEDDED.search(page.read_text(encoding="utf-8", errors="replace"))
    try:
        data = json.loads(found[1])
        results = [Result(metrics, Path()) for metrics in data["metrics"]]
        return Run(str(page), results, data["records"])
    except (TypeError, KeyError, json.JSONDecodeError):
        raise ValueError(f"{page} is no report of this version: make it again with report") from None


def _run(path: Path, metrics: Sequence[Path], records: Sequence[Path]) -> Run:
    results = [Result(read_metrics(each), each.with_suffix("") / "arrays.npz") for each in metrics]
    trained = {result.method for result in results if result.from_network}
    return Run(str(path), results, [record for record in read_records(records) if record["method"] in trained])


def _short(data: object) -> object:
    """Plain data without its long lists."""
    if isinstance(data, dict):
        kept = {key: _short(value) for key, value in data.items() if not _is_long(value)}
        return {key: value for key, value in kept.items() if key not in ("progress", "patterns")}
    return [_short(value) for value in data] if isinstance(data, list) else data


def _is_long(value: object) -> bool:
    return isinstance(value, list) and len(value) > LONGEST
