"""The rules read well and fit the library."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ptychoflow.config import READS, merge

ROOT = Path(__file__).parents[2]


def test_the_linter_has_nothing_to_say(workflow):
    done = workflow.run("--lint")
    assert done.returncode == 0
    assert "good condition" in done.stdout + done.stderr, done.stdout + done.stderr


def test_the_rules_are_formatted():
    snakefmt = shutil.which("snakefmt", path=Path(sys.executable).parent)
    files = [ROOT / "Snakefile", ROOT / "workflow"]
    done = subprocess.run([snakefmt, "--check", *files], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("snakefile", ["Snakefile", "workflow/Snakefile"])
def test_default_target_is_the_report_from_the_root_and_where_the_catalogue_looks(tmp_path, snakefile):
    """Through `include` a workflow loses its default target; then nothing would be done, with exit code 0."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / snakefile, "--directory", tmp_path]
    command += ["--configfile", ROOT / "config/config.yaml", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    planned = done.stdout + done.stderr
    assert done.returncode == 0, planned
    assert re.search(r"^report +1$", planned, re.MULTILINE)


def test_every_step_is_a_rule_of_the_same_name(workflow):
    done = workflow.run("--list-rules")
    assert set(done.stdout.split()) >= {*READS, "all"}


@pytest.mark.parametrize(
    "settings", [{"inference": {"write_patches": False}}, {"network": {"input": "object_estimate"}}]
)
def test_without_patches_prediction_and_stitching_are_one_step(workflow, settings):
    steps = workflow.would_run(**settings)
    assert steps["reconstruct"] == 1 and not steps.keys() & {"infer", "stitch"}


@pytest.mark.parametrize("config", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_we_ship_makes_a_plan(workflow, config):
    done = workflow.run("--dry-run", "--quiet", config=yaml.safe_load(config.read_text()))
    assert done.returncode == 0, done.stderr


def test_the_paper_has_a_miniature_that_makes_the_same_figures(workflow):
    paper, small = (
        yaml.safe_load((ROOT / "config" / name).read_text()) for name in ("paper.yaml", "overlays/paper-miniature.yaml")
    )
    done = workflow.run("--dry-run", "--quiet", "rules", "--", "paper", config=merge(paper, small))
    assert done.returncode == 0, done.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE))
    assert int(counts["sweep"]) == len(paper["sweeps"]) == 4
    assert int(counts["train"]) == 14, "7 points of two seeds; what figures share is trained once"


def test_names_that_look_like_halves_or_folders_are_never_ambiguous(workflow):
    scans = {name: {"simulation": {}} for name in ("a", "even", "a-even", "a_odd", "aa")}
    models = {"even": {"initial_object": "uniform", "reconstruct": list(scans), "evaluation": {"split_half": True}}}
    assert workflow.run("--dry-run", config={"scans": scans, "methods": models}).returncode == 0


GPU = {"accelerator": "gpu"}


@pytest.mark.parametrize(
    ("runtime", "asked"),
    [
        ({}, {"train": "0", "infer": "0", "refine": "0"}),
        ({**GPU}, {"train": "1", "infer": "1", "refine": "1"}),
        ({**GPU, "devices": 2}, {"train": "2", "infer": "2", "refine": "2"}),
        ({**GPU, "devices": 2, "nodes": 3}, {"train": "6", "infer": "2", "refine": "2"}),
    ],
)
def test_steps_ask_for_the_gpus_that_the_config_gives_them(workflow, runtime, asked):
    done = workflow.run("--dry-run", "--cores", "2", runtime=runtime)
    found = re.findall(
        r"rule (train|infer|refine):.*?resources: [^\n]*? gpu=(\d+)", done.stdout + done.stderr, re.DOTALL
    )
    assert dict(found) == asked


def test_a_training_over_nodes_is_one_job_of_many_processes(workflow):
    done = workflow.run("--dry-run", "--cores", "2", runtime={**GPU, "devices": 2, "nodes": 3})
    assert "mpi=srun, nodes=3, tasks=6, tasks_per_gpu=0" in done.stdout + done.stderr


def test_an_adapted_network_waits_for_the_one_it_goes_on_with(workflow):
    models = {"adapted": {"finetune_from": "tiny", "train_on": ["star"], "reconstruct": ["star"]}}
    done = workflow.run("--dry-run", "--printshellcmds", methods=models)
    assert done.returncode == 0, done.stderr
    words = done.stdout + done.stderr
    assert "results/networks/adapted.ckpt --start results/networks/tiny.ckpt --config" in words
    assert workflow.would_run(methods=models)["train"] == 2


def test_a_sweep_makes_once_what_its_combinations_share(workflow):
    sweeps = {"s": {"method": ["tiny", "rpie"], "over": {"training.seed": [0, 1], "refinement.epochs": [2, 3]}}}
    counts = workflow.would_run(sweeps=sweeps)
    halves_of_flat = 4
    assert counts == {
        **{"simulate": 2, "pack": 4, "train": 2, "infer": 2, "stitch": 2, "refine": 6 + halves_of_flat},
        **{"evaluate": 6, "sweep": 1, "report": 1},
    }


@pytest.mark.parametrize("profile", ["local", "slurm", "kubernetes"])
def test_every_profile_is_one_that_can_be_read(profile):
    settings = yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text())
    assert settings and all(isinstance(name, str) for name in settings)
    assert set(settings.get("groups", {})) <= set(READS)
