"""Say what the settings of a sweep do to the measures: a table of mean and spread over seeds, and its figure."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..io.atomic import atomic_file
from ..reporting.results import read_results
from ..reporting.sweep_figures import draw_sweep
from ..reporting.sweep_results import collect, sweep_table

logger = logging.getLogger(__name__)


def sweep(output: Path, metrics: Sequence[Path], figure: Path, combinations: Sequence[dict]) -> None:
    """Collect the measures of a sweep.

    Args:
        output: the table, comma-separated: a row for each stage, scan and combination of values but the seeds'.
        metrics: files of measures that ``evaluate`` wrote.
        figure: the same as a picture.
        combinations: of each, ``base`` (the method varied), ``method`` (what it is called), ``scans`` (what was
            reconstructed, by the scan varied) and ``values`` (the name of each setting's value).

    Raises:
        FileNotFoundError: if measures are missing.
        ValueError: if measures are damaged, or those of a combination were not given.
    """
    points = collect(read_results(metrics), combinations)
    drawn = draw_sweep(points)
    with atomic_file(figure) as partial:
        drawn.savefig(partial, dpi=200, format="png")
    with atomic_file(output) as partial:
        partial.write_text(sweep_table(points), encoding="utf-8")
    logger.info("collected %s: %d points from %d files of measures", output, len(points), len(metrics))
