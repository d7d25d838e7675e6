"""Processes side by side on one machine each own their GPUs; a scheduler's word goes before ours."""

import os
import subprocess
import sys
import time

import pytest
import torch

from ptychoflow.config import Runtime
from ptychoflow.runtime.gpu import (
    RANK,
    SCHEDULER_VARIABLES,
    device_kind,
    out_of_memory_hint,
    take_devices,
    visible_devices,
)

from ..simulated_gpu import needs_cpu_build, simulate_gpus

TAKE = """
import os, sys, time
from ptychoflow.runtime.gpu import take_devices
take_devices(int(sys.argv[1]), wait_s=0.02)
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def two_devices(monkeypatch, tmp_path):
    """Two GPUs as far as the environment tells, locks in a folder of the test, no scheduler."""
    for name in (*SCHEDULER_VARIABLES, RANK):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def _process(count: int, seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", TAKE, str(count), str(seconds)], stdout=subprocess.PIPE, text=True)


def test_processes_side_by_side_take_different_devices():
    first, second = _process(1, 30), _process(1, 30)
    assert {first.stdout.readline().strip(), second.stdout.readline().strip()} == {"3", "GPU-5f"}
    for process in (first, second):
        process.kill()


def test_one_that_wants_two_waits_for_both_and_a_killed_one_gives_back_what_it_had():
    first = _process(1, 30)
    first.stdout.readline()
    both = _process(2, 0)
    time.sleep(0.5)
    assert both.poll() is None, "it took what the first one has"
    first.kill()
    assert both.stdout.readline().strip() == "3,GPU-5f"
    assert both.wait(10) == 0


@pytest.mark.parametrize("name", [*SCHEDULER_VARIABLES, RANK])
def test_where_devices_are_given_out_already_nothing_is_taken(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    take_devices(7)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,GPU-5f"


def test_asking_for_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"asks for 3 GPUs, this machine shows 2 \(3, GPU-5f\): lower it"):
        take_devices(3)


def test_without_a_gpu_nothing_is_taken(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    take_devices(1)
    assert visible_devices() == []


def test_a_step_takes_its_devices_where_the_config_says_gpu(tmp_path):
    """Here there is none, so the step fails; that it looked shows what it set."""
    words = ["refine", "nowhere", "out.h5", "--runtime", '{"accelerator": "gpu", "devices": 2}']
    done = subprocess.run([sys.executable, "-m", "ptychoflow", *words], capture_output=True, text=True, cwd=tmp_path)
    assert "took GPU 3, GPU-5f\n" in done.stderr and "nowhere" in done.stderr


def test_a_gpu_that_is_too_small_is_told_with_what_to_do():
    message = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.78 GiB. See documentation."
    )
    short = r"^CUDA out of memory. Tried to allocate 2.00 GiB: ask for less$"
    with pytest.raises(ValueError, match=short) as error, out_of_memory_hint("ask for less"):
        raise torch.OutOfMemoryError(message)
    assert str(error.value.__cause__) == message
    with pytest.raises(RuntimeError, match="broken"), out_of_memory_hint("ask for less"):
        raise RuntimeError("broken")


def test_auto_is_a_gpu_where_there_is_one_else_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_kind(Runtime()) == device_kind(Runtime(accelerator="cpu")) == "cpu"
    with pytest.raises(ValueError, match="torch finds no CUDA device: set it to auto or cpu"):
        device_kind(Runtime(accelerator="gpu"))


@needs_cpu_build
def test_more_gpus_than_there_are_are_refused():
    with simulate_gpus(count=2):
        assert device_kind(Runtime()) == device_kind(Runtime(accelerator="gpu", devices=2)) == "cuda"
        assert device_kind(Runtime(accelerator="cpu", devices=3)) == "cpu"
        with pytest.raises(ValueError, match=r"runtime\.devices is 3, but torch finds 2 CUDA devices: lower it"):
            device_kind(Runtime(devices=3))


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    folder = tmp_path / f"ptychoflow-devices-{os.getuid()}"
    folder.mkdir(mode=0o700)
    (folder / "3").symlink_to(tmp_path / "victim")
    (folder / "all").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        take_devices(1)
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("thing", ["link", "file", "folder for all"])
def test_locks_stand_in_a_private_folder(tmp_path, thing):
    folder = tmp_path / f"ptychoflow-devices-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir()
    if thing == "link":
        folder.symlink_to(tmp_path / "elsewhere")
    elif thing == "file":
        folder.write_text("precious")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(OSError, match=r"is not a private folder of this user, .* remove it, or set TMPDIR"):
        take_devices(1)
    assert not list((tmp_path / "elsewhere").iterdir())
