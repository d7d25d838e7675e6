"""Scans go out to PtychoPINN's raw NPZ and come back; the unit is in the file, never guessed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ptychoflow.api import PtychoDataLoader
from ptychoflow.cli.main import main
from ptychoflow.config import Trajectory
from ptychoflow.core.scan import Scan
from ptychoflow.interop.ptychopinn.npz import read_npz, write_npz
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.scan_cxi import read_scan, write_scan
from ptychoflow.simulation.acquisition import cut_labels, simulate_multiple_experiments

CONTRACT = {
    "diff3d": ("float32", 3),
    "xcoords": ("float64", 1),
    "ycoords": ("float64", 1),
    "xcoords_start": ("float64", 1),
    "ycoords_start": ("float64", 1),
    "probeGuess": ("complex64", 2),
    "objectGuess": ("complex64", 2),
    "scan_index": ("int64", 1),
    "label": ("complex64", 3),
}


@pytest.fixture
def simulated() -> Scan:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] - 16
    probe = (np.exp(-(y**2 + 1.3 * x**2) / 30 + 0.02j * x**2) * 30).astype(np.complex64)
    image = (rng.uniform(0.5, 1, (60, 80)) * np.exp(1j * rng.uniform(-1, 1, (60, 80)))).astype(np.complex64)
    return simulate_multiple_experiments([image], [probe], Trajectory(step_px=7))[0]


def _without(path: Path, *names: str) -> Path:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name not in names}
    np.savez(path, **arrays)
    return path


def test_the_file_has_the_keys_shapes_and_dtypes_of_the_contract(tmp_path, simulated):
    write_npz(tmp_path / "scan.npz", simulated)
    with np.load(tmp_path / "scan.npz", allow_pickle=False) as archive:
        assert {name: (str(archive[name].dtype), archive[name].ndim) for name in CONTRACT} == CONTRACT
        assert archive["diff3d"].shape == archive["label"].shape == simulated.counts.shape
        assert archive["measurement_domain"] == "count_intensity"
        assert np.array_equal(archive["label"], cut_labels(simulated))


def test_counts_probe_and_positions_come_back(tmp_path, simulated):
    write_npz(tmp_path / "scan.npz", simulated)
    read = read_npz(tmp_path / "scan.npz")
    assert np.array_equal(read.counts, simulated.counts)
    assert read.counts.dtype == simulated.counts.dtype
    np.testing.assert_allclose(read.probe, simulated.probe, rtol=1e-6)
    assert np.array_equal(read.truth.object, simulated.truth.object)
    np.testing.assert_allclose(read.positions - read.truth.origin, simulated.positions - simulated.truth.origin)
    np.testing.assert_allclose(cut_labels(read), cut_labels(simulated), atol=1e-5)
    assert read.geometry.pixel_size_m == pytest.approx(simulated.geometry.pixel_size_m)


def test_amplitudes_are_square_roots_of_counts(tmp_path, simulated):
    write_npz(tmp_path / "scan.npz", simulated, domain="amplitude")
    with np.load(tmp_path / "scan.npz") as archive:
        np.testing.assert_allclose(archive["diff3d"], np.sqrt(simulated.counts), rtol=1e-6)
        assert archive["measurement_domain"] == "normalized_amplitude"
    np.testing.assert_allclose(read_npz(tmp_path / "scan.npz").counts, simulated.counts, rtol=1e-5)


def test_a_legacy_file_needs_to_be_told_its_unit(tmp_path, simulated):
    write_npz(tmp_path / "scan.npz", simulated)
    path = _without(tmp_path / "scan.npz", "measurement_domain")
    with pytest.raises(
        ValueError, match="does not say whether diff3d holds counts or amplitudes: say which with domain"
    ):
        read_npz(path)
    assert np.array_equal(read_npz(path, domain="counts").counts, simulated.counts)


def test_a_file_is_not_contradicted_and_its_unit_must_be_known(tmp_path, simulated):
    write_npz(tmp_path / "scan.npz", simulated)
    with pytest.raises(ValueError, match="holds counts, not amplitude: leave domain out"):
        read_npz(tmp_path / "scan.npz", domain="amplitude")
    with np.load(tmp_path / "scan.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(tmp_path / "odd.npz", **arrays | {"measurement_domain": np.array("volts")})
    with pytest.raises(
        ValueError, match="measurement_domain is volts, expected count_intensity or normalized_amplitude"
    ):
        read_npz(tmp_path / "odd.npz")


def test_an_object_of_ones_is_no_truth(tmp_path, simulated):
    write_npz(tmp_path / "scan.npz", dataclasses.replace(simulated, truth=None))
    with np.load(tmp_path / "scan.npz") as archive:
        assert "label" not in archive.files
        assert (archive["objectGuess"] == 1).all()
    assert read_npz(tmp_path / "scan.npz").truth is None


def test_modes_and_mask_come_back(tmp_path, simulated):
    mask = np.ones((32, 32), bool)
    mask[3, 4] = False
    probe = np.concatenate([simulated.probe, 0.3 * np.roll(simulated.probe, 2, axis=1)])
    write_npz(tmp_path / "scan.npz", dataclasses.replace(simulated, probe=probe, mask=mask))
    read = read_npz(tmp_path / "scan.npz")
    np.testing.assert_allclose(read.probe, probe, rtol=1e-6)
    assert not read.mask[3, 4]


def test_counts_may_come_in_pieces(tmp_path, simulated):
    pieces = (simulated.counts[first : first + 3] for first in range(0, len(simulated), 3))
    write_npz(tmp_path / "pieces.npz", simulated, chunks=pieces)
    assert np.array_equal(read_npz(tmp_path / "pieces.npz").counts, simulated.counts)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="not found"):
        read_npz(tmp_path / "nothing.npz")


# --- where its users try ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "folder", "list", "text"])
def test_a_loader_reads_archives_wherever_they_are(tmp_path, simulated, place):
    for name in ("a", "b"):
        write_npz(tmp_path / f"{name}.npz", simulated)
    data = {"file": tmp_path / "a.npz", "folder": tmp_path, "list": [tmp_path / "a.npz"], "text": str(tmp_path)}[place]
    scans = PtychoDataLoader(data).scans
    assert len(scans) == (1 if place in ("file", "list") else 2)
    assert np.array_equal(scans[0].counts, simulated.counts)
    assert np.array_equal(scans[0].truth.object, simulated.truth.object)


def test_a_folder_without_scans_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"holds neither a dataset nor scans \(\.cxi, \.npz"):
        PtychoDataLoader(tmp_path)


def test_a_loader_needs_the_unit_where_the_file_lacks_it(tmp_path, simulated):
    write_npz(tmp_path / "scan.npz", simulated)
    path = _without(tmp_path / "scan.npz", "measurement_domain", "scale_contract_version")
    with pytest.raises(ValueError, match="say which with domain"):
        PtychoDataLoader(path)
    assert np.array_equal(PtychoDataLoader(path, domain="counts").scans[0].counts, simulated.counts)


@pytest.mark.parametrize("name", ["diff3d", "diffraction"])
@pytest.mark.parametrize("last", [False, True])
def test_either_name_and_either_order_of_axes_is_read(tmp_path, simulated, name, last):
    write_npz(tmp_path / "scan.npz", simulated)
    with np.load(tmp_path / "scan.npz") as archive:
        arrays = {key: archive[key] for key in archive.files if key not in ("label", "xcoords_start", "ycoords_start")}
    patterns = arrays.pop("diff3d")
    assert patterns.shape[0] != patterns.shape[-1]
    np.savez(tmp_path / "legacy.npz", **arrays, **{name: np.moveaxis(patterns, 0, -1) if last else patterns})
    read = read_npz(tmp_path / "legacy.npz")
    assert np.array_equal(read.counts, simulated.counts)
    np.testing.assert_allclose(read.probe, simulated.probe, rtol=1e-6)


def test_an_archive_is_packed_at_once(tmp_path, simulated):
    write_npz(tmp_path / "scan.npz", simulated)
    assert main(["pack", str(tmp_path / "scan.npz"), str(tmp_path / "dataset")]) == 0
    packed = open_dataset(tmp_path / "dataset")
    assert np.array_equal(packed.counts, simulated.counts) and packed.name == "dataset"


def test_an_archive_of_a_scan_with_a_ground_truth_holds_its_labels(tmp_path, simulated):
    write_scan(tmp_path / "scan.cxi", simulated)
    write_scan(tmp_path / "blind.cxi", dataclasses.replace(simulated, truth=None))
    for name in ("scan", "blind"):
        assert main(["export", str(tmp_path / f"{name}.cxi"), str(tmp_path / f"{name}.ptychopinn.npz")]) == 0
    with np.load(tmp_path / "scan.ptychopinn.npz") as archive:
        np.testing.assert_allclose(archive["label"], cut_labels(simulated), atol=1e-5)
    with np.load(tmp_path / "blind.ptychopinn.npz") as archive:
        assert "label" not in archive and (archive["objectGuess"] == 1).all()


def test_an_archive_in_place_of_a_scan_is_named_as_what_it_is(tmp_path, simulated):
    write_npz(tmp_path / "scan.cxi", simulated)
    with pytest.raises(ValueError, match="is an NPZ archive, not a scan of ptychoflow"):
        read_scan(tmp_path / "scan.cxi")
