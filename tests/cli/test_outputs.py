"""No command destroys an input or a foreign file, whatever stands where its output should go."""

import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import pytest
import torch

from ptychoflow.cli import main as cli
from ptychoflow.cli.app import command_parameters, make_app, option_name
from ptychoflow.cli.commands_table import COMMANDS
from ptychoflow.cli.outputs import OUTPUTS
from ptychoflow.cli.signatures import read_description, read_signature
from ptychoflow.io.product_kinds import ANY_FOLDER, BENCHMARK, ProductKind

NAMES = {
    **dict.fromkeys(("train", "import"), "new.ckpt"),
    "evaluate": "new.json",
    "pretrain": "new.safetensors",
    **dict.fromkeys(("stitch", "reconstruct", "refine"), "new.h5"),
    "config schema": "new.json",
    **dict.fromkeys(("config reference", "docs commands"), "new.md"),
}
"""Names of outputs with the ending that a command asks for."""
EXCEPTIONS = ("inspect", "ptychodus", "run", "init", "watch", "clean")
"""Commands that make text and a file, a window, folders that are never replaced, and free space in folders of runs."""
EXPORTS = ("new", "new.h5", "new.cxi", "new.npz", "new.ptychopinn.npz", "new.tif")


class Place(NamedTuple):
    """A place that a command writes to, and the name that it is given for it."""

    command: str
    parameter: str
    argument: str
    path: Path
    kind: ProductKind


def _places() -> Iterator[Place]:
    for command, outputs in OUTPUTS.items():
        for parameter, of in outputs.items():
            names = EXPORTS if command == "export" else [NAMES.get(command, "new") if parameter == "output" else "new"]
            for name in names:
                yield from (Place(command, parameter, name, *at) for at in of(Path(name)) if at[1] is not ANY_FOLDER)
    for command in ("pack", "refine", "run-directory"):
        yield Place(command, "benchmark", "new.tsv", Path("new.tsv"), BENCHMARK)


PLACES = list(_places())


# --- things that may stand where an output goes ----------------------------------------------------------------------


def _hdf5(path: Path, group: str | None = None, creator: str | None = None) -> None:
    with h5py.File(path, "w") as file:
        file["measured"] = [1, 2, 3]
        if group is not None:
            file.create_group(group)
        if creator is not None:
            file.attrs["creator"] = creator


def _scan(path: Path, **metadata: str) -> None:
    _hdf5(path, "entry_1/ptychoflow")
    with h5py.File(path, "a") as file:
        file["entry_1/ptychoflow"].attrs["metadata"] = json.dumps(metadata)


def _zip(path: Path, *names: str, comment: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = comment
        for name in names:
            archive.writestr(name, b"")


def _folder(path: Path, **files: str) -> None:
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)


def _json(*keys: str) -> str:
    return json.dumps({key: {} for key in keys})


def _checkpoint(path: Path) -> None:
    torch.save(dict.fromkeys(("format", "network", "window", "size", "weights", "metadata"), 1), path)


def _figures(path: Path) -> None:
    path.mkdir()
    _zip(path / "arrays.npz", "origin.npy", "refined.npy", "patterns_measured.npy")


def _standard(path: Path, creator: str | None = "ptychoflow") -> None:
    path.mkdir()
    for name in ("diffraction.h5", "product.h5"):
        _hdf5(path / name, creator=creator)
    (path / "settings.ini").write_text("")


PRODUCTS: dict[str, Callable[[Path], None]] = {
    "scan": lambda path: _scan(path, source="measured.h5"),
    "simulated scan": lambda path: _scan(path),
    "dataset": lambda path: _folder(path, manifest__json=_json("format", "arrays", "geometry"), counts__npy="1"),
    "checkpoint": _checkpoint,
    "training log": lambda path: path.write_text(_json("method", "config", "validation", "provenance")),
    "folder of patches": lambda path: _folder(path, manifest__json=_json("format", "patches", "shards")),
    "reconstruction": lambda path: _hdf5(path, "ptychoflow", "ptychoflow"),
    "metrics file": lambda path: path.write_text(_json("format", "stages", "split_half")),
    "folder of figures": _figures,
    "table of a sweep": lambda path: path.write_text("method,scan,stage,training.seed,seeds,r_factor\n"),
    "figure of a sweep": lambda path: path.write_bytes(b"\x89PNG tEXtSoftware\0ptychoflow"),
    "report": lambda path: path.write_text('<!DOCTYPE html>\n<meta name="generator" content="ptychoflow">'),
    "folder of a report's values": lambda path: _folder(path, a__js="(window.explorerData ??= {})[1] = 2;"),
    "table of metrics": lambda path: path.write_text("scan,method,stage,r_factor\n"),
    "inspection": lambda path: _folder(path, inspection__json=_json("file", "source", "detector", "missing")),
    "benchmark": lambda path: path.write_text("s\tmax_rss\tcpu_time\n"),
    "gallery": lambda path: _folder(path, README__md="# What can be simulated\n"),
    "commands page": lambda path: path.write_text("# Commands\n`ptychoflow docs commands`"),
    "settings page": lambda path: path.write_text("# Settings\n`ptychoflow config reference`"),
    "schema": lambda path: path.write_text('{"title": "Config", "$defs": {"ScanEntry": {}, "MethodEntry": {}}}'),
    "exported product": lambda path: (
        _zip(path, comment=b"ptychoflow") if path.suffix == ".npz" else _hdf5(path, creator="ptychoflow")
    ),
    "exported archive": lambda path: _zip(path, comment=b"ptychoflow"),
    "exported image": lambda path: path.write_bytes(b"II*\0 ptychoflow\0"),
    "exported standard directory": _standard,
}
"""The least that is recognised as a product of each kind."""

