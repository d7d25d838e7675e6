"""The ``compare`` command: changed settings, data and metrics of two runs."""

from pathlib import Path

from ..reporting.comparison import compare_runs
from ..reporting.run_loader import read_run


def compare(first: Path, second: Path) -> str:
    """Compare two runs: settings, code and data that differ, and metrics that changed.

    Reads two folders of results, reports or metrics files. Makes text. Results are matched by method and scan; where
    each run holds a single one, those are compared whatever their names.

    Args:
        first: folder of results, report, or metrics file.
        second: likewise.

    Raises:
        FileNotFoundError: if one of them is missing.
        ValueError: if one holds no metrics of this version, or the two have nothing in common.

    Example:
        ptychoflow compare results last_week/report.html
    """
    return compare_runs(read_run(first), read_run(second))
