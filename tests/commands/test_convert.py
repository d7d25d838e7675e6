"""A measurement is found, fetched and checked before it is read; a refined probe may take the place of its guess."""

import dataclasses
import json

import numpy as np
import pooch
import pytest

from ptychoflow.cli.main import main
from ptychoflow.commands.convert import convert, resolve_path
from ptychoflow.config import Source
from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.provenance import sha256
from ptychoflow.io.reconstruction_h5 import write_reconstruction
from ptychoflow.io.scan_cxi import read_scan, write_scan
from ptychoflow.preprocessing.cropping import resize_far_field
from ptychoflow.readers.registry import read_scan_of

GEOMETRY = {"energy_ev": 8800, "detector_distance_m": 2.0, "detector_pixel_m": 75e-6}


@pytest.fixture
def archive(tmp_path, scan, monkeypatch):
    """A tike archive in a data cache of its own."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("PTYCHOFLOW_DATA", str(cache))
    data = np.fft.ifftshift(scan.counts, axes=(-2, -1))[None].astype(np.float32)
    positions = scan.positions[None].astype(np.float32)
    np.savez(cache / "sample.npz", data=data, scan=positions, probe=scan.probe[None, None, None])
    return cache / "sample.npz"


def test_a_measurement_becomes_a_scan_that_says_where_it_came_from(archive, tmp_path, scan):
    convert(tmp_path / "a.cxi", Source(file="sample.npz", sha256=sha256(archive), geometry=GEOMETRY))
    read = read_scan(tmp_path / "a.cxi")
    np.testing.assert_array_equal(read.counts, scan.counts)
    assert read.metadata["provenance"]["inputs"]["measurement"]["sha256"] == sha256(archive)
    assert read.metadata["nominal_geometry"] is True
    assert read.metadata["photons_measured"] == pytest.approx(scan.counts.sum() / len(scan))


def test_a_path_is_taken_as_it_is_and_a_name_is_found_in_the_cache(archive):
    assert resolve_path(Source(file=str(archive))) == resolve_path(Source(file="sample.npz")) == archive


def test_what_is_nowhere_is_told_so(archive):
    with pytest.raises(FileNotFoundError, match=r"other\.npz not found, nor in the data cache"):
        resolve_path(Source(file="other.npz"))


def test_a_wrong_checksum_is_told_so(archive):
    with pytest.raises(ValueError, match=r"has SHA-256 .*, expected 0000"):
        resolve_path(Source(file="sample.npz", sha256="0" * 64))


def test_a_missing_file_is_fetched_once_and_kept(archive, tmp_path, monkeypatch):
    fetched = []

    def retrieve(url, known_hash, fname, path):
        fetched.append((url, known_hash))
        (path / fname).write_bytes(archive.read_bytes())
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    source = Source(file="new.npz", url="https://example.org/new.npz", sha256=sha256(archive))
    assert resolve_path(source) == resolve_path(source) == archive.parent / "new.npz"
    assert fetched == [(source.url, source.sha256)]


def test_a_failed_download_is_told_in_one_line(archive, monkeypatch):
    def retrieve(*_args, **_settings):
        raise ConnectionError("no route")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(ValueError, match=r"download of .* failed \(no route\): put the file at .*new\.npz yourself"):
        resolve_path(Source(file="new.npz", url="https://example.org/new.npz"))


@pytest.mark.parametrize("size", [32, 16])
def test_a_refined_probe_replaces_the_guess_even_if_refined_on_a_crop(archive, tmp_path, scan, size):
    refined = resize_far_field(scan.probe * np.exp(0.3j), size)
    flat = np.ones((8, 8))
    reconstruction = Reconstruction(
        flat.astype(complex), (0.0, 0.0), refined, scan.positions, scan.geometry, flat, flat.astype(bool)
    )
    write_reconstruction(tmp_path / "r.h5", reconstruction)
    convert(tmp_path / "a.cxi", Source(file="sample.npz", geometry=GEOMETRY), tmp_path / "r.h5")
    probe = read_scan(tmp_path / "a.cxi").probe
    np.testing.assert_allclose(resize_far_field(probe, size), refined, atol=1e-4)


def test_a_probe_of_another_field_of_view_is_told_of(archive, tmp_path, scan, caplog):
    own = read_scan_of(archive, Source(file="sample.npz", geometry=GEOMETRY)).geometry
    flat = np.ones((8, 8))
    for factor, expected in ((1.0, False), (1.05, True)):
        geometry = dataclasses.replace(own, pixel_size_m=factor * own.pixel_size_m)
        parts = flat.astype(complex), (0.0, 0.0), scan.probe, scan.positions, geometry, flat, flat.astype(bool)
        write_reconstruction(tmp_path / "r.h5", Reconstruction(*parts))
        caplog.clear()
        convert(tmp_path / "a.cxi", Source(file="sample.npz", geometry=GEOMETRY), tmp_path / "r.h5")
        assert ("it may belong to another experiment" in caplog.text) is expected


@pytest.mark.parametrize("value", [np.nan, -3.0])
def test_impossible_counts_are_told_and_left_to_pack(archive, tmp_path, capsys, caplog, value):
    arrays = dict(np.load(archive))
    arrays["data"][0, 5, 6, 7] = value
    np.savez(archive, **arrays)
    settings = json.dumps({"source": {"file": "sample.npz", "geometry": GEOMETRY}})
    assert main(["convert", str(tmp_path / "a.cxi"), "--config", settings]) == 0
    assert "sample.npz: counts hold 1 " in caplog.text and "packing.invalid_counts" in caplog.text
    assert main(["pack", str(tmp_path / "a.cxi"), str(tmp_path / "refused")]) == 2
    assert "packing.invalid_counts: mask or drop" in capsys.readouterr().err
    for treatment, patterns in (("mask", len(arrays["data"][0])), ("drop", len(arrays["data"][0]) - 1)):
        words = ["pack", str(tmp_path / "a.cxi"), str(tmp_path / treatment), "--set"]
        assert main([*words, f"packing.invalid_counts={treatment}"]) == 0
        assert len(open_dataset(tmp_path / treatment)) == patterns


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"energy_ev": 8.8}, "energy is 8.8 eV (keV?)"),
        ({"detector_distance_m": 2000.0}, "2000 m away (mm?)"),
        ({"detector_pixel_m": 0.075}, "a detector pixel is 0.075 m wide"),
    ],
)
def test_implausible_lengths_are_questioned(archive, tmp_path, caplog, change, doubt):
    convert(tmp_path / "a.cxi", Source(file="sample.npz", geometry=GEOMETRY | change))
    assert doubt in caplog.text
    caplog.clear()
    convert(tmp_path / "b.cxi", Source(file="sample.npz", geometry=GEOMETRY))
    assert "check source.geometry" not in caplog.text


def test_a_measurement_with_an_address_is_read_from_the_copy_that_was_fetched(scan, tmp_path):
    copy = tmp_path / "storage" / "beamline" / "a" / "sample.cxi"
    copy.parent.mkdir(parents=True)
    write_scan(copy, scan)
    source = Source(file="s3://beamline/a/sample.cxi")
    convert(tmp_path / "out.cxi", source, local_copy=[tmp_path / "a" / "sample.cxi", copy])
    made = read_scan(tmp_path / "out.cxi")
    np.testing.assert_array_equal(made.counts[:, scan.mask], scan.counts[:, scan.mask])
    assert made.metadata["provenance"]["config"]["source"]["file"] == source.file
    with pytest.raises(
        FileNotFoundError, match=r"local copy of s3://beamline/a/sample\.cxi not found: run the workflow"
    ):
        convert(tmp_path / "again.cxi", source)
