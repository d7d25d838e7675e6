"""The command line teaches, and turns what a user can do wrong into one line and an exit code."""

import csv
import json
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from snakemake.benchmark import BenchmarkRecord

from ptychoflow.cli.main import SETTINGS, VERBS, main
from ptychoflow.config import IN_ONE, READS
from ptychoflow.config.root import BATCH
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.scan_cxi import write_scan


@pytest.fixture
def path(tmp_path, scan):
    write_scan(tmp_path / "sample.cxi", scan)
    return tmp_path / "sample.cxi"


def _run(*words) -> int:
    return main([str(word) for word in words])


def test_every_step_of_the_workflow_is_a_verb():
    assert set(READS) <= {name for name, verb in VERBS.items() if verb.runs}


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_what_a_verb_reads_makes_and_gives_an_example(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        _run(verb, "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert "Reads" in said and "Makes" in said and f"example: ptychoflow {verb}" in said


def test_help_names_the_sections_that_a_verb_reads():
    read = {verb: sections for verb, sections in (READS | IN_ONE).items() if sections}
    assert read | {"inspect": READS["convert"], "batch": BATCH} == SETTINGS


def test_help_imports_no_heavy_library():
    code = "import sys; from ptychoflow.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'lightning', 'numpy', 'pydantic', 'h5py') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_verb_imports_only_what_it_needs():
    """In the order in which more is needed, so that one process tells."""
    needless = {
        ("commands.convert", "commands.pack", "commands.label", "commands.compare", "cli.config_command"): (
            "torch",
            "scipy",
            "matplotlib",
        ),
        ("commands.sweep", "commands.report"): ("torch",),
        tuple(f"commands.{verb}" for verb in ("simulate", "refine", "stitch", "evaluate", "export")): (
            "lightning",
            "torch._dynamo",
            "mlflow",
        ),
        tuple(f"commands.{verb}" for verb in ("infer", "reconstruct", "run_directory", "train")): (
            "mlflow",
            "snakemake",
        ),
    }
    code = f"import sys; from ptychoflow.cli.main import _module\nfor verbs, names in {needless}.items():\n"
    code += " for verb in verbs:\n  _module(verb); print(verb, *(name for name in names if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [verb for verbs in needless for verb in verbs]


def test_a_verb_collects_garbage_but_not_among_what_it_imported():
    code = "import gc; from ptychoflow.cli.main import _module; _module('commands.pack')"
    code += "; print(gc.isenabled(), gc.get_freeze_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    enabled, frozen = done.stdout.split()
    assert enabled == "True" and int(frozen) > 10_000


@pytest.mark.parametrize("form", ["text", "json", "yaml"])
def test_settings_come_as_text_or_from_a_file(path, tmp_path, form):
    settings = '{"packing": {"crop": 16}}'
    if form != "text":
        (tmp_path / f"settings.{form}").write_text(settings if form == "json" else "packing: {crop: 16}  # px\n")
        settings = tmp_path / f"settings.{form}"
    assert _run("pack", path, tmp_path / "d", "--config", settings) == 0
    assert open_dataset(tmp_path / "d").size == 16


def test_a_step_that_snakemake_cannot_time_says_what_it_took(path, tmp_path):
    told = tmp_path / "benchmarks" / "pack" / "d.tsv"
    began = time.time() - psutil.Process().create_time()
    assert _run("pack", path, tmp_path / "d", "--benchmark", told) == 0
    row = next(csv.DictReader(told.open(), delimiter="\t"))
    assert set(row) <= set(BenchmarkRecord.get_header())
    assert began <= float(row["s"]) <= time.time() - psutil.Process().create_time()
    assert 0 < float(row["cpu_time"]) <= time.process_time() + 0.01 and float(row["max_rss"]) > 20
    assert _run("pack", tmp_path / "none.cxi", tmp_path / "e", "--benchmark", told.with_name("e.tsv")) == 2
    assert not told.with_name("e.tsv").exists(), "a step that failed took nothing"


def test_without_settings_the_defaults_hold(path, tmp_path):
    assert _run("pack", path, tmp_path / "d", "--half", "even", "--config", "") == 0
    assert len(open_dataset(tmp_path / "d")) == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"packing": {"crp": 16}}', "packing.crp: unknown key; did you mean crop?"),
        ('{"packing": {"crop": "big"}}', "packing.crop: input should be a valid integer"),
        ('{"packing": {"crop": 128}}', "packing.crop is 128 px but the patterns are 32 px"),
        ('{"training": {}}', "pack reads packing, not training"),
        ('{"crop": 16}', "pack reads packing, not crop: it belongs into packing"),
        ('{"scans": {}}', "not scans: that is the config of a whole run, give the sections of this step alone"),
        ('{"packing": ', "--config is neither JSON nor YAML"),
        ("nowhere.json", "--config is neither JSON text nor a file: there is no nowhere.json"),
    ],
)
def test_wrong_settings_end_in_one_line_and_exit_code_2(path, tmp_path, capsys, settings, message):
    assert _run("pack", path, tmp_path / "d", "--config", settings) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("ptychoflow pack: ") and message in last
    assert not (tmp_path / "d").exists()


