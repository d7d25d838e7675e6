"""The miniature on a real SLURM, started on this machine: `make test-slurm`."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from ptychoflow.config import merge

ROOT = Path(__file__).parents[2]
TINY = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
TINY["training"] |= {"groups_per_epoch": 16}  # a step an epoch
SLURM = Path(__file__).parent / "slurm"
PROFILE = ["--workflow-profile", ROOT / "profiles/slurm"]
# no accounting, so `squeue` tells how jobs are; one core for each step, because the machine has few
HERE = ["--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"]
HERE += ["--seconds-between-status-checks", "2", "--slurm-keep-successful-logs"]
HERE += ["--default-resources", "slurm_partition=cpu", "--set-threads", "train=1", "infer=1", "refine=1"]

pytestmark = pytest.mark.skipif(os.environ.get("PTYCHOFLOW_SLURM") != "1", reason="make test-slurm runs it")


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory) -> Iterator[None]:
    """SLURM with two nodes and two counted GPUs, stopped in the end."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([SLURM, "start", folder], check=True)
    yield
    subprocess.run([SLURM, "stop", folder], check=True)
    assert not list(Path("/etc/slurm").glob("slurm.conf")), "the configuration is still in place"
    assert not subprocess.run(["pgrep", "-x", "slurm(ctl)?d"], capture_output=True).stdout, "daemons still run"
    assert not subprocess.run([SLURM, "orphans"], capture_output=True).stdout, "jobs still run"


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """What starts the workflow in a folder; a run that a failed test leaves behind is ended."""
    runs = []

    def start(folder: Path, *words: str, **changes: dict) -> subprocess.Popen:
        runs.append(_start(folder, *words, **changes))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()


def _start(folder: Path, *words: str, **changes: dict) -> subprocess.Popen:
    """Start the workflow in a folder, with the shipped profile."""
    (folder / "config.yaml").write_text(yaml.safe_dump(merge(deepcopy(TINY), changes)))
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, *words]
    command += ["--nocolor", "--configfile", folder / "config.yaml", *PROFILE, *HERE]
    with open(folder / "snakemake.log", "w") as log:
        # elsewhere the first node's name leads to it; here both are this machine
        environment = os.environ | {"MASTER_ADDR": "127.0.0.1"}
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environment)


def _finish(process: subprocess.Popen, folder: Path, seconds: float = 1800) -> str:
    """Return the log of a workflow that must succeed."""
    status = process.wait(seconds)
    log = (folder / "snakemake.log").read_text()
    assert status == 0, log[-3000:]
    return log


def _jobs() -> list[dict[str, str]]:
    """What SLURM knows of every job, the finished ones too."""
    lines = subprocess.run(["scontrol", "-o", "-d", "show", "job"], capture_output=True, text=True).stdout.splitlines()
    return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines if line.startswith("JobId=")]


def _job(rule: str, state: str = "RUNNING") -> dict[str, str] | None:
    return next((job for job in _jobs() if rule in job.get("Comment", "") and job["JobState"] == state), None)


def _wait_for(what: Callable, seconds: float = 400):
    """What a question answers, once the answer is something."""
    ends = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < ends, f"waited {seconds} s for {what}"
        time.sleep(0.3)
    return found


def test_every_step_is_a_job_and_carries_its_gpus(start, tmp_path):
    log = _finish(start(tmp_path, "--set-resources", "train:gpu=1", "infer:gpu=1"), tmp_path)
    assert (tmp_path / "results/report.html").is_file()
    jobs = {job["JobId"]: job for job in _jobs()}
    submitted = re.findall(r"SLURM jobid (\d+) \(log: \S+/slurm_logs/(\w+)", log)
    rules = {name: jobs[number] for number, name in submitted}
    assert all(job["JobState"] == "COMPLETED" for job in rules.values())
    assert {"rule_train", "rule_infer", "rule_stitch", "rule_refine", "rule_evaluate", "rule_report"} <= set(rules)
    assert any(name.startswith("group_scan") for name in rules), "short steps share a job"
    for name, job in rules.items():
        assert (job.get("TresPerJob") == "gres:gpu:1") == (name in ("rule_train", "rule_infer")), name
    report = tmp_path / "results"
    shutil.rmtree(report)


def test_a_training_that_is_cancelled_loses_its_node_and_runs_out_of_time_ends_whole(start, tmp_path):
    epochs = 1000  # some minutes: longer than the time limit below, on a fast and quiet machine too
    process = start(tmp_path, "results/networks/tiny.json", training={"stages": [{"epochs": epochs}]})
    log, checkpoints = tmp_path / "results/logs/train/tiny.log", tmp_path / "results/checkpoints"

    def saved_since(moment: float) -> bool:
        return any(path.stat().st_mtime > moment for path in checkpoints.glob("*/*/latest.ckpt"))

    def resumed() -> bool:
        return log.is_file() and "resuming from" in log.read_text(errors="replace")

    first = _wait_for(lambda: _job("rule_train"))
    _wait_for(lambda: saved_since(0))
    subprocess.run(["scancel", first["JobId"]], check=True)

    second = _wait_for(lambda: (job := _job("rule_train")) and job["JobId"] != first["JobId"] and job)
    _wait_for(resumed)
    moment = time.time()
    _wait_for(lambda: saved_since(moment))
    subprocess.run(["scontrol", "update", f"nodename={second['NodeList']}", "state=down", "reason=test"], check=True)
    log.unlink(missing_ok=True)
    again = _wait_for(lambda: (job := _job("rule_train")) and job["Restarts"] == "1" and job)
    assert again["JobId"] == second["JobId"], "SLURM itself started it again"
    _wait_for(resumed)

    subprocess.run(["scontrol", "update", f"jobid={again['JobId']}", "timelimit=1"], check=True)
    third = _wait_for(lambda: (job := _job("rule_train")) and job["JobId"] != second["JobId"] and job)
    assert int(third["TimeLimit"].split(":")[0]) >= int(first["TimeLimit"].split(":")[0]), "more time than at first"
    _finish(process, tmp_path)
    assert resumed()
    record = json.loads((tmp_path / "results/networks/tiny.json").read_text())
    assert record["epochs"] == epochs
    assert record["curves"]["epoch"][-1] == pytest.approx(epochs, abs=1)


def test_two_processes_on_two_nodes_train_together(start, tmp_path):
    _finish(start(tmp_path, "results/networks/tiny.json", runtime={"accelerator": "cpu", "nodes": 2}), tmp_path)
    [job] = [job for job in _jobs() if "rule_train" in job.get("Comment", "") and job["NumNodes"] == "2"]
    assert job["JobState"] == "COMPLETED"
    assert json.loads((tmp_path / "results/networks/tiny.json").read_text())["processes"] == 2
