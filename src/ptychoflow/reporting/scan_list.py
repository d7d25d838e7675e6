"""The page of a watched folder: a row for each scan, with its verdict and a link to its report."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

HERE = Path(__file__).parent
LEVELS = {"good": "good", "fair": "fair", "poor": "poor", "failed": "poor"}
"""Class of a verdict on the page."""


def render_scan_list(title: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page as HTML, the last scan first; it loads itself again every few seconds.

    Args:
        title: heading.
        entries: of each scan by name: ``level``, ``verdict``, ``finished`` (Unix time, s); of one that was
            reconstructed also ``r_factor``, ``noise_floor``, ``report`` (path from the page) and ``seconds``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    rows = [
        {"r_factor": None, "noise_floor": None, "report": None, "seconds": None}
        | dict(entry)
        | {
            "name": name,
            "colour": LEVELS[entry["level"]],
            "at": datetime.datetime.fromtimestamp(entry["finished"]).strftime("%Y-%m-%d %H:%M:%S"),
        }
        for name, entry in sorted(entries.items(), key=lambda item: -item[1]["finished"])
    ]
    css = Markup((HERE / "page.css").read_text())
    return environment.get_template("page.scan_list.html").render(title=title, css=css, rows=rows)
