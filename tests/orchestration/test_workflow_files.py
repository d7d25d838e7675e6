"""The workflow's files: found in a checkout, copied for editing, the same in a wheel as here."""

import ast
from pathlib import Path

import pytest

from ptychoflow.cli.main import main
from ptychoflow.orchestration.workflow_files import NAMES, find_profile, workflow_root

ROOT = Path(__file__).parents[2]


def test_a_checkout_uses_its_own_files():
    assert workflow_root() == ROOT


def test_the_build_copies_what_the_library_looks_for():
    files = next(node for node in ast.parse((ROOT / "setup.py").read_text()).body if isinstance(node, ast.Assign))
    assert ast.literal_eval(files.value) == NAMES
    manifest = (ROOT / "MANIFEST.in").read_text().split()
    assert set(NAMES) <= set(manifest)


def test_a_profile_is_found_by_name_and_by_path(tmp_path):
    assert find_profile("slurm") == ROOT / "profiles" / "slurm"
    (tmp_path / "config.yaml").write_text("cores: 1\n")
    assert find_profile(str(tmp_path)) == tmp_path
    with pytest.raises(FileNotFoundError, match="did you mean slurm"):
        find_profile("slrum")


def test_init_copies_the_workflow_and_overwrites_nothing(tmp_path, capsys):
    assert main(["init", str(tmp_path / "mine")]) == 0
    for name in ("Snakefile", "workflow/rules/scans.smk", "config/config.yaml", "profiles/slurm/config.yaml"):
        assert (tmp_path / "mine" / name).read_text() == (ROOT / name).read_text()
    edited = tmp_path / "mine/config/config.yaml"
    edited.write_text("mine")
    assert main(["init", str(tmp_path / "mine")]) == 2
    assert edited.read_text() == "mine"
    assert "holds Snakefile" in capsys.readouterr().err
