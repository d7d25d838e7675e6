"""The paper's four figures, from measurements of a few seconds: what Snakemake would run, run in one process."""

import csv
import json
import re
import shlex
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ptychoflow.cli.main import main
from ptychoflow.config import merge

from .conftest import ROOT, Workflow

pytestmark = pytest.mark.xdist_group("paper")

SEEDS = "training.seed"


def _smaller(config: dict) -> dict:
    """The miniature with two values of each setting, two seeds of the losses, and networks alone."""
    config = deepcopy(config)
    config["methods"]["pinn"]["train_on"] = ["leaves1"]
    for name, sweep in config["sweeps"].items():
        sweep["method"] = "pinn"
        sweep["over"] = {
            key: dict(list(values.items())[:2]) if isinstance(values, dict) else values[:2]
            for key, values in sweep["over"].items()
            if key != SEEDS or name == "loss"
        }
    return config


def _commands(dry_run: str) -> list[list[str]]:
    """The commands and their arguments that a dry run with ``--printshellcmds`` shows, in the order of the jobs."""
    found = re.findall(r"python -m ptychoflow (.*) > \S+ 2>&1", dry_run)
    known = {"$PTYCHOFLOW_RUNTIME": '{"accelerator": "cpu"}', "$PTYCHOFLOW_TRACKING": '{"uri": null}'}
    return [[known.get(word, word) for word in shlex.split(line)] for line in found]


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Path:
    """Results of the whole paper, in small."""
    folder = tmp_path_factory.mktemp("paper")
    whole, miniature = (
        yaml.safe_load((ROOT / "config" / name).read_text()) for name in ("paper.yaml", "overlays/paper-miniature.yaml")
    )
    config = _smaller(merge(whole, miniature))
    planned = Workflow(folder).run("--dry-run", "--printshellcmds", config=config)
    assert planned.returncode == 0, planned.stderr
    commands = _commands(planned.stdout + planned.stderr)
    assert [words[0] for words in commands].count("train") == 7 and commands[-1][0] == "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in commands:
            assert main(words) == 0, words
    return folder / "results"


def _table(path: Path) -> list[dict]:
    return list(csv.DictReader(path.open(newline="")))


def test_each_figure_has_its_points(paper):
    settings = {
        "dose": ("simulation.photons_per_pattern", ["1000", "1e5"]),
        "data_efficiency": ("train_on", ["1", "2"]),
        "overlap": ("simulation.trajectory.overlap_percent", ["40", "60"]),
        "loss": ("training.stages", ["physics", "supervised"]),
    }
    for name, (setting, values) in settings.items():
        table = _table(paper / "sweeps" / f"{name}.csv")
        assert [(row[setting], row["stage"]) for row in table] == [
            (value, stage) for value in values for stage in ("network", "refined")
        ]
        with Image.open(paper / "sweeps" / f"{name}.png") as figure:
            assert figure.width > 1500 and len(figure.convert("RGB").getcolors(100_000)) > 100


def test_seeds_come_to_a_mean_and_a_standard_deviation(paper):
    """Of the network's results, which are those of the single trainings."""
    [row] = [
        each
        for each in _table(paper / "sweeps" / "loss.csv")
        if (each["training.stages"], each["stage"]) == ("supervised", "network")
    ]
    singles = []
    for method in ("pinn", "pinn-seed1"):
        metrics = json.loads((paper / "metrics" / method / "star.json").read_text())
        singles.append(metrics["stages"]["network"]["against_truth"]["phase_psnr_truth_range"])
    assert row["seeds"] == "2" and float(row["phase_psnr"]) == pytest.approx(sum(singles) / 2)
    assert (
        float(row["phase_psnr_std"]) == pytest.approx(abs(singles[0] - singles[1]) / 2**0.5)
        and singles[0] != singles[1]
    )


def test_more_photons_leave_less_of_the_misfit(paper):
    dim, bright = (row for row in _table(paper / "sweeps" / "dose.csv") if row["stage"] == "refined")
    assert float(bright["r_factor"]) < 0.5 * float(dim["r_factor"])


def test_the_report_shows_every_figure(paper):
    page = (paper / "report.html").read_text()
    section = page.partition('id="sweeps"')[2].partition("</section>")[0]
    for name in ("dose", "data efficiency", "overlap", "loss"):
        assert f"<h3>{name}</h3>" in section
    assert section.count("<svg") == 4 * 3 and "overlap (%)" in section
