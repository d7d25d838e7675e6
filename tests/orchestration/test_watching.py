"""A watched folder: complete scans run once, incomplete ones wait, failures keep their reason."""

import os
import time

import h5py
import pytest

from ptychoflow.cli.main import main
from ptychoflow.orchestration import watching
from ptychoflow.orchestration.run_folder import REQUEST, InUseError, file_state
from ptychoflow.orchestration.watching import PAGE, WatchedFolder, watch_folder


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A folder whose scans fail if they are called so; each run is noted."""
    monkeypatch.setattr(watching, "POLL_S", 0.01)
    (tmp_path / "in").mkdir()
    folder = WatchedFolder(tmp_path / "in", tmp_path / "out", ("*.h5",), 5.0)
    folder.output.mkdir()
    return folder


def _arrive(watched, name, age_s=60.0):
    path = watched.folder / name
    path.write_bytes(name.encode())
    os.utime(path, (time.time() - age_s,) * 2)


def _watch(watched, monkeypatch, seconds=0.05):
    runs = []

    def run_scan(state, run):
        name = state["path"].rpartition("/")[2]
        runs.append(name)
        level, reason = ("failed", "<b>truncated</b>") if "bad" in name else ("good", "explains the counts")
        return {"file": state, "level": level, "verdict": reason, "finished": time.time()}

    monkeypatch.setattr(watching, "run_scan", run_scan)
    watch_folder(watched, {}, None, "1", seconds)
    return runs


def test_scans_run_once_and_failures_are_not_tried_again(watched, monkeypatch):
    for name in ("a.h5", "bad.h5", "notes.txt"):
        _arrive(watched, name)
    assert _watch(watched, monkeypatch) == ["a.h5", "bad.h5"]
    assert _watch(watched, monkeypatch) == [], "started again, nothing is done twice"
    page = (watched.output / PAGE).read_text()
    assert "2 scans, 1 reconstructed, 1 failed" in page and "&lt;b&gt;truncated" in page


def test_a_file_that_changes_is_waited_for_and_one_that_has_changed_runs_again(watched, monkeypatch):
    _arrive(watched, "a.h5", age_s=0)
    assert _watch(watched, monkeypatch) == []
    _arrive(watched, "a.h5")
    assert _watch(watched, monkeypatch) == ["a.h5"]
    _arrive(watched, "a.h5", age_s=30)
    assert _watch(watched, monkeypatch) == ["a.h5"]


def test_a_file_that_another_program_writes_is_waited_for(watched, monkeypatch):
    with h5py.File(watched.folder / "a.h5", "w", libver="latest") as file:
        file["counts"] = [1, 2]
        file.flush()
        os.utime(watched.folder / "a.h5", (1, 1))
        monkeypatch.setattr(h5py, "File", _locked)
        assert _watch(watched, monkeypatch) == []
    monkeypatch.undo()


def _locked(*_):
    raise BlockingIOError(11, "Unable to synchronously open file (unable to lock file)")


def test_a_truncated_file_is_not_one_that_is_written(watched):
    path = watched.folder / "a.h5"
    with h5py.File(path, "w") as file:
        file["counts"] = [1] * 10_000
    path.write_bytes(path.read_bytes()[:3000])
    os.utime(path, (1, 1))
    assert watched.is_complete(file_state(path))


def test_a_run_that_outlives_its_watcher_is_waited_for(watched, monkeypatch):
    _arrive(watched, "a.h5")
    tries = iter([InUseError("in use"), None])

    def run_scan(state, run):
        if (error := next(tries)) is not None:
            raise error
        return {"file": state, "level": "good", "verdict": "explains the counts", "finished": time.time()}

    monkeypatch.setattr(watching, "run_scan", run_scan)
    watch_folder(watched, {}, None, "1", 0.05)
    assert watched.entries()["a.h5"]["level"] == "good"


def test_status_lists_each_scan(watched, monkeypatch, capsys):
    _arrive(watched, "a.h5")
    _arrive(watched, "bad.h5")
    _watch(watched, monkeypatch)
    assert main(["status", str(watched.output)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 scans, 1 reconstructed, 1 failed"
    assert main(["status", str(watched.folder)]) == 2


def test_clean_removes_what_is_not_kept_of_runs_that_have_ended(tmp_path, capsys):
    for name in ("ended", "at-work"):
        for product in ("scans/a.cxi", "refined/rpie/a.h5"):
            path = tmp_path / name / "results" / product
            path.parent.mkdir(parents=True)
            path.write_bytes(b"0" * 1000)
        (tmp_path / name / REQUEST).write_text("{}")
    (tmp_path / "ended/results/report.html").write_text("page")
    assert main(["clean", str(tmp_path), "--keep", "refined"]) == 0
    assert not (tmp_path / "ended/results/scans").exists()
    assert (tmp_path / "ended/results/refined/rpie/a.h5").is_file()
    assert (tmp_path / "at-work/results/scans/a.cxi").is_file()
    assert main(["clean", str(tmp_path), "--keep", "refind"]) == 2
    assert "got refind" in capsys.readouterr().err
