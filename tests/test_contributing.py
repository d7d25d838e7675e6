"""CONTRIBUTING.md: its three examples run as they stand there, and the checks it names are those that exist."""

import importlib
import inspect
import re
import sys
import textwrap
import tomllib
import types
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = dict(re.findall(r'^```python title="([^"]+)"\n(.*?)^```', TEXT, re.MULTILINE | re.DOTALL))
EXAMPLES = {
    "reader": ("readers/formats/example", "readers/registry.py: READERS", "readers/formats/test_example"),
    "network": ("networks/plain", "networks/registry.py: ARCHITECTURES", "networks/test_plain"),
    "metric": ("metrics/median_error", "metrics/image.py: the metrics of an image", "metrics/test_median_error"),
}
"""Of each example: the module, the entry in a table, the test."""


@pytest.fixture
def example(request, monkeypatch):
    """The module of an example, imported as if it lay where its title says, and its entry as written."""
    module, entry, test = request.param
    name = f"ptychoflow.{module.replace('/', '.')}"
    loaded = types.ModuleType(name)
    loaded.__package__ = name.rpartition(".")[0]
    importlib.import_module(loaded.__package__)
    monkeypatch.setitem(sys.modules, name, loaded)
    exec(compile(BLOCKS[f"src/ptychoflow/{module}.py"], module, "exec"), loaded.__dict__)
    return loaded, BLOCKS[f"src/ptychoflow/{entry}"], BLOCKS[f"tests/{test}.py"]


def _entry(line: str, names: dict) -> dict:
    return eval("{" + line + "}", names)


def _run_tests(code: str, **fixtures) -> int:
    names: dict = {}
    exec(compile(code, "test", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    for test in tests:
        test(**{name: fixtures[name] for name in inspect.signature(test).parameters})
    return len(tests)


@pytest.mark.parametrize("example", [EXAMPLES["reader"]], indirect=True)
def test_example_of_a_reader(example, monkeypatch, tmp_path):
    from ptychoflow.readers import registry

    module, line, test = example
    entry = _entry(line, vars(registry) | vars(module))
    monkeypatch.setattr(registry, "READERS", entry | registry.READERS)
    assert _run_tests(test, tmp_path=tmp_path) == 1


@pytest.mark.parametrize("example", [EXAMPLES["network"]], indirect=True)
def test_example_of_a_network(example, monkeypatch):
    from ptychoflow.networks import registry

    module, line, test = example
    monkeypatch.setattr(registry, "ARCHITECTURES", registry.ARCHITECTURES | _entry(line, vars(module)))
    assert _run_tests(test) == 1


@pytest.mark.parametrize("example", [EXAMPLES["metric"]], indirect=True)
def test_example_of_a_metric(example):
    import numpy as np

    module, line, test = example
    image, mask = np.ones((4, 4), complex), np.ones((4, 4), bool)
    assert _entry(line, vars(module) | {"image": image, "truth": image, "mask": mask}) == {"phase_median_error_rad": 0}
    assert _run_tests(test) == 1


def test_every_block_of_code_is_run():
    assert len(BLOCKS) == len(re.findall(r"^```python", TEXT, re.MULTILINE)) == 3 * len(EXAMPLES)


def test_files_and_names_that_the_text_sends_to_are_there():
    for name in re.findall(r"\]\(([\w./-]+\.md)\)", TEXT):
        assert (ROOT / name).exists(), name
    for path, names in {
        "src/ptychoflow/config/scans.py": ["FORMATS"],
        "src/ptychoflow/config/training.py": ["acts_on", "architecture"],
        "src/ptychoflow/reporting/results.py": ["COLUMNS", "Column"],
        "tests/readers/golden.py": ["GOLDEN"],
        "tests/networks/test_registry.py": ["KINDS"],
    }.items():
        assert path.removeprefix("src/ptychoflow/") in TEXT
        assert all(name in TEXT and re.search(rf"\b{name}\b", (ROOT / path).read_text()) for name in names)


def test_make_has_the_targets_that_are_named():
    text = TEXT + "".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)\b", text))
    assert {"test", "lint", "docs", "coverage"} <= named <= targets


def test_hooks_before_a_commit_are_part_of_make_lint():
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    recipe = textwrap.dedent(re.search(r"^lint:.*?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1])
    lines = recipe.splitlines()
    for hook in repository["hooks"]:
        command = re.sub(r" --(force-exclude|fix)\b", "", hook["entry"])
        assert any(line.startswith(command) for line in lines), hook["entry"]
    assert {"mypy", "snakemake --lint"} <= set(lines)


def test_continuous_integration_runs_every_python_that_the_package_names():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    tried = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert tried == [name.rpartition(" ")[2] for name in classifiers if re.search(r":: 3\.\d+$", name)]
