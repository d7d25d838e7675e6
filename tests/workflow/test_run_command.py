"""``ptychoflow run`` of a built wheel: from a file to its report, from another folder, without the repository."""

import json
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ptychoflow.cli.main import main

from .conftest import ROOT, TINY

SOURCES = ("src", "workflow", "config", "profiles", "envs", "Snakefile", "setup.py", "pyproject.toml", "README.md")


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """Python of a fresh environment with the wheel; what the wheel needs comes from the environment of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*SOURCES, "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    packages = next((folder / "venv/lib").iterdir()) / "site-packages"
    (packages / "beneath.pth").write_text(f"import site; site.addsitedir({site.getsitepackages()[0]!r})\n")
    [wheel] = folder.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
    return python


@pytest.fixture(scope="module")
def measurement(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("beamline") / "star.h5"
    made = path.with_suffix(".cxi")
    assert main(["simulate", str(made), "--config", json.dumps({"simulation": TINY["simulation"]})]) == 0
    return made.rename(path)


def _run(python: Path, *words: object) -> subprocess.CompletedProcess:
    elsewhere = python.parent
    command = [python, "-m", "ptychoflow", "run", *map(str, words), "--cores", "1"]
    return subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})


def test_a_wheel_runs_from_a_file_to_its_report(python, measurement):
    quick = ["--set", "refinement.epochs=2"]
    done = _run(python, measurement, *quick)
    folder = measurement.parent / "star.h5.ptychoflow"
    assert done.returncode == 0, done.stderr + (folder / "workflow.log").read_text()
    assert f"report     {folder}/results/report.html" in done.stdout and "R-factor" in done.stdout
    assert "refining star by rpie" in done.stderr and "localrule" not in done.stderr
    assert "<html" in (folder / "results/report.html").read_text()
    assert str(python.parents[1]) in (folder / "workflow.log").read_text(), "the Snakefile of the wheel ran"
    made = (folder / "results/report.html").stat().st_mtime_ns
    again = _run(python, measurement, *quick)
    assert again.returncode == 0 and "each step was done before" in again.stderr
    assert (folder / "results/report.html").stat().st_mtime_ns == made


def test_a_file_that_is_not_a_measurement_is_refused_in_one_line_and_leaves_nothing(python, tmp_path):
    (tmp_path / "notes.h5").write_text("not HDF5")
    done = _run(python, tmp_path / "notes.h5")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.splitlines()[-1].startswith(f"ptychoflow run: {tmp_path}/notes.h5: ")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.h5"]


def test_a_step_that_refuses_its_input_ends_the_run_with_its_message(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config = {"scans": {"a": {"source": {"file": "a.npz", "format": "tike_npz"}}}}
    config["methods"] = {"rpie": {"initial_object": "uniform", "reconstruct": ["a"]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and then nothing")
    assert main(["run", "mine.yaml"]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("ptychoflow run: mine.yaml: ") and "a.npz" in last
    log = Path(last.partition("(log: ")[2].rstrip(")"))
    assert log == tmp_path / "mine.ptychoflow/results/logs/convert/a.log" and log.is_file()


def test_a_wrong_setting_is_refused_before_a_folder_is_made(measurement, tmp_path, capfd):
    assert main(["run", str(measurement), "--output", str(tmp_path / "a"), "--set", "refinement.epoch=3"]) == 2
    assert "did you mean epochs?" in capfd.readouterr().err
    assert not (tmp_path / "a").exists()


def test_without_snakemake_the_extra_is_named(monkeypatch, capfd):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["run", "a.h5"]) == 2
    assert capfd.readouterr().err.endswith("pip install 'ptychoflow[workflow]'\n")
