"""Bars are drawn where somebody looks, by one step at a time, and change nothing."""

import fcntl
import os
import time
from contextlib import suppress

import pytest

from ptychoflow.runtime.progress import terminal, track


@pytest.fixture(autouse=True)
def _forget_the_terminal():
    terminal.cache_clear()
    yield
    terminal.cache_clear()


@pytest.fixture
def screen(monkeypatch):
    """A pseudo-terminal that the workflow hands over; gives what reads it."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    monkeypatch.setenv("PTYCHOFLOW_TERMINAL", os.ttyname(theirs))
    yield ours
    os.close(ours)
    os.close(theirs)


def _shown(screen: int, awaited: bytes) -> bytes:
    """What has come through the pseudo-terminal, which hands over in pieces and in its own time."""
    shown, ends = b"", time.monotonic() + 10
    while awaited not in shown and time.monotonic() < ends:
        with suppress(BlockingIOError):
            shown += os.read(screen, 10_000)
        time.sleep(0.01)
    return shown


def test_without_a_terminal_nothing_is_drawn(monkeypatch, capfd):
    monkeypatch.delenv("PTYCHOFLOW_TERMINAL", raising=False)
    assert list(track(range(3), "counting")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_the_workflows_terminal_shows_the_bar_although_stderr_is_a_log(screen, capfd):
    assert list(track(iter(range(3)), "counting", total=3)) == [0, 1, 2]
    assert b"counting" in _shown(screen, b"counting")
    assert capfd.readouterr() == ("", "")


def test_two_steps_do_not_draw_over_each_other(screen):
    with open(os.environ["PTYCHOFLOW_TERMINAL"], "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert list(track(range(3), "counting")) == [0, 1, 2]
        with pytest.raises(BlockingIOError):
            os.read(screen, 10_000)


def test_of_several_processes_the_first_draws(screen, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert list(track(range(3), "counting")) == [0, 1, 2]
    with pytest.raises(BlockingIOError):
        os.read(screen, 10_000)


def test_a_terminal_that_is_gone_is_no_error(monkeypatch):
    monkeypatch.setenv("PTYCHOFLOW_TERMINAL", "nowhere/at/all")
    assert list(track(range(3), "counting")) == [0, 1, 2]


def test_a_file_in_the_place_of_the_terminal_is_not_emptied(monkeypatch, tmp_path):
    (tmp_path / "thesis").write_text("chapter one")
    monkeypatch.setenv("PTYCHOFLOW_TERMINAL", str(tmp_path / "thesis"))
    assert list(track(range(3), "counting")) == [0, 1, 2]
    assert (tmp_path / "thesis").read_text() == "chapter one"
