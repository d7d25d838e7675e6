"""The site is built offline, without a warning, and fetches nothing when it is read."""

import re
import sys
from html.parser import HTMLParser

import nbformat
import pytest

from .conftest import ROOT

sys.path.insert(0, str(ROOT / "docs/hooks"))
import equations
import execute_tutorials
import navigation
import rule_graph
import tutorials

FETCHING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""Attributes whose address a browser fetches by itself; of links only those to style sheets, icons and the like."""
KINDS = {"getting-started", "how-to", "explanation", "reference", "results", "development", "tutorials"}


class _Fetched(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        attributes = dict(attrs)
        if tag in FETCHING and attributes.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(attributes.get(FETCHING[tag]) or "")


def test_no_page_fetches_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        parser = _Fetched()
        parser.feed(page.read_text())
        elsewhere = [address for address in parser.addresses if re.match(r"(https?:)?//", address)]
        assert parser.addresses and not elsewhere, f"{page.name}: {elsewhere}"
        assert 'class="mermaid"' not in page.read_text(), f"{page.name}: mermaid is fetched when a page holds a drawing"


def test_no_equation_is_left_as_tex(site):
    for page in site.rglob("*.html"):
        assert 'class="arithmatex"' not in page.read_text(), page.name


def test_pages_are_of_a_known_kind():
    folders = {path.relative_to(ROOT / "docs").parts[0] for path in (ROOT / "docs").rglob("*.md")}
    assert {folder for folder in folders if not folder.endswith(".md")} <= KINDS


@pytest.mark.parametrize("page", ["README.md", "config/README.md", "envs/README.md", "benchmarks/README.md"])
def test_links_of_pages_beside_the_site_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text())
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


def test_the_readme_is_short_and_shows_one_picture():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120 and len(re.findall(r"!\[", text)) == 1


def test_a_folder_of_the_navigation_is_expanded_in_the_order_of_its_index(tmp_path):
    (tmp_path / "how").mkdir()
    (tmp_path / "how/index.md").write_text("First [b](b.md), then [a](a.md).")
    pages = ["how/a.md", "how/b.md", "how/c.md", "how/index.md"]
    expanded = navigation.expand([{"How": ["x.md", "how/"]}, {"None": ["none/"]}], pages, tmp_path)
    assert expanded == [{"How": ["x.md", "how/index.md", "how/b.md", "how/a.md", "how/c.md"]}]


def test_an_equation_becomes_mathml():
    html = '<p><span class="arithmatex">\\(a &lt; b^2\\)</span></p><div class="arithmatex">\\[\nx_1\n\\]</div>'
    page = type("Page", (), {"file": type("File", (), {"src_uri": "a.md"})})
    drawn = equations.on_page_content(html, page, None)
    assert drawn.count("<math") == 2 and "<msup><mi>b</mi><mn>2</mn></msup>" in drawn and 'display="block"' in drawn


def test_an_unknown_tex_command_is_an_error():
    with pytest.raises(Exception, match=r"\\quarck .* has no MathML"):
        equations.mathml(r"a \quarck b")


def test_the_graph_of_the_rules_is_drawn_on_the_site(site):
    source = (ROOT / "docs/reference/workflow-rules.md").read_text()
    rules = set(re.findall(r"\w+", " ".join(re.findall(r"(\w+ --> \w+)", source))))
    drawn = (site / "reference/workflow-rules.html").read_text()
    assert set(re.findall(r'text-anchor="middle"[^>]*>(\w+)<', drawn)) == rules


def test_an_arrow_ends_at_each_rule_that_reads():
    drawn = rule_graph.svg([("a", "b"), ("a", "c"), ("b", "c")])
    assert drawn.count("<rect") == 3 and drawn.count("marker-end") == 3


def test_every_notebook_is_a_page_with_its_cells(site):
    for path in (ROOT / "workflow/notebooks").glob("*.ipynb"):
        title = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].removeprefix("# ")
        page = (site / f"tutorials/{path.stem}.html").read_text()
        assert title in page and "<code>" in page


def test_an_executed_notebook_is_shown_with_its_outputs(tmp_path):
    v4 = nbformat.v4
    outputs = [
        v4.new_output("stream", name="stdout", text="\x1b[1mtwo scans\x1b[0m\n"),
        v4.new_output("stream", name="stderr", text="a warning"),
        v4.new_output("display_data", data={"image/png": "iVBORw0KGgo=\n", "text/plain": "<Figure>"}),
        v4.new_output("execute_result", data={"text/html": "<style>x</style>\n<table></table>"}),
    ]
    cells = [v4.new_markdown_cell("# A title"), v4.new_code_cell("1 + 1", outputs=outputs)]
    book = v4.new_notebook(cells=cells, metadata={"made_from": "the results of `a.yaml`"})
    nbformat.write(book, tmp_path / "a.ipynb")
    page = tutorials.page(tmp_path / "b.ipynb", tmp_path / "a.ipynb")
    assert "```text\ntwo scans\n```" in page and "a warning" not in page and "<style>" not in page
    assert "data:image/png;base64,iVBORw0KGgo=" in page and "<table></table>" in page
    assert "the results of `a.yaml`" in page


def test_a_notebook_is_executed_on_the_results_it_is_given(tmp_path):
    v4 = nbformat.v4
    parameters = v4.new_code_cell("results = None", metadata={"tags": ["parameters"]})
    show = "import matplotlib.pyplot as plt\nprint(results.name)\nplt.plot([1, 2])\nplt.show()"
    book = v4.new_notebook(cells=[v4.new_markdown_cell("# A title"), parameters, v4.new_code_cell(show)])
    nbformat.write(book, tmp_path / "a.ipynb")
    (tmp_path / "run7").mkdir()
    executed = execute_tutorials.execute(tmp_path / "a.ipynb", tmp_path / "run7", tmp_path)
    execute_tutorials.keep(executed, tmp_path / "kept/a.ipynb", "config/a.yaml")
    page = tutorials.page(tmp_path / "a.ipynb", tmp_path / "kept/a.ipynb")
    assert "run7" in page and "data:image/png;base64," in page and "the results of `config/a.yaml`" in page
    assert str(tmp_path) not in (tmp_path / "kept/a.ipynb").read_text(), "no path of this machine is kept"
