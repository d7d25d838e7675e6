"""The command line turns what a user can do wrong into one line and an exit code."""

import csv
import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from snakemake.benchmark import BenchmarkRecord

from ptychoflow import __version__
from ptychoflow.cli.commands_table import COMMANDS
from ptychoflow.cli.main import main
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.scan_cxi import write_scan

HEAVY = ("torch", "lightning", "numpy", "pydantic", "h5py", "yaml")


@pytest.fixture
def path(tmp_path, scan):
    write_scan(tmp_path / "sample.cxi", scan)
    return tmp_path / "sample.cxi"


def _run(*words) -> int:
    return main([str(word) for word in words])


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_command_reads_and_makes_and_gives_an_example(name, capsys):
    assert _run(*name.split(), "--help") == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "Reads" in page and "Makes" in page and f"Example: ptychoflow {name}" in page


def test_help_lists_every_command_in_plain_text(capsys):
    assert _run("--help") == 0
    page = capsys.readouterr().out
    listed = {line.split()[0] for line in page.splitlines() if line.startswith("  ") and line[2] != " "}
    assert {name.split()[0] for name in COMMANDS} <= listed
    assert page.isascii() and max(map(len, page.splitlines())) <= 100


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["refine", "--help"], ["train", "--help"], ["pak"]])
def test_help_imports_no_heavy_library(words):
    code = f"import sys; from ptychoflow.cli.main import main; main({words})\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_that_of_the_package(capsys):
    assert _run("--version") == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("words", [[], ["config"]])
def test_without_a_command_there_is_help_and_exit_code_2(words, capsys):
    assert _run(*words) == 2
    assert "usage: ptychoflow" in capsys.readouterr().out


# --- wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pak"], "ptychoflow: pak: no such command; did you mean pack? (see ptychoflow --help)"),
        (["zzz"], "zzz: no such command; known: run, watch, "),
        (
            ["config", "shw"],
            "ptychoflow config: shw: no such command; did you mean show? (see ptychoflow config --help)",
        ),
        (["--verson"], "--verson: no such option; did you mean --version?"),
        (
            ["pack", "a", "b", "--haf", "odd"],
            "--haf: no such option; did you mean --half? (see ptychoflow pack --help)",
        ),
        (["pack", "a", "b", "--haf=odd"], "--haf: no such option; did you mean --half?"),
        (["pack", "a"], "ptychoflow pack: OUTPUT: expected the dataset folder; got no values"),
        (["pack", "a", "b", "c"], "c: expected no further argument"),
        (["pack", "a", "b", "--half", "third"], "--half: expected even|odd, got 'third'"),
        (["evaluate", "a", "b"], "--refined: expected the refined reconstruction; got no values"),
        (
            ["evaluate", "a", "b", "--refined", "c", "--halves", "d"],
            "--halves: expected the refined reconstructions of",
        ),
        (["sweep", "a", "b", "--figure", "c", "--combinations", "{"], "--combinations: expected JSON, got '{'"),
    ],
)
def test_wrong_usage_ends_in_one_line_and_exit_code_2(words, message, capsys):
    assert _run(*words) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("ptychoflow") and error.count("\n") == 1 and error.isascii()


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json", "yaml"])
def test_settings_come_as_text_or_from_a_file(path, tmp_path, form):
    settings = '{"packing": {"crop": 16}}'
    if form != "text":
        (tmp_path / f"settings.{form}").write_text(settings if form == "json" else "packing: {crop: 16}  # px\n")
        settings = tmp_path / f"settings.{form}"
    assert _run("pack", path, tmp_path / "d", "--config", settings) == 0
    assert open_dataset(tmp_path / "d").size == 16


def test_set_goes_before_config_and_the_last_one_wins(path, tmp_path):
    words = ["--set", "packing.crop=20", "--config", '{"packing": {"crop": 30}}', "--set", "packing.crop=16"]
    assert _run("pack", path, tmp_path / "d", *words) == 0
    assert open_dataset(tmp_path / "d").size == 16


