"""Packing streams a scan into a dataset: bounded in memory, whole or not at all."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ptychoflow.config import Packing
from ptychoflow.data.packing import open_dataset, read_manifest, verify_dataset
from ptychoflow.files import sha256
from ptychoflow.pack import pack
from ptychoflow.scan import iterate_counts, write_scan


@pytest.fixture
def path(tmp_path, scan):
    write_scan(tmp_path / "sample.cxi", scan)
    return tmp_path / "sample.cxi"


def test_a_dataset_holds_the_scan_and_names_its_source(path, tmp_path, scan):
    pack(path, tmp_path / "d")
    np.testing.assert_array_equal(open_dataset(tmp_path / "d").counts, scan.counts)
    verify_dataset(tmp_path / "d")
    made_by = read_manifest(tmp_path / "d")["provenance"]
    assert made_by["inputs"]["scan"] == {"name": "sample.cxi", "sha256": sha256(path)}


def test_halves_hold_every_second_pattern_and_together_all(path, tmp_path, scan, monkeypatch):
    # pieces of three patterns, so that a half starts anew in every piece
    monkeypatch.setattr("ptychoflow.pack.iterate_counts", lambda path: iterate_counts(path, 3 * 32 * 32 * 2))
    for first, half in enumerate(("even", "odd")):
        pack(path, tmp_path / half, half=half)
        opened = open_dataset(tmp_path / half)
        np.testing.assert_array_equal(opened.counts, scan.counts[first::2])
        np.testing.assert_array_equal(opened.positions, scan.positions[first::2])
        assert opened.name == f"sample.{half}"


def test_cropping_keeps_the_centre_of_each_pattern(path, tmp_path, scan):
    pack(path, tmp_path / "d", Packing(crop=16), half="odd")
    opened = open_dataset(tmp_path / "d")
    np.testing.assert_array_equal(opened.counts, scan.counts[1::2, 8:24, 8:24])
    assert opened.facts["cropped_from_px"] == 32
    assert opened.facts["photons_measured"] == opened.counts.sum() / len(opened)


def test_a_crop_larger_than_the_patterns_is_refused(path, tmp_path):
    with pytest.raises(ValueError, match="crop to less"):
        pack(path, tmp_path / "d", Packing(crop=64))
    assert not (tmp_path / "d").exists()


def test_packing_twice_gives_the_same_bytes(path, tmp_path):
    for name in ("a", "b"):
        pack(path, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_packing_killed_at_any_moment_leaves_nothing_that_opens(tmp_path, scan):
    many = np.tile(scan.counts, (250, 1, 1))  # 20 MB
    positions = np.tile(scan.positions, (250, 1))
    write_scan(tmp_path / "sample.cxi", dataclasses.replace(scan, counts=many, positions=positions))
    command = [sys.executable, "-m", "ptychoflow", "pack", tmp_path / "sample.cxi", tmp_path / "d"]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    lasts = time.monotonic() - began
    for share in (0.5, 0.7, 0.8, 0.85, 0.9, 0.95):
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(share * lasts)
        child.send_signal(signal.SIGKILL)
        child.wait()
        if (tmp_path / "d").exists():
            verify_dataset(tmp_path / "d")
    subprocess.run(command, check=True, capture_output=True)
    verify_dataset(tmp_path / "d")


def test_packing_that_is_told_to_stop_tidies_up(tmp_path, path, monkeypatch):
    def never_ending(path):
        os.kill(os.getpid(), signal.SIGINT)
        yield np.zeros((1, 32, 32), np.uint8)

    monkeypatch.setattr("ptychoflow.pack.iterate_counts", never_ending)
    with pytest.raises(KeyboardInterrupt):
        pack(path, tmp_path / "d")
    assert [entry.name for entry in tmp_path.iterdir()] == ["sample.cxi"]
