"""Tutorials: each notebook of ``workflow/notebooks`` as a page, with the outputs of its executed copy.

``make tutorials`` runs the notebooks on ``results/`` and writes the executed copies into ``docs/tutorials``. A notebook
without a copy is shown without outputs, and says so.
"""

import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

UNWANTED = re.compile(r"<style.*?</style>|\n\s*", re.DOTALL)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
ROOT = Path(__file__).parents[2]
MISSING = "!!! note\n    This page shows the notebook without its outputs. `make tutorials` runs it on `results/`.\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook."""
    for source in sorted((ROOT / "workflow/notebooks").glob("*.ipynb")):
        uri = f"tutorials/{source.stem}.md"
        executed = Path(config.docs_dir) / "tutorials" / source.name
        files.append(File.generated(config, uri, content=page(source, executed)))
    return files


def page(source: Path, executed: Path) -> str:
    """Render a notebook as Markdown: the executed copy where there is one, else the notebook itself."""
    book = nbformat.read(executed if executed.is_file() else source, as_version=4)
    title, *cells = book.cells
    about = (
        f"The notebook is `workflow/notebooks/{source.name}`. `make tutorials` made its outputs"
        f" from {book.metadata['made_from']}.\n"
        if executed.is_file()
        else MISSING
    )
    return "\n\n".join([title.source, about, *(_cell(cell) for cell in cells)]) + "\n"


def _cell(cell: nbformat.NotebookNode) -> str:
    if cell.cell_type != "code":
        return cell.source
    return "\n\n".join([f"```python\n{cell.source}\n```", *filter(None, map(_output, cell.outputs))])


def _output(output: nbformat.NotebookNode) -> str:
    """One output: an image, a table, or text; what a program says on stderr is left out."""
    if output.output_type == "stream":
        return f"```text\n{ANSI.sub('', output.text).rstrip()}\n```" if output.name == "stdout" else ""
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="output of the cell above" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/html" in data:
        return f'<div class="output">{UNWANTED.sub("", data["text/html"])}</div>'
    return f"```text\n{data['text/plain'].rstrip()}\n```" if "text/plain" in data else ""
