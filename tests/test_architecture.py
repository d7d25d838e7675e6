"""Who may import whom: the rooms of the library keep their doors."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "workflow" / "ptychoflow"
NOUNS = {"config", "files", "scan", "product", "reconstruction", "progress", "clock", "sweeps", "needs", "devices"}
NOUNS |= {"origins"}
ROOMS = {
    "physics": set(),
    "datagen": {"physics"},
    "data": {"physics"},
    "networks": {"physics"},
    "metrics": {"physics"},
    "readers": {"data", "physics"},
    "fitting": {"physics", "metrics"},
    "stitching": {"data", "physics"},
    "learning": {"physics", "networks", "data", "metrics", "fitting"},
}
VERBS = {"simulate", "convert", "pack", "train", "infer", "stitch", "reconstruct", "refine", "evaluate"}
VERBS |= {"sweep", "report", "export"}


def _imports(path: Path) -> set[str]:
    """Top-level names of our package that a module imports, at its head or inside functions."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            names = [*base, *node.module.split(".")] if node.module else None
            found |= {names[0]} if names else {(*base, alias.name)[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any((module or "").split(".")[0] == "ptychoflow" for module in modules), (
                f"{path}: import relatively"
            )
    return found - {"__version__"}


def _modules(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_opens_only_to_what_it_may_use(room):
    for path in _modules(room):
        others = _imports(path) - {room} - (NOUNS if room != "physics" else set())
        assert others <= ROOMS[room], f"{path.name} imports {others - ROOMS[room]}"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_verbs_never_import_each_other_or_the_doors(verb):
    assert not _imports(PACKAGE / f"{verb}.py") & ((VERBS | {"cli", "api"}) - {verb})


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_nouns_import_only_nouns(noun):
    modules = _modules(noun) or [PACKAGE / f"{noun}.py"]
    assert set().union(*map(_imports, modules)) <= NOUNS


def test_help_needs_no_heavy_import():
    heads = [node for node in ast.parse((PACKAGE / "cli.py").read_text()).body if isinstance(node, ast.ImportFrom)]
    assert not [node for node in heads if node.level], "cli.py imports a verb before it is called"
