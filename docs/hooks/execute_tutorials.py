"""Run the notebooks of ``workflow/notebooks`` on a results folder and keep executed copies with their outputs.

    python docs/hooks/execute_tutorials.py results config/config.yaml docs/tutorials

Images are reduced to a palette, so that a copy stays small.
"""

import argparse
import base64
import tempfile
from io import BytesIO
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

from ptychoflow.io.provenance import code_version

NOTEBOOKS = Path(__file__).parents[2] / "workflow" / "notebooks"


def execute(source: Path, results: Path, workplace: Path) -> nbformat.NotebookNode:
    """Run a notebook whose parameter ``results`` names a folder, in a workplace of its own."""
    book = nbformat.read(source, as_version=4)
    place = next(n for n, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", []))
    setting = f"from pathlib import Path\n\nresults, output = Path({str(results.resolve())!r}), Path('labelled')"
    book.cells.insert(place + 1, nbformat.v4.new_code_cell(setting))
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(workplace)}}).execute()
    del book.cells[place + 1]
    return book


def keep(book: nbformat.NotebookNode, output: Path, config: str) -> None:
    """Write an executed notebook without what differs from run to run, and say what its outputs were made from."""
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:  # warnings name paths of the machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for produced in cell.get("outputs", []):
            if "image/png" in produced.get("data", {}):
                produced["data"]["image/png"] = _small(produced["data"]["image/png"])
    book.metadata["made_from"] = f"the results of `{config}`, by ptychoflow {code_version()}"
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, output)


def _small(png: str) -> str:
    image = Image.open(BytesIO(base64.b64decode(png))).convert("RGB")
    reduced = BytesIO()
    image.quantize(128).save(reduced, "PNG", optimize=True)
    return base64.b64encode(reduced.getvalue()).decode()


def main() -> None:
    """Execute every notebook."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results of a finished run")
    parser.add_argument("config", help="config of that run")
    parser.add_argument("output", type=Path, help="folder for the executed copies")
    arguments = parser.parse_args()
    for source in sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as workplace:
            keep(execute(source, arguments.results, Path(workplace)), arguments.output / source.name, arguments.config)
        print(f"{source.stem}: {(arguments.output / source.name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