def test_a_missing_scan_ends_in_one_line_and_exit_code_2(tmp_path, capsys):
    assert _run("pack", tmp_path / "a.cxi", tmp_path / "d") == 2
    assert capsys.readouterr().err.strip() == f"ptychoflow pack: there is no scan {tmp_path / 'a.cxi'}"


def test_an_unknown_verb_or_option_ends_in_exit_code_2(capsys):
    for words in (["pak"], ["pack", "a", "b", "--haf", "odd"], []):
        with pytest.raises(SystemExit) as caught:
            _run(*words)
        assert caught.value.code == 2


WRITERS = {
    "stitch": ["no-dataset", "no-patches"],
    "reconstruct": ["no-model", "no-dataset"],
    "refine": ["no-dataset"],
    "train": ["no-dataset"],
}


@pytest.mark.parametrize("verb", WRITERS)
def test_an_output_that_cannot_be_is_told_before_anything_is_read(tmp_path, capsys, verb):
    """A dataset where the output should stand would be told after hours, a scan or a model would be gone."""
    ending = "ckpt" if verb == "train" else "h5"
    (tmp_path / "star.cxi").write_text("a scan")
    assert main([verb, *WRITERS[verb], str(tmp_path / "star.cxi")]) == 2
    assert f"the output is called star.cxi, expected a name that ends in .{ending}" in capsys.readouterr().err
    (tmp_path / f"star.{ending}").mkdir()
    assert main([verb, *WRITERS[verb], str(tmp_path / f"star.{ending}")]) == 2
    assert "is a folder: name a file" in capsys.readouterr().err
    assert main([verb, *WRITERS[verb], str(tmp_path / "star.cxi" / f"a.{ending}")]) == 2
    assert "cannot be written (" in capsys.readouterr().err
    assert (tmp_path / "star.cxi").read_text() == "a scan" and len(list(tmp_path.iterdir())) == 2


def test_who_reads_only_the_head_gets_no_error():
    command = [sys.executable, "-m", "ptychoflow", "config", "names"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 141


def test_an_interrupt_ends_in_exit_code_130(path, tmp_path, monkeypatch, capsys):
    def interrupted(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("ptychoflow.commands.pack.pack", interrupted)
    assert _run("pack", path, tmp_path / "d") == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(path, tmp_path, monkeypatch):
    def faulty(*_args, **_settings):
        raise RuntimeError("a bug")

    monkeypatch.setattr("ptychoflow.commands.pack.pack", faulty)
    with pytest.raises(RuntimeError, match="a bug"):
        _run("pack", path, tmp_path / "d")


def test_traceback_shows_where_a_users_error_arose(tmp_path):
    with pytest.raises(FileNotFoundError):
        _run("pack", tmp_path / "a.cxi", tmp_path / "d", "--traceback")


def test_verify_tells_a_whole_dataset_from_a_changed_one(tmp_path, scan, capsys):
    write_dataset(tmp_path / "d", scan)
    assert _run("verify", tmp_path / "d") == 0
    np.save(tmp_path / "d" / "positions.npy", scan.positions + 1)
    assert _run("verify", tmp_path / "d") == 2
    assert "positions.npy changed since packing" in capsys.readouterr().err


def test_settings_are_described_in_both_forms(tmp_path):
    assert _run("settings", tmp_path / "a.json") == _run("settings", tmp_path / "a.md") == 0
    assert "properties" in json.loads((tmp_path / "a.json").read_text())
    assert "| `crop` |" in (tmp_path / "a.md").read_text()
