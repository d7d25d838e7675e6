"""Navigation: an entry that ends in ``/`` stands for the pages of that folder that are named nowhere else.

They come in the order in which the ``index.md`` of the folder links to them, then by name.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Expand the folders of ``nav`` once all pages are known."""
    named = set(_named(config.nav))
    unnamed = [file.src_uri for file in files.documentation_pages() if file.src_uri not in named]
    config.nav = expand(config.nav, unnamed, Path(config.docs_dir))
    return files


def _named(nav: list | dict | str) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [name for item in (nav.values() if isinstance(nav, dict) else nav) for name in _named(item)]


def expand(nav: list, unnamed: list[str], docs: Path) -> list:
    """Replace each folder of a navigation by its pages, and drop sections without pages."""
    expanded: list = []
    for item in nav:
        if isinstance(item, str) and item.endswith("/"):
            expanded += _pages_of(item, unnamed, docs)
        elif isinstance(item, dict):
            [(title, entries)] = item.items()
            entries = [entries] if isinstance(entries, str) and entries.endswith("/") else entries
            entries = expand(entries, unnamed, docs) if isinstance(entries, list) else entries
            expanded += [{title: entries}] if entries else []
        else:
            expanded.append(item)
    return expanded


def _pages_of(folder: str, unnamed: list[str], docs: Path) -> list[str]:
    index = docs / folder / "index.md"
    text = index.read_text() if index.is_file() else ""

    def place(page: str) -> tuple[bool, int, str]:
        link = text.find(f"({page.removeprefix(folder)}")
        return not page.endswith("/index.md"), link if link >= 0 else len(text), page

    return sorted((page for page in unnamed if page.startswith(folder)), key=place)
