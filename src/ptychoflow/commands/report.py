"""The ``report`` command: all results on one self-contained page and in one table."""

import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from ..io.atomic import atomic_dir, atomic_file
from ..io.provenance import code_version
from ..reporting.explorer_data import PackedData
from ..reporting.page import render
from ..reporting.results import Result, read_records, read_results, table_text
from ..reporting.sweep_results import read_sweep
from ..reporting.timings import read_benchmarks

logger = logging.getLogger(__name__)


def report(
    output: Path,
    metrics: Sequence[Path],
    *,
    csv: Path,
    networks: Sequence[Path] = (),
    sweeps: Sequence[Path] = (),
    title: str = "ptychoflow",
) -> None:
    """Write the report of a run: one HTML page, and a table of its metrics.

    Reads metrics, training logs and the tables of sweeps. Makes one HTML page that needs no other file, and a table.
    Values of large objects, beyond 18 MB, go into a folder beside the page.

    Run times come from ``benchmarks/`` beside the folder of the metrics where it exists, else from the products.

    Args:
        output: the page, ``.html``.
        metrics: metrics files that ``evaluate`` wrote, with the folders beside them.
        csv: the table, comma-separated.
        networks: training logs that ``train`` wrote.
        sweeps: tables that ``sweep`` wrote.
        title: heading of the page.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if one is damaged, or two are of the same method and scan.

    Example:
        ptychoflow report report.html metrics/pinn/*.json --csv metrics.csv --networks networks/*.json
    """
    began = time.perf_counter()
    results, records = read_results(metrics), read_records(networks)
    sweep_points = {Path(path).stem: read_sweep(Path(path)) for path in sweeps}
    _check_unique(results)
    logger.info("read %d metrics files, %d training logs", len(results), len(records))
    benchmarks = read_benchmarks(Path(metrics[0]).resolve().parents[2] / "benchmarks", results, records)
    table = table_text(results)
    stamp = hashlib.sha256(table.encode()).hexdigest()
    packed = PackedData(f"{Path(output).stem}_data")
    page = render(title, results, records, sweep_points, benchmarks, code_version(), packed, stamp)
    if packed.files:
        with atomic_dir(Path(output).with_name(packed.folder), ("*.js",)) as folder:
            for name, text in packed.files.items():
                (folder / name).write_text(text, encoding="ascii")
    with atomic_file(output) as partial:
        partial.write_text(page, encoding="utf-8")
    with atomic_file(csv) as partial:
        partial.write_text(table, encoding="utf-8")
    logger.info("wrote %s: %.1f MB in %.1f s", output, len(page) * 1e-6, time.perf_counter() - began)


def _check_unique(results: Sequence[Result]) -> None:
    names = [f"{result.method}/{result.scan}" for result in results]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"got several metrics files of {', '.join(repeated)}, expected one: rename the method of "
            "those with other settings and evaluate again"
        )
