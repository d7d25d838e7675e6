"""The field's language: the glossary of docs/development/glossary.md holds in code, messages and documentation."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for path in (ROOT / "src").rglob("*.py") if "shim" not in path.parts)
SOURCES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").glob("*.py"))]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "config").glob("*.yaml"))]
PAGES += [*sorted((ROOT / "workflow").rglob("*.smk")), *sorted((ROOT / "workflow").rglob("*.ipynb"))]
QUOTING = {ROOT / "docs/development" / name for name in ("glossary.md", "decisions/0011-methods-and-names.md")}
QUOTING |= {Path(__file__)}
"""Where the old words are quoted, to say what stands in their place."""

WORDS = {
    r"lights?": "illumination, probe intensity or photons",
    r"brightness(es)?|brighten": "intensity scale",
    r"misfits?": "residual or data error",
    r"witness(es)?": "held-out neighbours",
    r"company|crowding": "overlap",
    r"guide": "supervised loss",
    r"straighten(ed|s)?": "low-order phase",
    r"whirls?": "phase vortex",
    r"likeness": "probe similarity",
    r"seams?": "raster artefact",
    r"unfinished": "interrupted, resumable",
    r"verbs?": "command",
    r"peers?": "rank, process group",
}
"""Words that a name of ours or a sentence does not hold, and what to write instead."""

NAMES = WORDS | {
    r"told|said|heard": "the thing that it holds (match, hasher, overrides, entry ...)",
    r"rests?": "subpixel shift",
    r"facts": "metadata",
    r"settled?": "converge",
    r"pull": "object update, adjoint",
}
"""Words that only a name may not hold."""

PHRASES = {
    r"whole or not at all": "atomic",
    r"flat (start|object)|empty (object|image)": "uniform initial object",
    r"plain iteration": "iterative refinement, rPIE",
    r"correct(s|ed) (a )?fits?": "learned refinement",
    r"smooth phase": "low-order phase",
    r"broken off|half-trained": "interrupted, checkpoint",
    r"loops? in C": "C kernel",
    r"hangs? together": "overlap",
    r"(?<!there )(is|are) no (?!longer|more)[a-z]": "is not a",
    r"measures(?! (of|the|what|how|with|in)\b)(?! [a-z]+ing)": "metrics",
    r"upside down": "inverted",
}
"""Phrases that messages, docstrings and pages do not hold."""

MESSAGES = {r"there (is|are) no ": "X not found, no such X"}
"""Phrases that no text of the code holds."""

EXCEPTIONS = {
    "light": ("theme", "light-weight", "color-scheme", "daylight", "speed of light", "SPEED_OF_LIGHT_M_S"),
    "guide": ("Practical Guide",),
}


def _parts(name: str) -> list[str]:
    """Split an identifier into lower-case words."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the identifiers that a module gives: what it assigns, defines, takes as arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr, node.lineno


def _prose(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the text that a person reads: strings and comments of a module, every line of a page."""
    if path.suffix != ".py":
        yield from ((line, number) for number, line in enumerate(path.read_text().splitlines(), 1))
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            yield " ".join(token.string.split()), token.start[0]


def _label(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for path in SOURCES if path not in QUOTING], ids=_label)
def test_names_are_words_of_the_glossary(path):
    wrong = [
        f"{path.name}:{line}: {name}: write {instead}"
        for name, line in _names(ast.parse(path.read_text()))
        for word, instead in NAMES.items()
        if not name.startswith(("test_", "SPEED_OF_LIGHT")) and any(re.fullmatch(word, part) for part in _parts(name))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", [path for path in [*MODULES, *PAGES] if path not in QUOTING], ids=_label)
def test_messages_and_pages_are_in_words_of_the_glossary(path):
    wrong = []
    for text, line in _prose(path):
        for phrase, instead in (WORDS | PHRASES | (MESSAGES if path.suffix == ".py" else {})).items():
            match = re.search(
                rf"(?<![\w-])({phrase})(?![\w])" if phrase in WORDS else rf"\b{phrase}", text, re.IGNORECASE
            )
            if match and not any(known in text for known in EXCEPTIONS.get(match[0].lower(), ())):
                wrong.append(
                    f"{path.name}:{line}: ...{text[max(match.start() - 30, 0) : match.end() + 30]}...: write {instead}"
                )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", MODULES, ids=_label)
def test_docstrings_open_with_a_verb_or_a_quantity(path):
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            if re.match(r"(What|How|Whether|Where|Who|Which|Why)\b", text):
                wrong.append(f"{path.name}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", MODULES, ids=_label)
def test_public_functions_and_classes_have_docstrings(path):
    tree = ast.parse(path.read_text())
    nodes = [*tree.body, *(member for node in tree.body if isinstance(node, ast.ClassDef) for member in node.body)]
    bare = [
        f"{path.name}:{node.lineno}: {node.name}"
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    assert not bare, "\n".join(bare)
