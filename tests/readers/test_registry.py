"""Every format gives the scan it was written from, and everything a format lacks is asked for in one line."""

import h5py
import numpy as np
import pytest

from ptychoflow.config import FORMATS, Source
from ptychoflow.core.scan import Scan
from ptychoflow.readers import conversion
from ptychoflow.readers.registry import READERS, read_measurement, read_scan_of, recognise

from .golden import GOLDEN, LENGTHS, SIZE, make_scan


def read(folder, name: str, **more) -> tuple[Scan, Scan]:
    """The golden scan, and what is read of it in one format."""
    scan = make_scan()
    _, write, settings = GOLDEN[name]
    path = write(folder, scan)
    return scan, read_scan_of(path, Source(file=str(path), **settings | more))


OF_MICROSCOPES = {"empad", "merlin", "digital_micrograph", "blockfile", "hspy", "zspy"}
"""Formats of electron microscopes, which cannot hold the golden scan of photons: their tests are in formats/"""


def test_the_config_knows_every_reader():
    assert set(READERS) == set(FORMATS)
    assert {format for format, _, _ in GOLDEN.values()} == set(FORMATS) - OF_MICROSCOPES


@pytest.mark.parametrize("name", GOLDEN)
def test_a_file_is_recognised(tmp_path, name):
    format, write, _ = GOLDEN[name]
    assert recognise(write(tmp_path, make_scan())) == format


@pytest.mark.parametrize("name", GOLDEN)
def test_counts_come_back_exactly(tmp_path, name):
    scan, found = read(tmp_path, name)
    order = slice(None, None, -1) if name == "standard_directory" else slice(None)
    if name == "hxn":  # amplitudes: squares of float32 square roots
        np.testing.assert_allclose(found.counts, scan.counts, rtol=1e-6)
    else:
        np.testing.assert_array_equal(found.counts[order], scan.counts)
    assert found.name


@pytest.mark.parametrize("name", GOLDEN)
def test_positions_keep_axes_unit_and_origin(tmp_path, name):
    scan, found = read(tmp_path, name)
    order = slice(None, None, -1) if name == "standard_directory" else slice(None)
    start = scan.positions[0] if name == "emd" else 0  # a raster without an origin
    np.testing.assert_allclose(found.positions[order] + start, scan.positions, atol=2e-3)


@pytest.mark.parametrize("name", GOLDEN)
def test_lengths_follow_whatever_a_format_tells_of_them(tmp_path, name):
    scan, found = read(tmp_path, name)
    assert found.geometry.pixel_size_m == pytest.approx(scan.geometry.pixel_size_m, rel=1e-6)
    assert found.geometry.wavelength_m == pytest.approx(scan.geometry.wavelength_m, rel=1e-4)
    assert found.metadata["nominal_geometry"] == (
        "geometry" in GOLDEN[name][2] or name in ("fold_slice", "matlab_v5", "matlab_v73", "named")
    )


@pytest.mark.parametrize("name", GOLDEN)
def test_a_probe_comes_in_photons_and_the_right_way_round(tmp_path, name):
    scan, found = read(tmp_path, name)
    assert found.probe.shape == (1, SIZE, SIZE) and found.probe.dtype == np.complex64
    assert found.photons == pytest.approx(scan.photons, rel=0.15)
    if name in ("ours", "cxi", "standard_directory", "tike", "matlab_v5", "matlab_v73", "ptychopinn", "slac"):
        overlap = abs(np.vdot(found.probe, scan.probe)) ** 2
        assert overlap == pytest.approx(found.photons * scan.photons, rel=1e-5)


@pytest.mark.parametrize(
    "name", ["ours", "cxi", "nxcxi", "eiger", "standard_directory", "ptychodus_training", "ptychodus_npz", "ptypy"]
)
def test_a_mask_keeps_its_sense_and_place(tmp_path, name):
    scan, found = read(tmp_path, name)
    np.testing.assert_array_equal(found.mask, scan.mask)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_scan_too_large_to_read_at_once_stays_on_disk_and_reads_the_same(tmp_path, name, monkeypatch):
    _, at_once = read(tmp_path, name)
    monkeypatch.setattr(conversion, "IN_MEMORY_BYTES", 0)
    _, found = read_again(tmp_path, name)
    assert not isinstance(found.counts, np.ndarray)
    pieces = np.concatenate([found.counts[start : start + 5] for start in range(0, len(found), 5)])
    np.testing.assert_array_equal(pieces, at_once.counts)
    np.testing.assert_array_equal(found.counts[[3, 1, -1]], at_once.counts[[3, 1, -1]])
    np.testing.assert_array_equal(found.counts[1::7], at_once.counts[1::7])


def read_again(folder, name: str) -> tuple[Scan, Scan]:
    (folder / "again").mkdir()
    return read(folder / "again", name)


@pytest.mark.parametrize("name", ["ours", "standard_directory", "ptychodus_training", "ptychopinn"])
def test_an_object_is_the_truth_only_where_somebody_says_so(tmp_path, name):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    scan, found = read(tmp_path / "a", name, object_is_ground_truth=True)
    np.testing.assert_array_equal(found.truth.object, scan.truth.object)
    half = 0.5 if name in ("ptychodus_training", "ptychopinn") else 0.0  # these files were written with our positions
    np.testing.assert_allclose(found.truth.origin, (-half, -half), atol=1e-6)
    if name != "ours":
        assert read(tmp_path / "b", name)[1].truth is None


