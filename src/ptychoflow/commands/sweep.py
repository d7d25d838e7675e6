"""The ``sweep`` command: metrics of a sweep as a table of mean and standard deviation over seeds, and a figure."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from ..io.atomic import atomic_file
from ..io.product_kinds import CREATOR
from ..reporting.results import read_results
from ..reporting.sweep_figures import draw_sweep
from ..reporting.sweep_results import collect, sweep_table

logger = logging.getLogger(__name__)


def sweep(output: Path, metrics: Sequence[Path], *, figure: Path, combinations: Sequence[dict]) -> None:
    """Tabulate and plot the metrics of a sweep over settings.

    Reads the metrics of each combination of a sweep. Makes a table of mean and standard deviation over seeds, and a
    figure of it.

    Args:
        output: the table, comma-separated: a row for each stage, scan and combination of values, without seeds.
        metrics: metrics files that ``evaluate`` wrote.
        figure: the curves, ``.png``.
        combinations: ``base`` (method varied), ``method`` (its name in the sweep), ``scans`` (reconstructed scan by
            scan varied) and ``values`` (name of each setting's value) of each combination.

    Raises:
        FileNotFoundError: if a metrics file is missing.
        ValueError: if a metrics file is damaged, or that of a combination was not given.

    Example:
        ptychoflow sweep dose.csv metrics/pinn-seed1/star.json --figure dose.png --combinations \
            '[{"base": "pinn", "method": "pinn-seed1", "scans": {"star": "star"}, "values": {"training.seed": "1"}}]'
    """
    points = collect(read_results(metrics), combinations)
    curves = draw_sweep(points)
    table = sweep_table(points)
    stamp = {"Software": CREATOR, "Source": f"table with SHA-256 {hashlib.sha256(table.encode()).hexdigest()}"}
    with atomic_file(figure) as partial:
        curves.savefig(partial, dpi=200, format="png", metadata=stamp)
    with atomic_file(output) as partial:
        partial.write_text(table, encoding="utf-8")
    logger.info("collected %s: %d points from %d metrics files", output, len(points), len(metrics))
