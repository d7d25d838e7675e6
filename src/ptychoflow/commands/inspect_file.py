"""Inspect a measurement: its format, what is missing, the orientation of its scan, and how to read it."""

import logging
import time
from pathlib import Path

from ..config import Source
from ..io.atomic import atomic_dir, atomic_file, write_json
from ..readers.download import resolve_path
from ..readers.inspection import Inspection, inspect_file
from ..readers.inspection_report import as_data, draw, lines, ready_config

logger = logging.getLogger(__name__)

FILES = ("config.yaml", "inspection.json", "inspection.png")
"""Files of the output folder."""


def inspect(source: Source, output: Path | None = None) -> str:
    """Inspect a measurement: its format, what is missing, and how its scan lies on the detector.

    Reads a measurement of any format. Makes text: what the file holds, what is missing and how to give it, and the
    orientation of the positions that fits best. With ``output`` it makes a folder with a config that is ready to run,
    the findings as JSON and a picture.

    Args:
        source: the file, and what is already known about it.
        output: a folder for ``config.yaml``, ready to run, ``inspection.json`` and ``inspection.png``; nothing is
            written without it.

    Returns:
        The findings as lines of text.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it is damaged or of no known format.

    Example:
        ptychoflow inspect measurement.h5 --output inspections/measurement
    """
    began = time.perf_counter()
    path = resolve_path(source)
    inspection = inspect_file(path, source)
    if output is not None:
        write_inspection(inspection, output)
        lacking = (
            "lacks what the file does not say, named at its head" if inspection.placeholders else "is ready to run"
        )
        logger.info("wrote %s: config.yaml %s", output, lacking)
    logger.info("inspected %s in %.1f s", path, time.perf_counter() - began)
    return "\n".join(lines(inspection))


def write_inspection(inspection: Inspection, output: Path) -> None:
    """Write the findings of an inspection to a folder: the config, the findings as JSON and a picture."""
    with atomic_dir(output, FILES) as partial:
        write_json(partial / "inspection.json", as_data(inspection))
        with atomic_file(partial / "config.yaml") as file:
            file.write_text(ready_config(inspection))
        draw(inspection, partial / "inspection.png")
