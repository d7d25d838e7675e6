"""What other workflows and working directories can take from this one."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from .conftest import ROOT, TINY, Workflow
from .reruns import edges_of_rules

SCAN = {"scans": {"a": TINY["scans"]["leaves"]}, "methods": {"m": {"initial_object": "uniform", "reconstruct": ["a"]}}}
SCAN |= {"simulation": TINY["simulation"]}


def _cached(folder: Path) -> str:
    folder.mkdir()
    done = Workflow(folder).run("--cores", "1", "--cache", "--", "results/datasets/a", config=SCAN)
    assert done.returncode == 0, done.stderr
    assert (folder / "results/datasets/a/manifest.json").is_file()
    return done.stdout + done.stderr


def test_working_directories_share_scans_and_datasets_through_the_cache(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(tmp_path / "cache"))
    first, second = _cached(tmp_path / "one"), _cached(tmp_path / "two")
    assert first.count("Moving output file") == 2
    [of_this_code] = (tmp_path / "cache").iterdir()
    assert len(list(of_this_code.iterdir())) == 2
    assert "Moving output file" not in second and second.count("from cache") >= 2
    assert (tmp_path / "one/results/logs/simulate/a.log").read_text() != ""
    assert (tmp_path / "two/results/logs/simulate/a.log").read_text() == "", "nothing was simulated a second time"
    assert len(list((tmp_path / "one/results/benchmarks").rglob("a.tsv"))) == 2
    assert not list((tmp_path / "two").rglob("*.tsv")), "and no benchmark is written"


OTHER = """
module ptychoflow:
    snakefile: "{snakefile}"
    config: config["ptychography"]

use rule * from ptychoflow as ptychoflow_*

use rule simulate from ptychoflow as ptychoflow_simulate with:
    threads: 2

rule size:
    input: scan="results/scans/a.cxi"
    output: "size.txt"
    shell: "stat -c %s {{input.scan}} > {{output}}"
"""


def test_another_workflow_uses_this_one_as_a_module(tmp_path):
    (tmp_path / "Snakefile").write_text(OTHER.format(snakefile=ROOT / "Snakefile"))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"ptychography": SCAN}))
    command = [sys.executable, "-m", "snakemake", "--configfile", "config.yaml", "--cores", "1", "--", "size"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int((tmp_path / "size.txt").read_text()) > 10_000


def test_the_picture_in_the_docs_is_the_graph_of_the_rules():
    page = (ROOT / "docs/reference/workflow-rules.md").read_text()
    [drawn] = re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL)
    arrows = set(re.findall(r"(\w+) --> (\w+)", drawn))
    assert arrows == {(before, after) for before, after in edges_of_rules() if after != "all"}


def test_the_catalog_finds_what_it_looks_for():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["conda"] is True and usage["report"] is True
    assert (ROOT / "workflow/Snakefile").is_file() and (ROOT / "config/README.md").is_file()
