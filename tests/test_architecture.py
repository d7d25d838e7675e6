"""The layers of the library: the contracts of pyproject.toml, and what they cannot say."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "ptychoflow"
DRAWING = ROOT / "docs" / "development" / "import_graph.py"
FOLDERS = sorted({path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")})
COMPOSED = {"run_directory"}
"""Commands that call other commands one after the other."""
HEAVY = ("h5py", "lightning", "matplotlib", "mlflow", "scipy", "skimage", "snakemake", "torch")


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("ptychoflow", cache_dir=None, exclude_type_checking_imports=True)


def test_import_contracts_hold():
    """The layers, and no cycles; imports inside functions count. Apart: it configures logging for itself."""
    command = [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


def test_a_new_package_needs_a_layer(graph):
    """The contract is exhaustive: what it does not name breaks it."""
    layers, cycles = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert layers["exhaustive"] and cycles["type"] == "acyclic_siblings"
    named = {name.strip() for layer in layers["layers"] for name in layer.split("|")}
    assert {f"ptychoflow.{name}" for name in named} == graph.find_children("ptychoflow")


def test_import_inside_a_function_counts(graph):
    assert "ptychoflow.tracking.run_store" in graph.find_modules_directly_imported_by("ptychoflow.api.config")
    head = [node.module for node in ast.parse((PACKAGE / "api/config.py").read_text()).body if hasattr(node, "module")]
    assert "core.suggestions" in head and "tracking.run_store" not in head


def test_commands_never_import_each_other(graph):
    commands = graph.find_children("ptychoflow.commands")
    assert len(commands) > 10
    for command in commands - {f"ptychoflow.commands.{name}" for name in COMPOSED}:
        assert not graph.find_modules_directly_imported_by(command) & (commands - {command}), command


def test_picture_of_the_imports_is_of_this_code():
    sys.path.insert(0, str(DRAWING.parent))
    from import_graph import draw, read_imports

    imports = read_imports(ROOT / "src")
    assert not imports.cycles and not imports.module_cycles
    again = "python docs/development/import_graph.py docs/development/imports-after.svg"
    assert (DRAWING.parent / "imports-after.svg").read_text() == draw(imports), f"draw it again: {again}"


def test_picture_of_the_imports_shows_cycles_between_packages(tmp_path):
    (tmp_path / "ptychoflow").mkdir()
    for name, line in {"__init__": "", "a": "from . import b", "b": "def f():\n    from . import a", "c": ""}.items():
        (tmp_path / f"ptychoflow/{name}.py").write_text(line)
    drawn = subprocess.run(
        [sys.executable, DRAWING, tmp_path / "out.svg", "--source", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 arrows, 1 cycle through 2 packages" in drawn.stdout
    assert "[['ptychoflow.a', 'ptychoflow.b']]" in drawn.stdout
    assert (tmp_path / "out.svg").read_text().count('fill="none" stroke="#c62828"') == 2


def test_library_imports_itself_relatively():
    absolute = [
        path
        for path in PACKAGE.rglob("*.py")
        if "shim" not in path.parts
        for name in _imports(path)
        if name.split(".")[0] == "ptychoflow"
    ]
    assert not absolute


def test_command_line_imports_no_command_before_it_is_called():
    loaded = _loaded_by("import ptychoflow.cli.main")
    assert "ptychoflow.cli.main" in loaded
    assert not [name for name in loaded if name.startswith("ptychoflow.commands.")]


@pytest.mark.parametrize("words", [[], ["train"], ["refine"]], ids=["ptychoflow", "train", "refine"])
def test_help_loads_no_heavy_package(words):
    loaded = _loaded_by(
        "import contextlib, io, runpy\n"
        f"sys.argv = ['ptychoflow', *{words}, '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    runpy.run_module('ptychoflow', run_name='__main__')\n"
        "assert 'sage' in out.getvalue()"
    )
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_python_runs_from_within_a_package(folder):
    """No module shadows one of the standard library that others need."""
    done = subprocess.run(
        [sys.executable, "-c", "import dataclasses"], cwd=PACKAGE / folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def _loaded_by(code: str) -> set[str]:
    """Names of the modules that are loaded after some code, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def _imports(path: Path) -> set[str]:
    """Modules that a file imports by their absolute names, at its head or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    return names
