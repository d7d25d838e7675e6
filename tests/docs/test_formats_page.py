"""The page of file formats lists the formats that there are."""

import re

from ptychoflow.config.scans import FORMATS

from .conftest import ROOT


def test_every_format_has_a_row():
    page = (ROOT / "docs/reference/file-formats.md").read_text()
    rows = re.findall(r"^\| `([\w:]+)` \|", page.partition("## Formats read")[2].partition("\n## ")[0], re.MULTILINE)
    assert sorted(rows) == sorted(["format", *FORMATS, "ptychodus:NAME"])
