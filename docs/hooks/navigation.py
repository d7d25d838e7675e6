"""Navigation: an entry that ends in ``/`` stands for the pages of that folder that are named nowhere else."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Expand the folders of ``nav`` once all pages are known."""
    pages = sorted(file.src_uri for file in files.documentation_pages())
    named = set(_names(config.nav))
    config.nav = _expand(config.nav, [page for page in pages if page not in named])
    return files


def _names(nav: list | dict | str) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [name for item in (nav.values() if isinstance(nav, dict) else nav) for name in _names(item)]


def _expand(nav: list, unnamed: list[str]) -> list:
    """Replace each folder by its pages, index first, and drop sections that have none."""
    expanded: list = []
    for item in nav:
        if isinstance(item, str) and item.endswith("/"):
            inside = [page for page in unnamed if page.startswith(item)]
            expanded += sorted(inside, key=lambda page: (page.count("/"), not page.endswith("index.md"), page))
        elif isinstance(item, dict):
            [(title, entries)] = item.items()
            entries = [entries] if isinstance(entries, str) and entries.endswith("/") else entries
            entries = _expand(entries, unnamed) if isinstance(entries, list) else entries
            expanded += [{title: entries}] if entries else []
        else:
            expanded.append(item)
    return expanded
