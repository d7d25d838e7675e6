"""tike archives become scans, or one clear line."""

import bz2
import io
import zipfile

import numpy as np
import pytest

from ptychoflow.config import MeasuredGeometry, Source
from ptychoflow.core.scan import Scan
from ptychoflow.readers.registry import read_scan_of

GEOMETRY = MeasuredGeometry(energy_ev=8800, detector_distance_m=2.0, detector_pixel_m=75e-6)


def read_tike_npz(path, geometry) -> Scan:
    return read_scan_of(path, Source(file=str(path), format="tike_npz", geometry=geometry))


@pytest.fixture
def arrays(scan):
    return {
        "data": np.fft.ifftshift(scan.counts, axes=(-2, -1))[None].astype(np.float32),
        "scan": (scan.positions - 16)[None].astype(np.float32),
        "probe": (0.01 * scan.probe)[None, None, None],
    }


def _archive(arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("compress", [bytes, bz2.compress])
def test_an_archive_becomes_the_scan_it_was_made_from(tmp_path, scan, arrays, compress):
    path = tmp_path / "sample.npz"
    path.write_bytes(compress(_archive(arrays)))
    read = read_tike_npz(path, GEOMETRY)
    np.testing.assert_array_equal(read.counts, scan.counts)
    assert read.counts.dtype == np.uint8
    np.testing.assert_allclose(read.positions, scan.positions, atol=1e-5)
    assert read.photons == pytest.approx(scan.counts.sum() / len(scan), rel=1e-5)
    overlap = np.vdot(read.probe, scan.probe)
    assert abs(overlap) ** 2 == pytest.approx(read.photons * scan.photons, rel=1e-5)
    assert read.geometry.detector_pixel_m(32) == pytest.approx(75e-6)


@pytest.mark.parametrize("corner", [True, False])
def test_an_archive_without_angles_and_with_integers_is_the_same_scan(tmp_path, scan, arrays, corner):
    counts = scan.counts.astype(np.uint16)
    counts[:, 12:20, 12:20] += 500
    arrays = {name: array[0] for name, array in arrays.items()}
    arrays["data"] = np.fft.ifftshift(counts, axes=(-2, -1)) if corner else counts
    (tmp_path / "a.npz").write_bytes(_archive(arrays))
    read = read_tike_npz(tmp_path / "a.npz", GEOMETRY)
    np.testing.assert_array_equal(read.counts, counts)
    np.testing.assert_allclose(read.positions, scan.positions, atol=1e-5)


def test_counts_that_are_not_whole_stay_as_they_are(tmp_path, arrays):
    arrays["data"] = arrays["data"] + 0.5
    (tmp_path / "a.npz").write_bytes(_archive(arrays))
    assert read_tike_npz(tmp_path / "a.npz", GEOMETRY).counts.dtype == np.float32


def _set(name, index, value):
    def change(arrays):
        arrays[name][index] = value

    return change


def _replace(name, array):
    return lambda arrays: arrays.update({name: array})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("scan", (0, slice(None), 0), np.nan), "positions of .* are NaN"),
        (_replace("data", np.zeros((40, 32, 32), np.float32)), r"expected real \(angles, patterns, N, N\)"),
        (_replace("data", np.zeros((1, 40, 32, 32), complex)), "expected real"),
        (_replace("data", np.array([[[[{}]]]])), "expected plain numbers"),
        (_replace("scan", np.zeros((1, 39, 2), np.float32)), "for 40 diffraction patterns"),
        (_replace("probe", np.zeros((1, 1, 1, 1, 32, 32), complex)), "the probe is all zeros"),
        (_replace("probe", np.ones((1, 1, 1, 1, 16, 16), complex)), "got a probe of shape"),
        (lambda arrays: arrays.pop("scan"), "array scan not found"),
    ],
)
def test_a_wrong_archive_is_told_in_one_line(tmp_path, arrays, change, message):
    change(arrays)
    (tmp_path / "a.npz").write_bytes(_archive(arrays))
    with pytest.raises(ValueError, match=message) as caught:
        read_tike_npz(tmp_path / "a.npz", GEOMETRY)
    assert "\n" not in str(caught.value)


def test_patterns_without_a_position_are_left_out_and_counted(tmp_path, scan, arrays):
    arrays["scan"][0, 5] = np.nan
    (tmp_path / "a.npz").write_bytes(_archive(arrays))
    read = read_tike_npz(tmp_path / "a.npz", GEOMETRY)
    np.testing.assert_array_equal(read.counts, np.delete(scan.counts, 5, axis=0))
    assert read.metadata["patterns_without_position"] == 1


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.9, 0.999])
@pytest.mark.parametrize("compress", [bytes, bz2.compress])
def test_a_truncated_archive_is_told_in_one_line(tmp_path, arrays, compress, keep):
    whole = compress(_archive(arrays))
    (tmp_path / "a.npz").write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ValueError, match="download it again"):
        read_tike_npz(tmp_path / "a.npz", GEOMETRY)


def test_a_flipped_bit_is_found(tmp_path, arrays):
    whole = bytearray(_archive(arrays))
    whole[len(whole) // 2] ^= 1
    (tmp_path / "a.npz").write_bytes(whole)
    with pytest.raises(ValueError, match="damaged"):
        read_tike_npz(tmp_path / "a.npz", GEOMETRY)


def test_a_shape_larger_than_the_archive_is_not_believed(tmp_path, arrays):
    header = io.BytesIO()
    shape = (1, 10**9, 32, 32)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("data.npy", header.getvalue() + bytes(1000))
    with pytest.raises(ValueError, match="more than the archive holds"):
        read_tike_npz(tmp_path / "a.npz", GEOMETRY)


def test_lengths_must_be_given(tmp_path, arrays):
    (tmp_path / "a.npz").write_bytes(_archive(arrays))
    with pytest.raises(ValueError, match=r"give energy, distance and pixel size in source\.geometry"):
        read_tike_npz(tmp_path / "a.npz", None)


def test_the_siemens_star_is_what_its_readme_says(real_data):
    scan = read_tike_npz(real_data / "siemens-star-small.npz.bz2", GEOMETRY)
    assert scan.counts.shape == (516, 128, 128)
    assert scan.counts.dtype == np.uint16
    mean = scan.counts.mean(0, dtype=np.float64)
    y, x = (np.average(grid, weights=mean) for grid in np.indices(mean.shape))
    assert abs(y - 64) < 8 and abs(x - 64) < 8, "zero frequency lies in the centre"
