"""Say what the settings of a sweep do to the measures: a table of mean and spread over seeds, and its figure."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..io.atomic import atomic_file
from ..reporting.results import read_results
from ..reporting.sweep_figures import draw_sweep
from ..reporting.sweep_results import collect, sweep_table

logger = logging.getLogger(__name__)


def sweep(output: Path, metrics: Sequence[Path], *, figure: Path, combinations: Sequence[dict]) -> None:
    """Tabulate and plot the metrics of a sweep over settings.

    Reads the metrics of each combination of a sweep. Makes a table of mean and standard deviation over seeds, and a
    figure of it.

    Args:
        output: the table, comma-separated: a row for each stage, scan and combination of values but the seeds'.
        metrics: files of metrics that ``evaluate`` wrote.
        figure: the same as a figure, ``.png``.
        combinations: of each, ``base`` (the method varied), ``method`` (what it is called), ``scans`` (what was
            reconstructed, by the scan varied) and ``values`` (the name of each setting's value).

    Raises:
        FileNotFoundError: if measures are missing.
        ValueError: if measures are damaged, or those of a combination were not given.

    Example:
        ptychoflow sweep dose.csv metrics/pinn-seed1/star.json --figure dose.png --combinations \
            '[{"base": "pinn", "method": "pinn-seed1", "scans": {"star": "star"}, "values": {"training.seed": "1"}}]'
    """
    points = collect(read_results(metrics), combinations)
    drawn = draw_sweep(points)
    with atomic_file(figure) as partial:
        drawn.savefig(partial, dpi=200, format="png")
    with atomic_file(output) as partial:
        partial.write_text(sweep_table(points), encoding="utf-8")
    logger.info("collected %s: %d points from %d files of measures", output, len(points), len(metrics))
