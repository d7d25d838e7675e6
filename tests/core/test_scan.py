"""A scan is consistent, and its CXI file gives it back and opens for others."""

import dataclasses

import h5py
import numpy as np
import pytest

from ptychoflow.core.scan import Geometry, GroundTruth, check_counts, check_photons, smallest_dtype
from ptychoflow.io.scan_cxi import iterate_counts, read_scan, write_scan


@pytest.fixture
def path(tmp_path, scan):
    write_scan(tmp_path / "sample.cxi", scan)
    return tmp_path / "sample.cxi"


def test_what_is_written_is_what_is_read(path, scan):
    read = read_scan(path)
    for name in ("counts", "positions", "probe", "mask"):
        np.testing.assert_array_equal(getattr(read, name), getattr(scan, name))
        assert getattr(read, name).dtype == getattr(scan, name).dtype
    np.testing.assert_array_equal(read.truth.object, scan.truth.object)
    assert read.geometry == pytest.approx(scan.geometry) or read.geometry == scan.geometry
    assert (read.name, read.metadata) == (scan.name, scan.metadata)


def test_other_programs_find_what_cxi_promises(path, scan):
    with h5py.File(path) as file:
        assert file["cxi_version"][()] == 160
        assert file["entry_1/data_1/data"].shape == scan.counts.shape
        assert file["entry_1/instrument_1/source_1/energy"][()] == pytest.approx(
            scan.geometry.energy_ev * 1.602176634e-19
        )
        assert file["entry_1/instrument_1/detector_1/mask"][3, 5] != 0
        assert file["entry_1/instrument_1/detector_1/mask"][0, 0] == 0
        x, y, z = file["entry_1/sample_1/geometry_1/translation"][()].T
    np.testing.assert_allclose(np.stack([y, x], 1), scan.positions * scan.geometry.pixel_size_m)
    assert not z.any()


def test_patterns_read_in_pieces_are_the_same(path, scan):
    pieces = list(iterate_counts(path, chunk_bytes=7 * 32 * 32 * 2))
    assert [len(piece) for piece in pieces] == [7] * 5 + [5]
    np.testing.assert_array_equal(np.concatenate(pieces), scan.counts)


def test_patterns_written_in_pieces_are_the_same(tmp_path, scan):
    write_scan(tmp_path / "a.cxi", scan, chunks=iter(np.array_split(scan.counts, 3)))
    np.testing.assert_array_equal(read_scan(tmp_path / "a.cxi").counts, scan.counts)


def test_patterns_left_on_disk_cost_no_memory(path, scan):
    counts = read_scan(path, counts=False).counts
    assert (counts.shape, counts.dtype, counts.strides) == (scan.counts.shape, scan.counts.dtype, (0, 0, 0))


def test_object_pixel_follows_from_the_detector():
    geometry = Geometry.from_detector(size=64, energy_ev=8800, detector_distance_m=2.0, detector_pixel_m=75e-6)
    assert geometry.wavelength_m == pytest.approx(1.4089e-10, rel=1e-4)
    assert geometry.pixel_size_m == pytest.approx(geometry.wavelength_m * 2.0 / (64 * 75e-6))
    assert geometry.detector_pixel_m(64) == pytest.approx(75e-6)
    assert geometry.energy_ev == pytest.approx(8800)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], "uint8"),
        ([256], "uint16"),
        ([65536.0], "uint32"),
        ([0.5], "float32"),
        ([0.1], "float64"),
        ([], "uint8"),
    ],
)
def test_the_smallest_dtype_loses_nothing(values, dtype):
    counts = np.array(values, np.float64)
    assert smallest_dtype(counts) == dtype
    np.testing.assert_array_equal(counts.astype(dtype), counts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": np.zeros((40, 32, 31))}, "expected \\(patterns, N, N\\)"),
        ({"counts": np.zeros((0, 32, 32)), "positions": np.zeros((0, 2))}, "0 patterns"),
        ({"positions": np.zeros((39, 2))}, "positions of shape \\(39, 2\\) for 40 diffraction patterns"),
        ({"positions": np.full((40, 2), np.nan)}, "positions hold NaN"),
        ({"probe": np.zeros((1, 16, 16), complex)}, "probe has shape"),
        ({"probe": np.zeros((1, 32, 32), complex)}, "all zeros or holds NaN"),
        ({"mask": np.ones((16, 16), bool)}, "mask has shape"),
        ({"mask": np.ones((32, 32), int)}, "mask holds int64, expected bool: True where a pixel is valid"),
        ({"mask": np.zeros((32, 32), bool)}, "every detector pixel is masked: the mask may be inverted"),
    ],
)
def test_what_does_not_fit_together_is_no_scan(scan, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(scan, **change)


@pytest.mark.parametrize(("scale", "warned"), [(1e-3, True), (0.9, False), (1.1, False), (8.0, False), (1e3, True)])
def test_a_probe_that_is_not_in_photons_is_told(scan, caplog, scale, warned):
    blocked = dataclasses.replace(scan, probe=np.float32(scale) * scan.probe)
    check_photons(blocked, scan.photons)
    assert ("scale the probe to sqrt(photons)" in caplog.text) == warned


def test_light_that_a_beamstop_takes_is_not_missed(scan, caplog):
    check_photons(scan, 1e-4 * scan.photons)
    assert "scale the probe to sqrt(photons)" in caplog.text
    caplog.clear()
    y, x = np.indices((32, 32)) - 16
    stopped = dataclasses.replace(scan, mask=np.hypot(y, x) > 10)
    on_mask = np.sum(np.abs(np.fft.fftshift(np.fft.fft2(scan.probe, norm="ortho"))) ** 2 * stopped.mask)
    assert on_mask < 1e-2 * scan.photons
    check_photons(stopped, on_mask)
    assert not caplog.text


@pytest.mark.parametrize("name", ["pixel_size_m", "wavelength_m", "detector_distance_m"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_lengths_are_positive(scan, name, value):
    with pytest.raises(ValueError, match=f"{name} is .* expected a positive length"):
        dataclasses.replace(scan.geometry, **{name: value})


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "NaN"), (-1.0, "negative")])
def test_counts_that_no_detector_gives_are_refused_where_they_enter(tmp_path, scan, value, kind):
    counts = scan.counts.astype(np.float32)
    counts[3, 4, 5] = value
    with pytest.raises(ValueError, match=rf"1 {kind}.*the first at \(3, 4, 5\)"):
        check_counts(counts)
    write_scan(tmp_path / "a.cxi", dataclasses.replace(scan, counts=counts))
    with pytest.raises(ValueError, match=kind):
        read_scan(tmp_path / "a.cxi")
    with pytest.raises(ValueError, match=kind):
        list(iterate_counts(tmp_path / "a.cxi"))


def test_a_missing_scan_is_told_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="scan not found"):
        read_scan(tmp_path / "a.cxi")


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5])
def test_a_truncated_scan_is_refused(path, keep):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ValueError, match="truncated"):
        read_scan(path)


def test_another_programs_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        file["entry_1/data"] = 1
    with pytest.raises(ValueError, match="not a ptychoflow scan"):
        read_scan(tmp_path / "a.cxi")


def test_a_ground_truth_is_an_image(scan):
    with pytest.raises(ValueError, match=r"ground truth has shape \(7200,\), expected \(H, W\)"):
        dataclasses.replace(scan, truth=GroundTruth(scan.truth.object.reshape(-1)))
