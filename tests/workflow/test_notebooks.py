"""The notebooks run on the results of a run, show images, and are kept without outputs."""

import json
import re
from pathlib import Path

import nbformat
import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient runs the notebooks: pip install 'ptychoflow[test]'")

pytestmark = pytest.mark.xdist_group("finished run")
FOLDER = Path(__file__).parents[2] / "workflow" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def _run(name: str, folder: Path, **parameters) -> nbformat.NotebookNode:
    """Run a notebook with its parameters set as papermill would, and return it."""
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    index = next(n for n, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", []))
    source = "\n".join(f"{key} = {value}" for key, value in parameters.items())
    book.cells.insert(index + 1, nbformat.v4.new_code_cell(source))
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return book


def _outputs(book, kind: str) -> list:
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output for output in outputs if kind in output.get("data", {}) or output.get("name") == kind]


def _stdout(book) -> str:
    return "".join(output.text for output in _outputs(book, "stdout"))


def _show(finished, name: str, tmp_path, **parameters):
    return _run(name, tmp_path, results=f'Path("{finished.folder / "results"}")', **parameters)


def test_results_at_a_glance(finished, tmp_path):
    book = _show(finished, "results_at_a_glance", tmp_path)
    assert len(_outputs(book, "image/png")) == 4  # two reconstructions, their fits, the training
    table = _outputs(book, "text/html")[0]["data"]["text/html"]
    assert "r_factor" in table and "star" in table and "rpie" in table


def test_frc_between_reconstructions(finished, tmp_path):
    book = _show(finished, "frc_between_reconstructions", tmp_path)
    assert "star: 5 reconstructions" in _stdout(book) and "rpie, refined, even" in _stdout(book)
    assert len(_outputs(book, "image/png")) == 2


def test_probe_similarity(finished, tmp_path):
    book = _show(finished, "probe_similarity", tmp_path)
    text = _stdout(book)
    assert "group 1: leaves, star, rpie/star, tiny/star" in text, "the run has one probe"
    shifted = re.search(r"shifted by 3 and 2 px +similarity ([\d.]+), shift (\S+), (\S+) px", text)
    assert [float(value) for value in shifted.groups()] == pytest.approx([1, 3, 2], abs=0.01)
    assert len(_outputs(book, "image/png")) == 3


def test_supervised_dataset(finished, tmp_path):
    output = tmp_path / "labelled"
    book = _show(finished, "supervised_dataset", tmp_path, output=f'Path("{output}")', worst_ratio=1000.0)
    assert "labels from" in _stdout(book)
    record = json.loads((output / "networks" / "small.json").read_text())
    losses = record["curves"]["loss"]
    assert record["config"]["training"]["supervision"] == "ground_truth" and losses[-1] < losses[0]
    assert len(_outputs(book, "image/png")) == 2


def test_every_notebook_has_a_test_of_its_own():
    assert {name for name in globals() if name.startswith("test_")} >= {f"test_{name}" for name in NAMES} and NAMES


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_kept_without_outputs(name):
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count is not None]
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# ")
