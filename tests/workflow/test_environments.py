"""What the steps run in: environments by role, their locks, the image, all with the versions of the constraints."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"
LIBRARY = ROOT / "src"
ROLES = ("gpu", "analysis")
CALLED = {"yaml": "pyyaml", "PIL": "pillow", "skimage": "scikit-image", "markupsafe": "jinja2"}
"""Modules whose package has another name."""
NOT_OURS = {"ptychodus", "zarr", "numcodecs"}
"""Imported only where ptychodus itself is at work, or the extra em reads a file."""
MODULES = {"inspect": "inspect_file", "run-directory": "run_directory"}
"""Modules of commands that are not called as their command."""


def _pinned(lines: list[str]) -> dict[str, str]:
    """Package and version of lines such as ``numpy==2.4.6 --hash=...``."""
    pins = (line.split()[0].split("==") for line in lines if "==" in line)
    return {canonicalize_name(name): version for name, version in pins}


CONSTRAINTS = _pinned((ENVS / "constraints.txt").read_text().splitlines())


def _environment(role: str) -> tuple[list[str], dict[str, str]]:
    """What conda installs, and what pip does at which version."""
    *conda, pip = yaml.safe_load((ENVS / f"{role}.yaml").read_text())["dependencies"]
    return conda, _pinned(pip["pip"])


def _packages(role: str) -> set[str]:
    conda, pip = _environment(role)
    return set(pip) | ({"torch"} if any(name.startswith("pytorch-cpu") for name in conda) else set())


def _rules() -> Iterator[tuple[str, str, str]]:
    """Name, environment and text of every rule that has one."""
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for text in re.split(r"^(?=rule )", path.read_text(), flags=re.MULTILINE):
            if found := re.search(r'conda:\s+"\.\./\.\./envs/(\w+)\.yaml"', text):
                yield re.match(r"rule (\w+)", text)[1], found[1], text


@pytest.mark.parametrize("role", ROLES)
def test_conda_and_pip_install_the_same_versions(role):
    conda, pip = _environment(role)
    assert {name: CONSTRAINTS[name] for name in pip} == pip
    for name in conda:
        if name.startswith("pytorch-cpu"):
            assert CONSTRAINTS["torch"] in SpecifierSet(name.removeprefix("pytorch-cpu"))


def test_constraints_name_versions_that_every_machine_finds():
    assert "+" not in (ENVS / "constraints.txt").read_text(), "local versions are found on few machines"


def test_the_environments_hold_the_core_and_that_of_gpus_what_trains():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core, train = (
        {re.split("[><=]", name)[0] for name in names}
        for names in (project["dependencies"], project["optional-dependencies"]["train"])
    )
    assert _packages("analysis") == core
    assert _packages("gpu") == core | train


@pytest.mark.parametrize("role", ROLES)
def test_a_lock_holds_its_environment_and_all_that_it_needs_in_turn_by_checksum(role):
    lines = [line for line in (ENVS / f"{role}.linux-64.lock.txt").read_text().splitlines() if line[0] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    locked, (_, pip) = _pinned(lines), _environment(role)
    assert pip.items() <= locked.items()
    beside_torch = {name for name in locked if re.match("nvidia-|cuda-|triton$|setuptools$", name)}
    assert {name: CONSTRAINTS[name] for name in locked.keys() - beside_torch}.items() <= locked.items()
    assert any(name.startswith("nvidia-") for name in locked) == (role == "gpu")


def test_steps_that_ask_for_gpus_run_where_torch_can_use_them():
    roles = {name: role for name, role, _ in _rules()}
    assert {name for name, _, text in _rules() if "gpu=" in text} == {n for n, role in roles.items() if role == "gpu"}
    assert {"train", "refine"} <= roles.keys() and "torch" in _environment("gpu")[1]


def _file(module: str) -> Path | None:
    path = LIBRARY.joinpath(*module.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def _imports(path: Path) -> Iterator[str]:
    """Every module that a module imports, at its head or inside functions."""
    package = path.relative_to(LIBRARY).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            base = base if node.level else node.module
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _reached(module: str) -> set[str]:
    """Packages of others that a module of ours can come to import, directly or through others of ours."""
    others, seen, left = set(), set(), [module]
    while left:
        name = left.pop()
        path = _file(name)
        if path is None:
            others.add(name.split(".")[0])
        elif name not in seen:
            seen.add(name)
            left += [name.rpartition(".")[0] or "ptychoflow", *_imports(path)]
    return {CALLED.get(name, name) for name in others - set(sys.stdlib_module_names) - NOT_OURS - {"ptychoflow"}}


def test_every_step_finds_in_its_environment_what_it_can_import():
    steps = {re.search(r"-m ptychoflow (\w+)", text)[1]: role for _, role, text in _rules()}
    assert {"train", "refine", "simulate", "evaluate", "report"} <= steps.keys()
    for step, role in steps.items():
        assert _reached(f"ptychoflow.commands.{MODULES.get(step, step)}") <= _packages(role), step
    assert "lightning" in _reached("ptychoflow.commands.train")


def test_the_image_copies_what_is_there_and_has_the_versions_of_the_environments():
    text = (ENVS / "Dockerfile").read_text()
    copied = [name for line in text.splitlines() if line.startswith("COPY") for name in line.split()[1:-1]]
    assert copied and all((ROOT / name).exists() for name in copied)
    assert f"python={re.search(r'^FROM python:([0-9.]+)-slim$', text, re.MULTILINE)[1]}" in _environment("gpu")[0]
    assert "--constraint /opt/ptychoflow/envs/constraints.txt" in text
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = re.search(r"'/opt/ptychoflow\[([\w,]+)\]'", text)[1].split(",")
    assert {"all", "storage"} <= set(installed) <= extras.keys()
    packages = {name for extra in installed for name in extras[extra]} - {"ptychoflow[train,workflow]"}
    assert packages and packages <= CONSTRAINTS.keys(), "a version is not pinned"
    profile = yaml.safe_load((ROOT / "profiles/kubernetes/config.yaml").read_text())
    assert f"--tag {profile['container-image']} " in text
