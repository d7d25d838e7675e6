"""Memory that may still be taken: that of the host, of control groups and of ulimit, whichever is least."""

import subprocess
import sys

import pytest

from ptychoflow.runtime.memory import available_memory, check_memory

GIB = 2**30


def _write(folder, **values):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A system with 100 GiB free and no limits."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 100 * GIB}))
    return tmp_path


def test_the_host_is_the_limit_where_nothing_else_is(root):
    assert available_memory(root) == 100 * GIB


@pytest.mark.parametrize("limited", ["job", ""], ids=["own group", "group above"])
def test_the_least_control_group_v2_is_the_limit(root, limited):
    _write(root / "proc/self", cgroup="0::/slurm/job")
    groups = root / "sys/fs/cgroup"
    _write(groups / "slurm/job", memory__max="max", memory__current=3 * GIB)
    _write(groups / "slurm" / limited, memory__max=8 * GIB, memory__current=3 * GIB)
    _write(groups / "slurm" / limited, memory__stat=f"anon {GIB}\ninactive_file {GIB}")
    assert available_memory(root) == 6 * GIB, "8 GiB less 3 used, of which 1 is cache"


def test_a_control_group_v1_is_the_limit(root):
    _write(root / "proc/self", cgroup="4:cpu,memory:/job\n1:name=systemd:/")
    _write(root / "sys/fs/cgroup/memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=GIB)
    _write(root / "sys/fs/cgroup/memory/job", memory__limit_in_bytes=4 * GIB, memory__usage_in_bytes=GIB)
    assert available_memory(root) == 3 * GIB


def test_within_a_container_the_group_is_mounted_at_the_top(root):
    _write(root / "proc/self", cgroup="0::/docker/of-the-host")
    _write(root / "sys/fs/cgroup", memory__max=2 * GIB, memory__current=3 * GIB)
    assert available_memory(root) == 0


@pytest.mark.parametrize("option", ["-v", "-d"], ids=["address space", "data"])
def test_ulimit_is_the_limit(option):
    code = "from ptychoflow.runtime.memory import available_memory; print(available_memory())"
    command = f"ulimit {option} 1048576 && exec {sys.executable} -c '{code}'"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert 0.2 * GIB < float(done.stdout) < GIB


def test_what_does_not_fit_is_refused_with_both_numbers():
    check_memory(1000, "an object", "make it smaller")
    with pytest.raises(OSError, match=r"an object needs 1.07e\+09 GiB, .* GiB of memory are available: make it small"):
        check_memory(2**60, "an object", "make it smaller")
