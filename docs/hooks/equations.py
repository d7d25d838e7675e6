"""Equations: TeX to MathML while the site is built, which browsers draw without any script."""

import re
from html import unescape

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
SUBSTITUTES = {r"{aligned}": r"{align*}", r"\arg": r"\mathrm{arg}", r"\operatorname": r"\mathrm"}
"""Commands that the converter does not know, by those that it does."""
UNCONVERTED = re.compile(r"<m[io]>(\\[A-Za-z]+|&(amp;)?)</m[io]>")


def on_page_content(html: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Replace each equation of a page, inline or displayed, by MathML."""
    return EQUATION.sub(lambda match: _equation(match, page.file.src_uri), html)


def _equation(match: re.Match[str], page: str) -> str:
    tex = unescape(match[2]).strip()
    return mathml(tex, "block" if match[1] == "div" else "inline", page)


def mathml(tex: str, display: str = "inline", page: str = "") -> str:
    """Convert TeX to MathML.

    Raises:
        PluginError: for a command that the converter does not know.
    """
    known = re.sub(r"\{aligned\}|\\(arg|operatorname)\b", lambda match: SUBSTITUTES[match[0]], tex)
    math = convert(known, display=display)
    if unknown := UNCONVERTED.search(math):
        raise PluginError(f"{page}: {unknown[1]} in the equation {tex!r} has no MathML: write it in other commands")
    return math
