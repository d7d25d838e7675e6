"""Killed at random moments the workflow ends with the same results: twice here, 20 times with `make test-kill`."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import psutil
import torch
import yaml

from .conftest import ROOT, TINY

KILLS = int(os.environ.get("PTYCHOFLOW_KILLS", "2"))
CONFIG = TINY | {
    "methods": {"tiny": {"train_on": ["leaves"], "reconstruct": ["star"]}},
    "training": {"stages": [{"epochs": 6}], "batch_size": 8, "groups_per_epoch": 24},
}


def _start(folder: Path, *words: str) -> subprocess.Popen:
    """The workflow as a group of processes of its own."""
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", folder / "config.yaml", "--cores", "2", "--rerun-incomplete", *words]
    with open(folder / "snakemake.log", "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)


def _finish(folder: Path) -> None:
    assert _start(folder).wait(600) == 0, (folder / "snakemake.log").read_text()[-3000:]


def _everything(run: subprocess.Popen) -> None:
    os.killpg(run.pid, signal.SIGKILL)


def _snakemake_alone(run: subprocess.Popen) -> None:
    """The jobs go on as orphans, beside those of the next run."""
    run.kill()


def _one_job(run: subprocess.Popen) -> None:
    jobs = [child for child in psutil.Process(run.pid).children(recursive=True) if "ptychoflow" in child.cmdline()]
    for job in jobs[:1] or [run]:
        job.kill()


def _politely(run: subprocess.Popen) -> None:
    os.killpg(run.pid, signal.SIGTERM)


WAYS = (_everything, _one_job, _snakemake_alone, _politely)


def _products(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every product, without times and records of what made it."""
    results = folder / "results"
    for path in sorted([*results.glob("datasets/*/*.npy"), *results.glob("patches/*/*/*.npy")]):
        yield str(path.relative_to(results)), path.read_bytes()
    for path in sorted(results.glob("re*/*/*.h5")):
        with h5py.File(path) as file:
            yield str(path.relative_to(results)), np.asarray(file["object"]).tobytes()
    for path in sorted(results.glob("networks/*.ckpt")):
        weights = torch.load(path, weights_only=True)["weights"]
        content = io.BytesIO()
        for value in weights.values():
            content.write(value.numpy().tobytes())
        yield str(path.relative_to(results)), content.getvalue()


def test_killed_at_random_moments_it_ends_with_the_same_results(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    began = time.monotonic()
    _finish(whole)
    lasts = time.monotonic() - began
    expected = dict(_products(whole))
    assert len(expected) > 10
    rng = np.random.default_rng()
    runs: list[subprocess.Popen] = []
    try:
        for number in range(KILLS):
            run = _start(killed)
            runs.append(run)
            moment = rng.uniform(0.1, 0.8) * lasts
            print(f"kill {number + 1}: {WAYS[number % len(WAYS)].__name__} after {moment:.1f} of {lasts:.1f} s")
            try:
                run.wait(moment)
                assert run.returncode == 0
                (killed / "results").rename(killed / f"finished{number}")  # it was done already: begin anew
                continue
            except subprocess.TimeoutExpired:
                WAYS[number % len(WAYS)](run)
            run.wait(120)
            assert _start(killed, "--unlock").wait(60) == 0
            for name, content in _products(killed):
                assert content == expected[name], f"{name} looks whole and is not, after {moment} s"
        _finish(killed)
    finally:
        for run in runs:
            _end(run)
    assert dict(_products(killed)) == expected
    left = [path for path in (killed / "results").rglob(".*") if path.name != ".snakemake_timestamp"]
    assert not left, "half-made things are left behind"
    assert not list((killed / "results/checkpoints").rglob("*.ckpt"))


def _end(run: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