ALIKE = {"exported product", "exported archive"}
"""Kinds whose ``.npz`` archives differ in the suffix alone."""

FOREIGN: dict[str, Callable[[Path], None]] = {
    "text": lambda path: path.write_text("chapter one"),
    "empty file": lambda path: path.write_text(""),
    "beamline's HDF5": lambda path: _hdf5(path, "entry_1"),
    "foreign archive": lambda path: _zip(path, "a.npy"),
    "foreign JSON": lambda path: path.write_text("[1]"),
    "folder of a thesis": lambda path: _folder(path, thesis__tex="chapter one"),
    "folder of raw arrays": lambda path: _folder(path, counts__npy="1", positions__npy="2", probe__npy="3"),
    "beamline's standard directory": lambda path: _standard(path, None),
    "dataset with a note": lambda path: (PRODUCTS["dataset"](path), (path / "note.txt").write_text("mine")),
    "folder of folders": lambda path: (path / "sub").mkdir(parents=True),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/null"),
}


def _contents(folder: Path) -> dict[str, object]:
    """Return the digest of every file and the target of every link, by its path."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path)] = path.stat().st_mode
    return found


class Call:
    """A call of a command whose inputs exist, though they are no more than text: the guard comes before reading."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder, self.place, self.at = folder, place, folder / place.path
        self.at.parent.mkdir(exist_ok=True)
        self.inputs: list[Path] = []
        self._parsed: dict[tuple[str, ...], cli.Invocation] = {}
        command = COMMANDS[place.command]
        self.words = [*place.command.split()]
        for parameter in command_parameters(command):
            self.words += self._words_for(parameter)
        sections = read_signature(command.function).sections
        settings: dict = {}
        if "source" in sections:
            settings["source"] = {"positions": self._input("positions.csv")}
            if command.file_argument is None:
                settings["source"]["file"] = self._input("measured.cxi")
        if "simulation" in sections:
            settings["simulation"] = {"trajectory": {"name": "file", "file": self._input("path.csv")}}
        if settings:
            (folder / "settings.json").write_text(json.dumps(settings))
            self.inputs.append(folder / "settings.json")
            self.words += ["--config", str(self.inputs[-1])]

    def run(self, *more: str) -> int:
        """Run the command; the words are parsed once, because thousands of calls follow."""
        if more not in self._parsed:
            function, given, _ = make_app().parse_args([*self.words, *more], print_error=False, exit_on_error=False)
            self._parsed[more] = function(*given.args, **given.kwargs)
        return cli.run(self._parsed[more])

    def _input(self, name: str) -> str:
        path = self.folder / "inputs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"precious {name}")
        self.inputs.append(path)
        return str(path)

    def _words_for(self, parameter: inspect.Parameter) -> list[str]:
        """Return the words for a parameter: this output, another one, inputs, or nothing for other settings."""
        flag = [option_name(parameter)] if parameter.kind is parameter.KEYWORD_ONLY else []
        name, kind = parameter.name, str(parameter.annotation)
        if name == self.place.parameter:
            return [*flag, str(self.folder / self.place.argument)]
        if name in OUTPUTS[self.place.command]:
            return [*flag, str(self.folder / f"other-{NAMES.get(self.place.command, name)}")]
        if name == "combinations":
            return [*flag, "[]"]
        if ("Path" in kind and name != "benchmark") or name == COMMANDS[self.place.command].file_argument:
            return [*flag, *(self._input(f"{name}{n}.json") for n in range(2 if "tuple" in kind else 1))]
        return []


@pytest.fixture(params=PLACES, ids=lambda place: f"{place.command} {place.path}".replace(" ", "-"))
def call(request, tmp_path) -> Call:
    return Call(tmp_path, request.param)


def _assert_refused(call: Call, capsys, what: str, *more: str) -> None:
    before = _contents(call.folder)
    code = call.run(*more)
    error = capsys.readouterr().err
    assert _contents(call.folder) == before, f"{what}: something was changed"
    assert code == 2 and error.count("\n") == 1, f"{what}: {code} {error}"
    assert re.search("an input of this command|: name a (file|new folder|folder)|name another output", error), error


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.fixture
def ran(monkeypatch) -> list[str]:
    """Names of commands that would have run."""
    names: list[str] = []

    class Module:
        def __getattr__(self, name: str):
            return lambda *_arguments, **_settings: names.append(name)

    monkeypatch.setattr(cli, "load", lambda name: Module())
    return names


