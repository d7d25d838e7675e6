"""Scripts beside the library import names that it has: benchmarks, documentation scripts, notebooks."""

import ast
import importlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs").rglob("*.py"), *(ROOT / "envs").glob("*.py")]
SCRIPTS += (ROOT / "workflow" / "notebooks").glob("*.ipynb")


def _source(path: Path) -> str:
    """Return the Python code of a script or a notebook."""
    if path.suffix == ".py":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def _imported(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of everything that a script takes from the library."""
    for node in ast.walk(ast.parse(_source(path))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ptychoflow":
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", sorted(SCRIPTS), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_imports_names_that_the_library_has(path):
    for module, name in _imported(path):
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module} has no {name}"
