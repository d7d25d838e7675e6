"""inspect says what a file is, what it lacks and how to read it, and the config that it writes is ready to run."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptychoflow.cli.main import main
from ptychoflow.commands.convert import convert
from ptychoflow.commands.inspect_file import inspect
from ptychoflow.config import Source, load_config
from ptychoflow.io.scan_cxi import read_scan

from ..readers.golden import GOLDEN, make_scan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cxi(tmp_path):
    return GOLDEN["cxi"][1](tmp_path, make_scan())


def test_it_says_what_a_file_is(cxi):
    report = inspect(Source(file=str(cxi)))
    for words in ("CXI (cxi)", "24 of 16 x 16 px, uint16", "in the corner", "object pixel", "overlap", "R-factor"):
        assert words in report, report


def test_the_config_it_writes_is_ready(cxi, tmp_path):
    inspect(Source(file=str(cxi)), tmp_path / "out")
    config = load_config(tmp_path / "out" / "config.yaml")
    assert config.refinement.probe_start_epoch is not None, "a measured probe is a guess"
    convert(tmp_path / "scan.cxi", config.scans["other"].source)
    scan, expected = read_scan(tmp_path / "scan.cxi"), make_scan()
    np.testing.assert_array_equal(scan.counts, expected.counts)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"config.yaml", "inspection.json", "inspection.png"}
    found = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert found["detector"]["corner"] is True and len(found["orientation"]["tried"]) == 8


def test_the_workflow_runs_the_config_it_writes(cxi, tmp_path):
    inspect(Source(file=str(cxi)), tmp_path / "out")
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    command += ["--configfile", tmp_path / "out" / "config.yaml", "--cores", "1", "--quiet", "all", "--"]
    wanted = ["results/refined/rpie/other.h5", "results/inspections/other"]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert all((tmp_path / path).exists() for path in wanted)


def test_swapped_axes_are_put_right_in_the_config(cxi, tmp_path):
    with h5py.File(cxi, "r+") as file:
        table = file["entry_1/data_1/translation"]
        table[:] = table[()][:, [1, 0, 2]]
    report = inspect(Source(file=str(cxi)), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "inspection.json").read_text())["orientation"]
    assert found["best"]["transpose"] is True, report
    if found["sure"]:
        assert load_config(tmp_path / "out" / "config.yaml").scans["other"].source.orientation.transpose


def test_positions_in_a_file_beside_are_found(tmp_path):
    path = GOLDEN["eiger"][1](tmp_path, make_scan())
    report = inspect(Source(file=str(path)), tmp_path / "out")
    assert "positions: taken from scan.csv" in report
    assert load_config(tmp_path / "out" / "config.yaml").scans["scan_master"].source.positions == "scan.csv"


def test_missing_lengths_are_asked_for_and_nominal_ones_stand_in_the_config(tmp_path):
    path = GOLDEN["tike"][1](tmp_path, make_scan())
    report = inspect(Source(file=str(path)), tmp_path / "out")
    assert "missing: lengths" in report and "source.geometry" in report
    text = (tmp_path / "out" / "config.yaml").read_text()
    assert "# MISSING" in text and "energy_ev" in text


def test_amplitudes_are_told_from_counts_where_a_format_leaves_it_open(tmp_path):
    scan = make_scan()
    coordinates = {"ycoords": scan.positions[:, 0], "xcoords": scan.positions[:, 1]}
    np.savez(tmp_path / "a.npz", diff3d=np.sqrt(scan.counts).astype(np.float32), **coordinates)
    assert "patterns are taken as amplitude" in inspect(Source(file=str(tmp_path / "a.npz")))


@pytest.mark.parametrize("name", GOLDEN)
def test_every_format_can_be_inspected(tmp_path, name):
    path = GOLDEN[name][1](tmp_path, make_scan())
    assert GOLDEN[name][0] in inspect(Source(file=str(path)))


def test_the_command_line_says_it_and_ends_well(cxi, capsys):
    assert main(["inspect", str(cxi)]) == 0
    assert "24 of 16 x 16 px" in capsys.readouterr().out
    (cxi.parent / "text.h5").write_text("no HDF5")
    assert main(["inspect", str(cxi.parent / "text.h5")]) == 2
    assert "unknown format" in capsys.readouterr().err


def test_counts_with_a_gain_bring_their_fano_factor(tmp_path):
    """Into the config, and by the scan to the noise floor; photon counts bring none."""
    rng = np.random.default_rng(0)
    for gain in (1, 3):
        counts = (gain * rng.poisson(20, (40, 32, 32))).astype(np.uint16)
        probe, positions = np.ones((32, 32), complex), rng.uniform(0, 30, (40, 2))
        names = {"diff3d": counts, "xcoords": positions[:, 1], "ycoords": positions[:, 0], "probeGuess": probe}
        np.savez(tmp_path / f"{gain}.npz", **names, objectGuess=np.ones((80, 80), complex))
        inspect(Source(file=str(tmp_path / f"{gain}.npz")), tmp_path / f"out{gain}")
        source = load_config(tmp_path / f"out{gain}" / "config.yaml").scans[str(gain)].source
        convert(tmp_path / f"{gain}.cxi", source)
        assert read_scan(tmp_path / f"{gain}.cxi").fano_factor == pytest.approx(gain, rel=0.15)
        assert (source.fano_factor is None) == (gain == 1)


def test_photons_of_patterns_that_differ_by_the_object_bring_no_fano_factor(tmp_path):
    """Their variance over the scan is that of the object too: as Fano factor it would make photons look too quiet."""
    rng = np.random.default_rng(1)
    counts = rng.poisson(20 * rng.uniform(0.2, 1.8, (40, 32, 32))).astype(np.uint16)
    probe, positions = np.ones((32, 32), complex), rng.uniform(0, 30, (40, 2))
    names = {"diff3d": counts, "xcoords": positions[:, 1], "ycoords": positions[:, 0], "probeGuess": probe}
    np.savez(tmp_path / "scan.npz", **names, objectGuess=np.ones((80, 80), complex))
    inspect(Source(file=str(tmp_path / "scan.npz")), tmp_path / "out")
    assert load_config(tmp_path / "out" / "config.yaml").scans["scan"].source.fano_factor is None
