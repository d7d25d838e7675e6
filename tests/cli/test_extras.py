"""The core works without lightning, mlflow and snakemake; what needs them names the extra that brings them."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ptychoflow.runtime.extras import EXTRAS, missing_extra

ROOT = Path(__file__).parents[2]
CORE_ONLY = """
import json, logging, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lightning", "pytorch_lightning", "mlflow", "snakemake"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from ptychoflow.cli.main import main

for words in json.loads(sys.argv[1]):
    print("#", *words[:2], flush=True, file=sys.stderr)
    print(words[0], main(words), flush=True)
"""
"""Runs commands one after the other where those packages cannot be imported; prints the exit code of each."""
SCAN = {
    "object": {"name": "siemens_star", "size": 96},
    "probe": {"diameter_px": 12, "defocus": 1.0},
    "trajectory": {"step_px": 6},
}


def _run_core_only(folder: Path, *commands: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CORE_ONLY, json.dumps(commands)], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the commands of the core make of a simulated scan, and their exit codes in ``done.txt``."""
    folder = tmp_path_factory.mktemp("core")
    simulation = {"simulation": {"size": 32} | SCAN}
    done = _run_core_only(
        folder,
        ["simulate", "made.cxi", "--config", json.dumps(simulation)],
        ["convert", "star.cxi", "--config", json.dumps({"source": {"file": str(folder / "made.cxi")}})],
        ["inspect", str(folder / "made.cxi"), "--output", "inspected"],
        ["pack", "star.cxi", "star"],
        ["refine", "star", "refined.h5", "--config", json.dumps({"refinement": {"epochs": 2}})],
        ["evaluate", "star", "judged.json", "--refined", "refined.h5"],
        ["export", "refined.h5", "refined.tif"],
        ["export", "refined.h5", "standard", "--scan", "star"],
        ["report", "report.html", "judged.json", "--csv", "metrics.csv"],
    )
    (folder / "done.txt").write_text(done.stdout)
    (folder / "log.txt").write_text(done.stderr)
    return folder


def test_core_converts_packs_refines_evaluates_exports_and_reports(folder):
    codes = dict(line.split() for line in (folder / "done.txt").read_text().splitlines() if line[-2:] == " 0")
    steps = {"simulate", "convert", "inspect", "pack", "refine", "evaluate", "export", "report"}
    assert codes.keys() == steps, (folder / "log.txt").read_text()
    products = ["star.cxi", "inspected/config.yaml", "star/manifest.json", "refined.h5", "judged.json", "refined.tif"]
    assert all((folder / name).is_file() for name in [*products, "standard/diffraction.h5", "report.html"])


@pytest.mark.parametrize(
    "command",
    [["train", "star", "pinn.ckpt"], ["infer", "pinn.ckpt", "star", "p"], ["reconstruct", "pinn.ckpt", "star", "r.h5"]],
    ids=lambda command: command[0],
)
def test_command_of_a_network_names_its_extra_in_one_line(folder, command):
    done = _run_core_only(folder, command)
    assert done.stdout.split() == [command[0], "2"]
    [_, line] = done.stderr.splitlines()
    assert re.fullmatch(rf"ptychoflow {command[0]}: .*lightning.*: pip install 'ptychoflow\[train\]'", line)


def test_refinement_on_several_devices_names_its_extra(folder):
    done = _run_core_only(folder, ["refine", "star", "two.h5", "--runtime", '{"devices": 2}'])
    assert done.stdout.split() == ["refine", "2"]
    assert done.stderr.rstrip().endswith("pip install 'ptychoflow[train]'")


def test_directory_is_reconstructed_without_a_network(folder):
    done = _run_core_only(
        folder, ["run-directory", "standard", "reconstructed", "--config", '{"refinement": {"epochs": 1}}']
    )
    assert done.stdout.split() == ["run-directory", "0"], done.stderr
    assert (folder / "reconstructed/product.h5").is_file()


API_ONLY = """
import sys
sys.argv = ["", "[]"]
exec(sys.stdin.read())
from ptychoflow.api import PtychoDataLoader, Trainer

for use in (Trainer(sys.path[-1] + "/star").train, PtychoDataLoader(sys.path[-1] + "/star").module):
    try:
        use()
    except ModuleNotFoundError as error:
        print(error)
"""


def test_api_names_the_extra_of_a_missing_package(folder):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(folder)!r})" + API_ONLY],
        input=CORE_ONLY,
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(r"(lightning .*pip install 'ptychoflow\[train\]'\n){2}", done.stdout), done.stderr


def test_extras_bring_the_packages_that_errors_name():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(package in extras[extra] for package, extra in EXTRAS.items())
    assert "ptychoflow[train,workflow]" in extras["all"]


def test_other_missing_module_is_a_defect_not_an_extra():
    assert missing_extra(ModuleNotFoundError("No module named 'scipy'", name="scipy")) is None
    assert missing_extra(ModuleNotFoundError("No module named 'x'")) is None