def test_without_settings_the_defaults_hold(path, tmp_path):
    assert _run("pack", path, tmp_path / "d", "--half", "even", "--config", "") == 0
    assert len(open_dataset(tmp_path / "d")) == 20


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--config", '{"packing": {"crp": 16}}', "packing.crp: unknown key; did you mean crop?"),
        ("--config", '{"packing": {"crop": "big"}}', "packing.crop: input should be a valid integer"),
        ("--config", '{"packing": {"crop": 128}}', "packing.crop is 128 px, but the patterns have 32 px"),
        ("--config", '{"training": {}}', "pack reads packing, not training"),
        ("--config", '{"crop": 16}', "pack reads packing, not crop: did you mean packing.crop?"),
        (
            "--config",
            '{"scans": {}}',
            "not scans: that is the config of a whole run, give the sections of this step alone",
        ),
        ("--config", '{"packing": ', "--config is neither JSON nor YAML"),
        ("--config", "nowhere.json", "--config: expected JSON text or a file, but nowhere.json was not found"),
        ("--set", "packing.crp=16", "packing.crp: unknown key; did you mean crop?"),
        ("--set", "packing.crop=big", "packing.crop: input should be a valid integer"),
        ("--set", "training.seed=1", "pack reads packing, not training"),
        ("--set", "runtime.devices=2", "pack reads packing, not runtime"),
        ("--set", "crop", "--set: expected SECTION.KEY=VALUE such as refinement.epochs=20, got 'crop'"),
        ("--set", "crop=16", "--set: expected SECTION.KEY=VALUE such as refinement.epochs=20, got 'crop=16'"),
        ("--set", "packing.crop=[", "--set packing.crop: '[' is not YAML"),
    ],
)
def test_wrong_settings_end_in_one_line_and_exit_code_2(path, tmp_path, capsys, option, value, message):
    assert _run("pack", path, tmp_path / "d", option, value) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("ptychoflow pack: ") and message in last
    assert not (tmp_path / "d").exists()


# --- running ---------------------------------------------------------------------------------------------------------


def test_a_command_imports_only_what_it_needs():
    """In the order in which more is needed, so that one process tells."""
    needless = {
        ("commands.compare", "cli.config_command"): ("torch", "scipy", "matplotlib"),
        ("commands.convert", "commands.pack", "commands.label"): ("torch", "matplotlib"),
        ("commands.sweep", "commands.report"): ("torch",),
        tuple(f"commands.{name}" for name in ("simulate", "refine", "stitch", "evaluate", "export")): (
            "lightning",
            "torch._dynamo",
            "mlflow",
        ),
        tuple(f"commands.{name}" for name in ("infer", "reconstruct", "run_directory", "train")): (
            "mlflow",
            "snakemake",
        ),
    }
    code = f"import sys; from ptychoflow.cli.main import load\nfor modules, names in {needless}.items():\n"
    code += " for module in modules:\n  load(module); print(module, *(name for name in names if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [module for modules in needless for module in modules]


