"""batch reconstructs a directory into a directory, tells what happens, and ends in order when it is told to handler."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from ptychoflow.api import ConfigManager, PtychoDataLoader, PtychoModel
from ptychoflow.cli.main import main
from ptychoflow.commands.export import export
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.readers.formats.ptychodus_product import read_product
from ptychoflow.runtime.cancellation import CancellationHandler, Cancelled, Events

QUICK = '{"refinement": {"epochs": 2, "convergence_tolerance": 0}}'


@pytest.fixture
def directory(tmp_path, tiny_dataset):
    export(tiny_dataset, tmp_path / "in")
    return tmp_path / "in"


def _events(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_directory_becomes_a_product_and_events_tell_how(directory, tmp_path, tiny_dataset, capsys):
    assert main(["run-directory", str(directory), str(tmp_path / "out"), "--events", "--config", QUICK]) == 0
    events = _events(capsys)
    assert [e["event"] for e in events] == ["started", "step", "step", "step", "epoch", "epoch", "finished"]
    assert events[0]["steps"] == ["convert", "pack", "refine"] and events[0]["patterns"] == [100, 32, 32]
    assert [e["epoch"] for e in events if e["event"] == "epoch"] == [1, 2] and events[5]["of"] == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["product.h5"]
    assert read_product(tmp_path / "out" / "product.h5").comments == "written by ptychoflow"
    found = read_reconstruction(tmp_path / "out" / "product.h5")
    np.testing.assert_allclose(found.positions, open_dataset(tiny_dataset).positions, rtol=1e-9)


@pytest.mark.parametrize("sees", ["backprojection", "object_estimate"])
def test_a_model_in_the_directory_is_what_it_starts_with(directory, tmp_path, tiny_dataset, capsys, sees):
    config = ConfigManager(network={"input": sees, "base_channels": 8, "depth": 2, "cascades": 1})
    PtychoModel.new(PtychoDataLoader(tiny_dataset, config)).save(directory / "model.ckpt")
    assert main(["run-directory", str(directory), str(tmp_path / "out"), "--events", "--config", QUICK]) == 0
    assert _events(capsys)[0]["steps"] == ["convert", "pack", "reconstruct", "refine"]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(directory, tmp_path, capsys):
    assert main(["run-directory", str(directory), str(tmp_path / "out"), "--dry-run", "--events"]) == 0
    (event,) = _events(capsys)
    assert event["event"] == "plan" and event["format"] == "ptychodus" and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{none}"], "not found"),
        (["{input}", "--model", "{none}"], "not found: check the path in --model"),
        (["{unknown}"], "unknown format"),
        (["{packed}"], "blobs is a packed dataset: use it with refine, or with infer or reconstruct and a network"),
    ],
)
def test_bad_input_ends_with_2_in_one_line_and_an_event(directory, tiny_dataset, tmp_path, capsys, words, message):
    (tmp_path / "unknown").mkdir()
    places = {"none": tmp_path / "none", "input": directory, "unknown": tmp_path / "unknown", "packed": tiny_dataset}
    words = [word.format(**places) for word in words]
    assert main(["run-directory", words[0], str(tmp_path / "out"), "--events", *words[1:]]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and json.loads(captured.out.splitlines()[-1])["event"] == "error"
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_told_at_once(directory, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert main(["run-directory", str(directory), str(tmp_path / "out"), "--events"]) == 2
    assert "out is a file: name a folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_sigterm_leaves_a_partial_product_that_says_so(directory, tmp_path):
    words = ["run-directory", directory, tmp_path / "out", "--events"]
    words += ["--config", '{"refinement": {"epochs": 100000, "convergence_tolerance": 0}}']
    command = [sys.executable, "-m", "ptychoflow", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        watchdog = threading.Timer(240, process.kill)
        watchdog.start()
        events = []
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "epoch" and events[-1]["epoch"] == 2:
                process.send_signal(signal.SIGTERM)
        code = process.wait()
        watchdog.cancel()
    assert code == 130
    names = [event["event"] for event in events]
    assert "cancelling" in names and names[-1] == "cancelled"
    product, found = read_product(tmp_path / "out" / "product.h5"), read_reconstruction(tmp_path / "out" / "product.h5")
    assert "partial: stopped after epoch" in product.comments and "of 100000" in found.metadata["partial"]
    assert events[-1]["partial"] == found.metadata["partial"] and len(product.losses) >= 2


def test_a_cancellation_before_the_first_epoch_ends_the_work_at_once():
    handler = CancellationHandler(Events(wanted=False))
    with pytest.raises(Cancelled):
        handler()
    handler = CancellationHandler(Events(wanted=False))
    handler.cooperative = True
    handler()
    assert handler.requested
    with pytest.raises(Cancelled):
        handler()  # whoever asks twice means it


def test_a_request_that_was_lost_on_its_way_is_met_at_the_next_step():
    handler = CancellationHandler(Events(wanted=False))
    handler.step("convert")
    with contextlib.suppress(Cancelled):
        handler()
    with pytest.raises(Cancelled):
        handler.step("pack")


@pytest.mark.parametrize("reading", ["read_measurement", "convert"])
def test_stopped_while_reading_it_ends_with_130_and_no_product(directory, tmp_path, monkeypatch, capsys, reading):
    def slow(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(f"ptychoflow.commands.run_directory.{reading}", slow)
    before = signal.getsignal(signal.SIGINT)
    assert main(["run-directory", str(directory), str(tmp_path / "out"), "--events"]) == 130
    assert _events(capsys)[-1] == {"event": "cancelled", "product": None} | {"time": pytest.approx(time.time(), abs=60)}
    assert not (tmp_path / "out").exists() and signal.getsignal(signal.SIGINT) == before
