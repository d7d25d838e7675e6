"""What a command has written it may write again: each product is recognised by a mark in it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychoflow.cli.main import main
from ptychoflow.core.scan import Scan
from ptychoflow.io.patch_store import ShardWriter
from ptychoflow.io.product_kinds import DATASET, FIGURES, RECONSTRUCTION, SCAN
from ptychoflow.io.scan_cxi import write_scan
from ptychoflow.preprocessing.trial_reconstruction import reconstruct_trials

from ..products import make_scan, write_products


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("results")
    paths = write_products(folder)
    write_scan(folder / "star.cxi", make_scan())
    metrics = folder / "metrics/pinn/star.json"
    assert main(["evaluate", str(paths["dataset"]), str(metrics), "--refined", str(paths["refined"])]) == 0
    return paths | {"scan": folder / "star.cxi", "metrics": metrics, "folder": folder}


COMMANDS = [
    "simulate {new}.cxi --set simulation.object.size=100 --set simulation.trajectory.step_px=20",
    "pack {scan} {new}",
    "dataset label {dataset} {refined} {new}",
    "evaluate {dataset} {metrics} --refined {refined}",
    "report {new}.html {metrics} --csv {new}.csv --title=--help",
    "inspect {scan} --output {new}",
    "export {refined} {new} --scan {dataset}",
    *(f"export {{refined}} {{new}}{ending} --scan {{dataset}}" for ending in (".h5", ".cxi", ".npz", ".tif")),
    "export {refined} {new}.ptychopinn.npz --scan {dataset}",
    "docs commands {new}.md",
    "config reference {new}.md",
    "config schema {new}.json",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_replaces_its_own_product(paths, tmp_path, capsys, words):
    words = [word.format(**paths, new=tmp_path / "new") for word in words.split()]
    for _ in range(2):
        assert main(words) == 0, capsys.readouterr().err


def test_force_replaces_a_foreign_folder_and_a_foreign_file(paths, tmp_path, capsys):
    (tmp_path / "raw" / "deep").mkdir(parents=True)
    (tmp_path / "raw" / "counts.npy").write_text("raw")
    (tmp_path / "page.md").write_text("chapter one")
    for words, made in ((["pack", paths["scan"]], "raw"), (["docs", "commands"], "page.md")):
        command = [*map(str, words), str(tmp_path / made)]
        assert main(command) == 2 and "--force" in capsys.readouterr().err
        assert main([*command, "--force"]) == 0 and main(command) == 0, "it is a product now"
    assert DATASET.is_product(tmp_path / "raw") and len(list(tmp_path.iterdir())) == 2


def test_kinds_are_told_apart(paths):
    places = {SCAN: paths["scan"], DATASET: paths["dataset"], RECONSTRUCTION: paths["refined"]}
    for kind, path in places.items():
        assert [other for other in places if other.is_product(path)] == [kind]
    assert not FIGURES.is_product(paths["dataset"]) and not SCAN.is_product(Path("nowhere"))


# --- memory ----------------------------------------------------------------------------------------------------------


def _far_apart() -> Scan:
    """A scan of two groups of patterns, of which one lies a kilometre away by a wrong unit."""
    scan = make_scan(truth=False)
    return dataclasses.replace(scan, positions=scan.positions + 1e6 * (np.arange(len(scan)) % 2)[:, None])


@pytest.mark.parametrize(
    "words",
    [
        "export {far} {new}.h5",
        "export {far} {new}",
        "simulate {new}.cxi --set simulation.object.size=2000000",
    ],
)
def test_what_does_not_fit_into_memory_is_refused_before_it_is_allocated(tmp_path, capsys, words):
    write_scan(tmp_path / "far.cxi", _far_apart())
    assert main([word.format(far=tmp_path / "far.cxi", new=tmp_path / "new") for word in words.split()]) == 2
    assert "GiB of memory are available" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "evaluate {dataset} {folder}/other.json --refined {refined}",
        "dataset label {dataset} {refined} {new}",
        "refine {dataset} {new}.h5",
        "export {scan} {new}",
    ],
)
def test_the_limit_of_a_container_counts_in_every_command(paths, tmp_path, capsys, words, monkeypatch):
    monkeypatch.setattr("ptychoflow.runtime.memory.available_memory", lambda: 1000.0)
    assert main([word.format(**paths, new=tmp_path / "new") for word in words.split()]) == 2
    assert "needs" in (error := capsys.readouterr().err) and "9.31e-07 GiB of memory are available" in error


def test_a_trial_reconstruction_and_patches_in_memory_count_too():
    scan = _far_apart()
    with pytest.raises(OSError, match=r"a trial reconstruction of .* check the unit of the positions"):
        reconstruct_trials(scan, torch.from_numpy(scan.positions[None]), epochs=2)
    with pytest.raises(OSError, match="1000000000 patches of 64 px in memory needs"):
        ShardWriter(None, 0, 10**9, 64, 4, "float32")