def test_gpus_are_taken_before_pytorch_is_imported(tmp_path):
    """A driver that has seen all GPUs once no longer notices which of them are ours."""
    code = (
        "import sys; from ptychoflow.cli.main import main; from ptychoflow.runtime import gpu\n"
        "gpu.take_devices = lambda devices: print(devices, 'torch' in sys.modules)\n"
        'code = main(["refine", "no-dataset", "a.h5", "--set", "runtime.devices=2", "--runtime",'
        ' \'{"accelerator": "gpu"}\'])\n'
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["2", "False", "2", "True"]


def test_a_command_collects_garbage_but_not_among_what_it_imported():
    code = "import gc; from ptychoflow.cli.main import load; load('commands.pack')"
    code += "; print(gc.isenabled(), gc.get_freeze_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    enabled, frozen = done.stdout.split()
    assert enabled == "True" and int(frozen) > 10_000


def test_a_step_that_snakemake_cannot_time_writes_its_benchmark(path, tmp_path):
    table = tmp_path / "benchmarks" / "pack" / "d.tsv"
    began = time.time() - psutil.Process().create_time()
    assert _run("pack", path, tmp_path / "d", "--benchmark", table) == 0
    row = next(csv.DictReader(table.open(), delimiter="\t"))
    assert set(row) <= set(BenchmarkRecord.get_header())
    assert began <= float(row["s"]) <= time.time() - psutil.Process().create_time()
    assert 0 < float(row["cpu_time"]) <= time.process_time() + 0.01 and float(row["max_rss"]) > 20
    assert _run("pack", tmp_path / "none.cxi", tmp_path / "e", "--benchmark", table.with_name("e.tsv")) == 2
    assert not table.with_name("e.tsv").exists(), "a step that failed has no benchmark"


def test_a_missing_scan_ends_in_one_line_and_exit_code_2(tmp_path, capsys):
    assert _run("pack", tmp_path / "a.cxi", tmp_path / "d") == 2
    assert capsys.readouterr().err.strip() == f"ptychoflow pack: scan not found: {tmp_path / 'a.cxi'}"


WRITERS = {
    "stitch": ["no-dataset", "no-patches"],
    "reconstruct": ["no-model", "no-dataset"],
    "refine": ["no-dataset"],
    "train": ["no-dataset"],
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, capsys, name):
    """A dataset where the output should stand would be noticed after hours, a scan or a model would be gone."""
    ending = "ckpt" if name == "train" else "h5"
    (tmp_path / "star.cxi").write_text("a scan")
    assert main([name, *WRITERS[name], str(tmp_path / "star.cxi")]) == 2
    assert f"the output is called star.cxi, expected a name that ends in .{ending}" in capsys.readouterr().err
    (tmp_path / f"star.{ending}").mkdir()
    assert main([name, *WRITERS[name], str(tmp_path / f"star.{ending}")]) == 2
    assert "is a folder: name a file" in capsys.readouterr().err
    assert main([name, *WRITERS[name], str(tmp_path / "star.cxi" / f"a.{ending}")]) == 2
    assert "cannot be written (" in capsys.readouterr().err
    assert (tmp_path / "star.cxi").read_text() == "a scan" and len(list(tmp_path.iterdir())) == 2


def test_a_reader_that_closes_the_pipe_gets_no_error():
    command = [sys.executable, "-m", "ptychoflow", "config", "mapping"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 141


def test_an_interrupt_ends_in_exit_code_130(path, tmp_path, monkeypatch, capsys):
    def interrupted(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("ptychoflow.commands.pack.pack", interrupted)
    assert _run("pack", path, tmp_path / "d") == 130
    assert "interrupted" in capsys.readouterr().err


def test_sigterm_ends_in_exit_code_143(path, tmp_path, monkeypatch):
    monkeypatch.setattr("ptychoflow.commands.pack.pack", lambda *_args, **_settings: psutil.Process().terminate())
    with pytest.raises(SystemExit) as caught:
        _run("pack", path, tmp_path / "d")
    assert caught.value.code == 143


@pytest.mark.parametrize(("rank", "lines"), [("0", 2), ("1", 0)])
def test_only_the_first_rank_logs(path, tmp_path, monkeypatch, rank, lines):
    command = [sys.executable, "-m", "ptychoflow", "pack", str(path), str(tmp_path / "d")]
    monkeypatch.setenv("LOCAL_RANK", rank)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len([line for line in done.stderr.splitlines() if " I " in line]) == lines


def test_a_fault_of_ours_keeps_its_traceback(path, tmp_path, monkeypatch):
    def faulty(*_args, **_settings):
        raise KeyError("a bug")

    monkeypatch.setattr("ptychoflow.commands.pack.pack", faulty)
    with pytest.raises(KeyError, match="a bug"):
        _run("pack", path, tmp_path / "d")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory (no size given): close other programs"),
        (RuntimeError("CUDA error:\nan illegal access"), "CUDA error: an illegal access (RuntimeError; --traceback"),
        (RecursionError("maximum recursion depth"), "nested too deeply"),
        (OSError(), "OSError"),
    ],
)
def test_errors_of_libraries_are_one_line(path, tmp_path, monkeypatch, capsys, error, line):
    def faulty(*_args, **_settings):
        raise error

    monkeypatch.setattr("ptychoflow.commands.pack.pack", faulty)
    assert _run("pack", path, tmp_path / "d") == 2
    assert f"ptychoflow pack: {line}" in capsys.readouterr().err.replace("a file or a setting is ", "")
    monkeypatch.setenv("PTYCHOFLOW_TRACEBACK", "1")
    with pytest.raises(type(error)):
        _run("pack", path, tmp_path / "d")


@pytest.mark.parametrize("place", ["pipe", "device"])
def test_pipes_and_devices_are_refused(tmp_path, capsys, place):
    if place == "pipe":
        os.mkfifo(tmp_path / "a")
    else:
        (tmp_path / "a").symlink_to("/dev/zero")
    assert _run("pack", tmp_path / "a", tmp_path / "d") == 2
    assert f"a is a {'named ' if place == 'pipe' else ''}{place}, expected a file" in capsys.readouterr().err


def test_traceback_shows_where_a_users_error_arose(tmp_path):
    with pytest.raises(FileNotFoundError):
        _run("pack", tmp_path / "a.cxi", tmp_path / "d", "--traceback")


def test_dataset_verify_notices_a_changed_dataset(tmp_path, scan, capsys):
    write_dataset(tmp_path / "d", scan)
    assert _run("dataset", "verify", tmp_path / "d") == 0
    np.save(tmp_path / "d" / "positions.npy", scan.positions + 1)
    assert _run("dataset", "verify", tmp_path / "d") == 2
    assert "positions.npy changed since packing" in capsys.readouterr().err
