"""Loading of a run to compare: metrics and settings from its folder, its files or its report."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from .results import Result, read_metrics, read_records

LONGEST = 16
"""Length up to which a report embeds a list: settings are shorter, curves are longer."""
EMBEDDED = re.compile(r'<script type="application/json" id="run">(.*?)</script>', re.DOTALL)


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
    match = EMBEDDED.search(page.read_text(encoding="utf-8", errors="replace"))
    try:
        data = json.loads(match[1] if match else "")
        results = [Result(metrics, Path()) for metrics in data["metrics"]]
        return Run(str(page), results, data["records"])
    except (TypeError, KeyError, json.JSONDecodeError):
        raise ValueError(f"{page} is not a report of this version: run `ptychoflow report` again") from None


def _run(path: Path, metrics: Sequence[Path], records: Sequence[Path]) -> Run:
    results = [Result(read_metrics(each), each.with_suffix("") / "arrays.npz") for each in metrics]
    trained = {result.method for result in results if result.from_network}
    return Run(str(path), results, [record for record in read_records(records) if record["method"] in trained])


def _short(data: object) -> object:
    """Return plain data without its long lists."""
    if isinstance(data, dict):
        kept = {key: _short(value) for key, value in data.items() if not _is_long(value)}
        return {key: value for key, value in kept.items() if key not in ("progress", "patterns")}
    return [_short(value) for value in data] if isinstance(data, list) else data


def _is_long(value: object) -> bool:
    return isinstance(value, list) and len(value) > LONGEST