# --- the claims ------------------------------------------------------------------------------------------------------


def test_every_command_that_makes_a_file_names_its_outputs():
    """A new command is found here: its help says what it makes."""
    for name, command in COMMANDS.items():
        makes = re.findall(r"Makes (.*?)[.,:;]", read_description(command.function))
        only_text = all(re.match("text|nothing|one line of text", what) for what in makes)
        assert only_text == (name not in OUTPUTS) or name in EXCEPTIONS, (name, makes)
        known = {parameter.name for parameter in read_signature(command.function).parameters}
        assert OUTPUTS.get(name, {}).keys() <= known, name
        assert "output" not in known or name in OUTPUTS or name in EXCEPTIONS, name


def test_an_input_is_never_an_output(call, capsys):
    for source in call.inputs:
        ways: dict[str, Callable[[], None]] = {
            "link": lambda source=source: call.at.symlink_to(source),
            "link to a link": lambda source=source: call.at.symlink_to(_hop(call.folder, source)),
            "hard link": lambda source=source: call.at.hardlink_to(source),
            "its folder": lambda source=source: call.at.symlink_to(source.parent, target_is_directory=True),
        }
        for way, put in ways.items():
            put()
            _assert_refused(call, capsys, f"{source.name} by {way}")
            _assert_refused(call, capsys, f"{source.name} by {way}", "--force")
            call.at.unlink()


def _hop(folder: Path, source: Path) -> Path:
    hop = folder / "hop"
    hop.unlink(missing_ok=True)
    hop.symlink_to(source)
    return hop


def test_nothing_foreign_is_replaced(call, capsys):
    for name, make in FOREIGN.items():
        make(call.at)
        _assert_refused(call, capsys, name)
        _remove(call.at)
        if name in ("link to nothing", "pipe"):
            continue
        make(call.folder / "elsewhere")
        call.at.symlink_to(call.folder / "elsewhere")
        _assert_refused(call, capsys, f"link to {name}")
        _remove(call.at)
        _remove(call.folder / "elsewhere")


def test_only_a_product_of_the_same_kind_is_replaced(call, capsys, ran):
    kind = call.place.kind.name
    same = ALIKE if kind in ALIKE and call.at.suffix == ".npz" else {kind}
    same |= {"simulated scan"} if kind == "scan" else set()
    for name, make in PRODUCTS.items():
        make(call.at)
        if name in same:
            assert call.run() == 0 and ran, f"{name} is not recognised: {capsys.readouterr().err}"
            call.at.rename(call.folder / f"elsewhere{call.at.suffix}")
            call.at.symlink_to(call.folder / f"elsewhere{call.at.suffix}")
            assert call.run() == 0, f"link to {name}: {capsys.readouterr().err}"
            _remove(call.folder / f"elsewhere{call.at.suffix}")
            call.at.unlink()
            ran.clear()
        else:
            _assert_refused(call, capsys, name)
            assert not ran
            _remove(call.at)


def test_force_replaces_what_is_foreign_but_nothing_of_the_other_type(call, capsys, ran):
    for name, make in FOREIGN.items():
        ran.clear()
        make(call.at)
        other_type = call.at.exists() and call.at.is_dir() != bool(call.place.kind.files)
        if other_type or name in ("pipe", "device"):
            _assert_refused(call, capsys, name, "--force")
        else:
            assert call.run("--force") == 0 and ran, f"{name}: {capsys.readouterr().err}"
        _remove(call.at)


def test_a_new_place_and_an_empty_folder_are_free(call, ran):
    assert call.run() == 0
    if call.place.kind.files:
        call.at.mkdir()
        (call.at / ".DS_Store").touch()
        assert call.run() == 0
    assert ran


@pytest.mark.parametrize(
    "words", [["report", "{0}", "{1}", "--csv", "{0}"], ["sweep", "{0}", "{1}", "--figure", "{0}"]]
)
def test_two_outputs_have_two_names(tmp_path, capsys, words):
    (tmp_path / "a.json").write_text("{}")
    words = [word.format(tmp_path / "out", tmp_path / "a.json") for word in words]
    words += ["--combinations", "[]"] if "sweep" in words else []
    assert cli.main(words) == 2 and "named for two outputs" in capsys.readouterr().err


def test_the_guard_comes_before_heavy_imports(tmp_path):
    (tmp_path / "thesis.h5").write_text("chapter one")
    code = "import sys; from ptychoflow.cli.main import main; print(main(['refine', 'd', 'thesis.h5']))"
    code += "; print([name for name in ('torch', 'lightning', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["2", "[]"] and "replace it with --force" in done.stderr
