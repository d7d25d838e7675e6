"""Explanation pages: equations, pictures, sources, and names of modules that exist."""

import importlib.util
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ptychoflow import config

DOCS = Path(__file__).parents[2] / "docs"
EXPLANATION = DOCS / "explanation"
METHODS = sorted(page for page in EXPLANATION.glob("*.md") if page.stem not in ("index", "bibliography"))
PAGES = sorted(DOCS.rglob("*.md"))
GREATEST_BYTES = 60_000


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    """The script that draws the pictures."""
    spec = importlib.util.spec_from_file_location("pictures", EXPLANATION / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _headings(page: Path) -> str:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    return "\n".join(re.findall(r"^#+ (.*)$", text, re.M))


@pytest.mark.parametrize("page", METHODS, ids=lambda page: page.stem)
def test_a_method_has_equations_its_picture_and_the_modules_that_hold_it(page):
    text = page.read_text()
    assert text.count("$$") >= 2 and text.count("$$") % 2 == 0
    assert f"]({page.stem}.webp)" in text
    assert 1000 < (EXPLANATION / f"{page.stem}.webp").stat().st_size < GREATEST_BYTES
    assert "## In the code" in text and "`ptychoflow." in text


def test_each_picture_has_a_page_and_a_function_that_draws_it(pictures):
    pages = {page.stem for page in METHODS}
    assert pages == set(pictures.DRAWINGS) == {picture.stem for picture in EXPLANATION.glob("*.webp")}


@pytest.mark.parametrize("name", ["forward-model", "group-networks", "learned-refinement", "low-order-phase"])
def test_pictures_are_drawn_anew(name, pictures, tmp_path):
    (path,) = pictures.draw([name], tmp_path)
    assert 1000 < path.stat().st_size < GREATEST_BYTES


@pytest.mark.parametrize("page", METHODS, ids=lambda page: page.stem)
def test_sources_are_in_the_bibliography(page):
    """Each `Name (year)` and `(Name year)` of a page stands in one entry."""
    entries = re.findall(r"^- (.*?)(?=^- |^#|\Z)", (EXPLANATION / "bibliography.md").read_text(), re.M | re.S)
    for name, year in re.findall(r"([A-Z][\w\-]+)(?:\s+et\s+al\.)?,?\s+\(?((?:19|20)\d\d)\)", page.read_text()):
        assert any(name in entry and f"({year})" in entry for entry in entries), f"{name} ({year})"


def test_named_modules_exist():
    named = {name for page in PAGES for name in re.findall(r"`(ptychoflow(?:\.[a-z_0-9]+)+)`", page.read_text())}
    assert len(named) > 20
    for name in sorted(named):
        module, _, attribute = name.rpartition(".")
        found = importlib.util.find_spec(name) if _is_package(module) else None
        assert found or hasattr(import_module(module), attribute), f"{name} is no module and no name in one"


def _is_package(name: str) -> bool:
    return hasattr(import_module(name), "__path__") if name in sys.modules or importlib.util.find_spec(name) else False


def test_named_settings_exist():
    sections = "refinement|training|network|inference|stitching|evaluation|runtime|simulation|packing"
    named = [match for page in METHODS for match in re.findall(rf"`({sections})\.([a-z_]+)`", page.read_text())]
    assert len(named) > 20
    for section, key in named:
        assert key in getattr(config, section.capitalize()).model_fields, f"{section}.{key} is no setting"


@pytest.mark.parametrize(
    "words",
    [
        *("position refinement", "mixed-state", "probe retrieval", "convergence", "overlap", "self-supervised"),
        *("uncertainty", "mask", "ground truth", "frc"),
    ],
)
def test_a_heading_holds_what_users_search_for(words):
    assert any(words in _headings(page).lower() for page in METHODS)


def test_sources_are_named_once():
    entries = re.findall(r"^- (.*)$", (EXPLANATION / "bibliography.md").read_text(), re.M)
    assert len(entries) == len(set(entries)) > 40