def test_floating_point_patterns_of_ptychopinn_need_a_domain(tmp_path):
    scan = make_scan()
    coordinates = {"ycoords": scan.positions[:, 0], "xcoords": scan.positions[:, 1]}
    np.savez(tmp_path / "a.npz", diff3d=np.sqrt(scan.counts).astype(np.float32), **coordinates)
    source = {"file": str(tmp_path / "a.npz"), "geometry": LENGTHS}
    with pytest.raises(ValueError, match=r"set source\.domain to counts or amplitude"):
        read_scan_of(tmp_path / "a.npz", Source(**source))
    found = read_scan_of(tmp_path / "a.npz", Source(**source, domain="amplitude"))
    np.testing.assert_allclose(found.counts, scan.counts, rtol=1e-6)


def test_patterns_are_cut_to_a_square_around_the_beam(tmp_path):
    scan = make_scan()
    wide = np.zeros((len(scan), SIZE + 6, SIZE + 10), np.uint16)
    wide[:, 4 : 4 + SIZE, 7 : 7 + SIZE] = scan.counts
    np.save(tmp_path / "wide.npy", wide)
    np.save(tmp_path / "positions.npy", scan.positions * scan.geometry.pixel_size_m)
    source = Source(
        file="wide.npy", positions="positions.npy", geometry=LENGTHS, centre=(4 + SIZE // 2, 7 + SIZE // 2), size=SIZE
    )
    found = read_scan_of(tmp_path / "wide.npy", source)
    np.testing.assert_array_equal(found.counts, scan.counts)
    assert found.geometry.pixel_size_m == pytest.approx(scan.geometry.pixel_size_m)
    np.testing.assert_allclose(found.positions, scan.positions)


def test_a_square_beyond_the_detector_is_dark_and_masked_there(tmp_path):
    scan = make_scan()
    np.save(tmp_path / "a.npy", scan.counts)
    np.save(tmp_path / "positions.npy", scan.positions * scan.geometry.pixel_size_m)
    source = Source(file="a.npy", positions="positions.npy", geometry=LENGTHS, size=24)
    found = read_scan_of(tmp_path / "a.npy", source)
    np.testing.assert_array_equal(found.counts[:, 4:-4, 4:-4], scan.counts)
    assert found.mask[4:-4, 4:-4].all() and found.mask.sum() == SIZE**2


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        ({"transpose": True}, lambda y, x: (x, y)),
        ({"flip_y": True}, lambda y, x: (-y, x)),
        ({"transpose": True, "flip_x": True}, lambda y, x: (x, -y)),
        ({"rotation_deg": 90}, lambda y, x: (-x, y)),
    ],
)
def test_positions_are_turned_as_told(tmp_path, orientation, expected):
    scan, found = read(tmp_path, "cxi", orientation=orientation)
    np.testing.assert_allclose(found.positions, np.stack(expected(*scan.positions.T), axis=1), atol=1e-6)


def test_the_probe_may_come_from_a_product(tmp_path):
    scan = make_scan()
    product = GOLDEN["standard_directory"][1](tmp_path, scan) / "product.h5"
    path = GOLDEN["eiger"][1](tmp_path, scan)
    found = read_scan_of(path, Source(file=str(path), positions="golden/product.h5", probe=str(product)))
    overlap = abs(np.vdot(found.probe, scan.probe)) ** 2
    assert overlap == pytest.approx(found.photons * scan.photons, rel=1e-5)
    np.testing.assert_allclose(found.positions, scan.positions, atol=1e-6)


def test_a_ptypy_reconstruction_gives_its_probe(tmp_path):
    scan = make_scan()
    with h5py.File(tmp_path / "last.ptyr", "w") as file:
        file["content/probe/Sscan00G00/data"] = scan.probe
    path = GOLDEN["ptypy"][1](tmp_path, scan)
    found = read_measurement(path, Source(file=str(path), probe="last.ptyr"))
    np.testing.assert_array_equal(found.probe, scan.probe)


def test_a_wrong_place_of_the_beam_is_warned_of(tmp_path, caplog):
    scan = make_scan()
    with h5py.File(GOLDEN["ptypy"][1](tmp_path, scan), "r+") as file:
        file["chunks/0/data"][:] = np.fft.ifftshift(scan.counts[:12], axes=(-2, -1))
    with h5py.File(tmp_path / "scan.ptyd.part001", "r+") as file:
        file["data"][:] = np.fft.ifftshift(scan.counts[12:], axes=(-2, -1))
    read_scan_of(tmp_path / "scan.ptyd", Source(file="scan.ptyd"))
    assert "set source.zero_frequency" in caplog.text


@pytest.mark.parametrize(
    ("name", "remove", "message"),
    [
        ("eiger", "positions", r"positions not found in .*: give their file in source\.positions"),
        (
            "ptychopinn",
            "geometry",
            r"wavelength not found in .*: give energy, distance and pixel size in source\.geometry",
        ),
        ("emd", "geometry", r"wavelength not found in .*"),
    ],
)
def test_what_a_file_lacks_is_asked_for(tmp_path, name, remove, message):
    _, write, settings = GOLDEN[name]
    path = write(tmp_path, make_scan())
    kept = {key: value for key, value in settings.items() if key != remove}
    with pytest.raises(ValueError, match=message) as caught:
        read_scan_of(path, Source(file=str(path), **kept))
    assert "\n" not in str(caught.value)


def test_detector_pixels_that_are_not_square_are_refused(tmp_path):
    path = GOLDEN["cxi"][1](tmp_path, make_scan())
    with h5py.File(path, "r+") as file:
        file["entry_1/instrument_1/detector_1/x_pixel_size"][()] = 55e-6
    with pytest.raises(ValueError, match="expected square ones"):
        read_scan_of(path, Source(file=str(path)))
