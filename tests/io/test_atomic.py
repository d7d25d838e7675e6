"""Files appear whole or not at all."""

import ast
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ptychoflow.io import atomic
from ptychoflow.io.atomic import atomic_dir, atomic_file, write_json
from ptychoflow.io.json_file import read_json
from ptychoflow.io.provenance import record_provenance, sha256


def test_a_file_appears_only_when_it_is_finished(tmp_path):
    with atomic_file(tmp_path / "deep" / "a.txt") as partial:
        partial.write_text("new")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_a_failed_write_leaves_what_was_there(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise RuntimeError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_folder_is_replaced_whole(tmp_path):
    for word in ("old", "new"):
        with atomic_dir(tmp_path / "d", "*") as partial:
            (partial / word).touch()
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["new"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_folder_leaves_what_was_there(tmp_path):
    with atomic_dir(tmp_path / "d", "*") as partial:
        (partial / "old").touch()
    with pytest.raises(RuntimeError), atomic_dir(tmp_path / "d", "*") as partial:
        (partial / "half").touch()
        raise RuntimeError
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_holds_anything_else_is_not_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    for name in ("counts-1.npy", "thesis.tex"):
        (tmp_path / "home" / name).write_text("mine")
    refused = pytest.raises(ValueError, match=r"home holds other files \(thesis\.tex\): name a new folder")
    with refused, atomic_dir(tmp_path / "home", ["counts-*.npy"]):
        pass
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"counts-1.npy", "thesis.tex"}
    (tmp_path / "home" / "thesis.tex").rename(tmp_path / "home" / ".snakemake_timestamp")
    with atomic_dir(tmp_path / "home", ["counts-*.npy"]):
        pass
    assert not list((tmp_path / "home").iterdir())


def test_neither_takes_the_place_of_the_other(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(ValueError, match="a is a file: name a folder"), atomic_dir(tmp_path / "a", "*"):
        pass
    (tmp_path / "d").mkdir()
    with pytest.raises(ValueError, match="d is a folder: name a file"), atomic_file(tmp_path / "d"):
        pass
    assert (tmp_path / "a").read_text() == "mine" and (tmp_path / "d").is_dir()


def _watched(monkeypatch, *names: str) -> list[tuple[str, Path]]:
    """What the system is asked to do from now on, with the path; it is done, too."""
    seen = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(what, *others):
            seen.append((name, Path(os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else what)))
            return real(what, *others)

        monkeypatch.setattr(os, name, call)

    for name in names:
        watch(name)
    return seen


def test_what_takes_its_name_is_on_the_disk(tmp_path, monkeypatch):
    seen = _watched(monkeypatch, "fsync", "replace", "rename")
    with atomic_file(tmp_path / "a") as partial:
        partial.write_text("new")
    assert seen == [("fsync", partial), ("replace", partial), ("fsync", tmp_path)]
    seen.clear()
    with atomic_dir(tmp_path / "d", "*") as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "b").write_text("new")
    *flushed, renamed, last = seen
    assert {path for _, path in flushed} == {partial / "deep" / "b", partial / "deep", partial}
    assert {name for name, _ in flushed} == {"fsync"}
    assert renamed == ("rename", partial) and last == ("fsync", tmp_path)


def _write_dir(path: Path, word: str) -> None:
    with atomic_dir(path, "*") as partial:
        for name in ("a", "b"):
            (partial / name).write_text(word)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "moved"])
