"""Loading of a run to compare: metrics and settings from its folder, its files or its report."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ..io.json_file import Schema, check_schema, parse_json
from ..io.regular_file import check_regular, read_text
from .result_schema import ComparedLog, ComparedMetrics
from .results import Result, read_metrics, read_records

REPORT = "run `ptychoflow report` again"
LONGEST = 16
"""Length up to which a report embeds a list: settings are shorter, curves are longer."""
EMBEDDED = re.compile(r'<script type="application/json" id="run">(.*?)</script>', re.DOTALL)


class EmbeddedRun(Schema):
    """Metrics and settings that a report embeds."""

    metrics: list[ComparedMetrics]
    records: list[ComparedLog]


@dataclass(frozen=True)
class Run:
    """Metrics and settings of the reconstructions of a run.

    Attributes:
        name: path that they were read from.
        results: metrics that ``evaluate`` wrote; their arrays may be missing.
        records: training logs.
    """

    name: str
    results: list[Result]
    records: list[dict]

    @property
    def versions(self) -> list[str]:
        """Versions of ptychoflow that evaluated, sorted."""
        return sorted({result.metrics["provenance"]["ptychoflow"] for result in self.results})


def read_run(path: Path) -> Run:
    """Read a run from a folder of results, a report, or a metrics file.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if it holds no metrics of this version.
    """
    path = Path(path)
    if path.is_dir():
        return _from_folder(path)
    check_regular(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give a folder of results, a report or a metrics file")
    if path.suffix == ".html":
        return _from_report(path)
    folder = path.resolve().parent
    record = folder.parent.parent / "networks" / f"{folder.name}.json"
    return _run(path, [path], [record] if record.is_file() else [])


def embedded(results: Sequence[Result], records: Sequence[dict]) -> Markup:
    """Return the JSON that a report embeds for :func:`read_run`: metrics and settings without curves."""
    kept = {
        "metrics": [_short(result.metrics) for result in results],
        "records": [_short(record) for record in records],
    }
    return as_json(kept)


def as_json(data: object) -> Markup:
    """Return plain data as JSON that a script element of a page can hold."""
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))


def _from_folder(folder: Path) -> Run:
    metrics = (
        sorted(folder.glob("metrics/*/*.json")) or sorted(folder.glob("*/*.json")) or sorted(folder.glob("*.json"))
    )
    if not metrics:
        raise ValueError(f"no metrics found in {folder}: give a folder of results that `ptychoflow evaluate` wrote")
    return _run(folder, metrics, sorted(folder.glob("networks/*.json")))


def _from_report(page: Path) -> Run:
    match = EMBEDDED.search(read_text(page))
    if match is None:
        raise ValueError(f"{page} is not a report of this version: {REPORT}")
    data = parse_json(match[1], str(page))
    check_schema(data, EmbeddedRun, str(page), REPORT)
    return Run(str(page), [Result(metrics, Path()) for metrics in data["metrics"]], data["records"])


def _run(path: Path, metrics: Sequence[Path], records: Sequence[Path]) -> Run:
    results = [Result(read_metrics(each), each.with_suffix("") / "arrays.npz") for each in metrics]
    trained = {result.method for result in results if result.from_network}
    return Run(str(path), results, [record for record in read_records(records) if record["method"] in trained])


def _short(data: object) -> object:
    """Return plain data without its long lists."""
    if isinstance(data, dict):
        kept = {key: _short(value) for key, value in data.items() if not _is_long(value)}
        dropped = ("progress", "patterns")
        return {key: value for key, value in kept.items() if key not in dropped or isinstance(value, int)}
    return [_short(value) for value in data] if isinstance(data, list) else data


def _is_long(value: object) -> bool:
    return isinstance(value, list) and len(value) > LONGEST
