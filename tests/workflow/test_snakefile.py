"""The rules read well and fit the library."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ptychoflow.config import IN_ONE, READS, merge

from .conftest import TINY

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
    assert re.search("train --start results/networks/tiny.ckpt --config .* results/networks/adapted.ckpt >", words)
    assert workflow.would_run(methods=models)["train"] == 2


def test_a_sweep_makes_once_what_its_combinations_share(workflow):
    sweeps = {"s": {"method": ["tiny", "rpie"], "over": {"training.seed": [0, 1], "refinement.epochs": [2, 3]}}}
    counts = workflow.would_run(sweeps=sweeps)
    halves_of_flat = 4
    assert counts == {
        **{"simulate": 2, "pack": 4, "train": 2, "infer": 2, "stitch": 2, "refine": 6 + halves_of_flat},
        **{"evaluate": 6, "sweep": 1, "report": 1},
    }


RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
COMMAND = re.compile(r"^    shell:\n((?:        .*\n)+)", re.MULTILINE)


def test_every_value_in_a_command_is_quoted_and_paths_come_after_the_options():
    """A name in a config must not become a command, nor an option."""
    commands = [match[1] for path in RULES for match in COMMAND.finditer(path.read_text())]
    assert len(commands) == len(READS) + len(IN_ONE) + 2, "inspect, and export to a file"
    for command in commands:
        values = re.findall(r"\{([^}]*)\}", command)
        assert values and all(value.endswith(":q") for value in values), command
        options, _, paths = command.partition(" -- ")
        assert paths and not re.search(r"\{(input|output)\.", re.sub(r"--\w+ \{[^}]*\}", "", options)), command
        assert "--" not in paths.partition(">")[0]


HOSTILE = "$(touch PWNED)'; touch PWNED; `touch PWNED`"


def test_no_text_of_a_config_is_run_by_the_shell(workflow):
    """Each text is one word of the command that is printed, whatever it holds."""
    source = {"file": f"data/{HOSTILE}.cxi", "positions": f"{HOSTILE}.csv", "dataset": HOSTILE}
    scans = {"star": {"source": source | {"geometry": {"energy_ev": 8e3}}}}
    (workflow.folder / "data").mkdir()
    for name in ("file", "positions"):
        (workflow.folder / "data" / Path(source[name]).name).write_text("no scan")
    config = {
        "title": "--help",
        "scans": scans,
        "methods": {"m": {"initial_object": "uniform", "reconstruct": ["star"]}},
    }
    words = ["--cores", "1", "--printshellcmds", "--keep-going", "all", "results/inspections/star"]
    done = workflow.run(*words, config=config)
    assert done.returncode == 1 and f"data/{HOSTILE}.cxi is of unknown format" in done.stdout + done.stderr
    assert not list(workflow.folder.rglob("PWNED"))
    done = workflow.run("--dry-run", "--printshellcmds", config=config)
    report = next(line for line in (done.stdout + done.stderr).splitlines() if "ptychoflow report" in line)
    assert "--title=--help -- results/report.html" in report


def test_a_key_that_stands_twice_is_refused(workflow):
    """Snakemake would take the last one in silence."""
    path = workflow.folder / "twice.yaml"
    path.write_text(yaml.safe_dump(TINY) + "\nrefinement: {epochs: 3, epochs: 4}\n")
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", path, "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=workflow.folder)
    assert done.returncode == 1 and "stands twice (lines " in done.stdout + done.stderr


@pytest.mark.parametrize("profile", ["local", "slurm", "kubernetes"])
def test_every_profile_is_one_that_can_be_read(profile):
    settings = yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text())
    assert settings and all(isinstance(name, str) for name in settings)
    assert set(settings.get("groups", {})) <= set(READS)