def test_a_folder_is_replaced_with_and_without_the_exchange_of_the_system(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    for word in ("old", "new"):
        _write_dir(tmp_path / "d", word)
    assert {path.read_text() for path in (tmp_path / "d").iterdir()} == {"new"}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    _write_dir(tmp_path / "d", "old")
    monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    real = os.rename

    def rename(source, target):
        if Path(source).name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"):
        _write_dir(tmp_path / "d", "new")
    assert {path.read_text() for path in (tmp_path / "d").iterdir()} == {"old"}


KILLED_BETWEEN_TWO_MOVES = """
import os, sys
from pathlib import Path
from ptychoflow.io import atomic
atomic._exchange = lambda first, second: False
real = os.rename
def rename(source, target):
    if Path(source).name == "new":
        os.kill(os.getpid(), 9)
    real(source, target)
os.rename = rename
with atomic.atomic_dir(Path(sys.argv[1]), "*") as partial:
    (partial / "a").write_text("new")
"""


def test_the_next_write_brings_back_what_a_killed_one_had_moved_away(tmp_path):
    _write_dir(tmp_path / "d", "old")
    subprocess.run([sys.executable, "-c", KILLED_BETWEEN_TWO_MOVES, tmp_path / "d"], check=False)
    assert not (tmp_path / "d").exists()
    with pytest.raises(RuntimeError), atomic_dir(tmp_path / "d", "*"):
        raise RuntimeError
    assert {path.read_text() for path in (tmp_path / "d").iterdir()} == {"old"}
    assert len(list(tmp_path.iterdir())) == 1


READ_ON = """
import sys
from pathlib import Path
from ptychoflow.io.atomic import read_whole
folder, opens, kinds = Path(sys.argv[1]), int(sys.argv[2]), set()
print(flush=True)
while opens > 0 or len(kinds) < 2:
    opens -= 1
    kinds.add(read_whole(folder, lambda: tuple((folder / name).read_text() for name in ("a", "b"))))
print(sorted(kinds))
"""


def test_readers_of_a_folder_that_is_replaced_see_the_old_or_the_new_one(tmp_path):
    """`benchmarks/replacement.py` does the same with datasets, 5,000 times."""
    _write_dir(tmp_path / "d", "old")
    command = [sys.executable, "-c", READ_ON, tmp_path / "d", "300"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        reader.stdout.readline()
        words = itertools.cycle(["new", "old"])
        while reader.poll() is None:
            _write_dir(tmp_path / "d", next(words))
        assert reader.returncode == 0, reader.stderr.read()
        assert ast.literal_eval(reader.stdout.read()) == [("new", "new"), ("old", "old")]


BEGIN_AND_WAIT = """
import sys, time
from ptychoflow.io.atomic import atomic_dir, atomic_file
how = {"file": atomic_file, "folder": lambda path: atomic_dir(path, "*")}[sys.argv[2]]
with how(sys.argv[1]) as partial:
    print(partial, flush=True)
    time.sleep(60)
"""


def _begin(path, how) -> subprocess.Popen:
    command = [sys.executable, "-c", BEGIN_AND_WAIT, path, how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    return process


@pytest.mark.parametrize("how", ["file", "folder"])
def test_staging_of_a_killed_process_is_removed_and_that_of_a_running_one_is_kept(tmp_path, how):
    killed, living = (_begin(tmp_path / "a.even", how) for _ in range(2))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_file(tmp_path / "a") as partial:
        partial.touch()
    assert len(list(tmp_path.iterdir())) == 3
    with atomic_file(tmp_path / "a.even") as partial:
        partial.touch()
    assert len(list(tmp_path.iterdir())) == 3
    living.kill()
    living.wait()


def test_a_full_disk_is_explained_however_deep_it_was_met(tmp_path):
    full_disk = pytest.raises(
        OSError, match=r"/d does not fit on the disk \(No space .*, .* GiB are free\): free some space"
    )
    with full_disk, atomic_dir(tmp_path / "d", "*") as partial, atomic_file(partial / "manifest.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def _torch_fails():
    try:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    finally:
        raise RuntimeError("unexpected pos 704 vs 598")


def _hdf5_fails():
    raise RuntimeError("Can't decrement id ref count (file write failed: filename = 'a', errno = 122, ...)")


@pytest.mark.parametrize("fails", [_torch_fails, _hdf5_fails])
def test_an_exceeded_quota_is_explained_whatever_meets_it(tmp_path, fails):
    full_disk = pytest.raises(OSError, match=r"/a does not fit on the disk \(Disk quota exceeded, ")
    with full_disk, atomic_file(tmp_path / "a"):
        fails()


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="shapes differ"), atomic_file(tmp_path / "a"):
        raise RuntimeError("shapes differ")


def test_what_cannot_fit_is_not_begun(tmp_path):
    with pytest.raises(OSError, match="/a does not fit on the disk"), atomic_file(tmp_path / "a", size=1 << 60):
        pytest.fail("begun")
    assert not list(tmp_path.iterdir())


def test_a_name_below_a_file_is_explained(tmp_path):
    (tmp_path / "a").touch()
    with (
        pytest.raises(OSError, match=r"a/b cannot be written \(.*\): choose a writable location"),
        atomic_file(tmp_path / "a/b"),
    ):
        pass


def test_a_place_that_is_not_writable_is_explained(tmp_path):
    denied = pytest.raises(
        OSError, match=r"a\.json cannot be written \(Permission denied\): choose a writable location"
    )
    with denied, atomic_file(tmp_path / "a.json") as partial:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(partial))


def test_an_input_that_cannot_be_read_keeps_its_own_error(tmp_path):
    with pytest.raises(PermissionError, match="elsewhere"), atomic_file(tmp_path / "d" / "a.json"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "elsewhere"))


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5, None]}


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_broken_json_is_reported_in_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text, "latin-1")
    with pytest.raises(ValueError, match="make it again"):
        read_json(tmp_path / "a.json")


def test_provenance_names_code_settings_and_inputs(tmp_path):
    (tmp_path / "input.txt").write_text("x")
    with atomic_dir(tmp_path / "dataset", "*") as partial:
        write_json(partial / "manifest.json", {})
    record = record_provenance({"crop": 64}, text=tmp_path / "input.txt", dataset=tmp_path / "dataset", nothing=None)
    assert record["config"] == {"crop": 64}
    assert record["ptychoflow"][0].isdigit()
    assert record["inputs"]["text"] == {"name": "input.txt", "sha256": sha256(tmp_path / "input.txt")}
    assert record["inputs"]["dataset"]["sha256"] == sha256(tmp_path / "dataset" / "manifest.json")
    assert set(record["inputs"]) == {"text", "dataset"}
    json.dumps(record)
