"""Flagged pixels of every dtype are masked, impossible counts reach pack, the beam is where the file says."""

import h5py
import numpy as np
import pytest

from ptychoflow.config import Source
from ptychoflow.core.wavelengths import electron_wavelength_m
from ptychoflow.readers.detector_view import flagged_pixels
from ptychoflow.readers.registry import read_scan_of

from .golden import GOLDEN, LENGTHS, SIZE, make_scan


def read(path, **settings):
    return read_scan_of(path, Source(file=str(path), **settings))


def write(folder, counts, **more):
    scan = make_scan()
    y, x = scan.positions.T * scan.geometry.pixel_size_m
    np.savez(folder / "a.npz", **({"patterns": counts, "position_y_m": y, "position_x_m": x} | LENGTHS | more))
    return folder / "a.npz"


@pytest.mark.parametrize(
    ("dtype", "flag"),
    [
        *(
            ("u1", 255),
            ("u2", 65535),
            ("u4", 2**32 - 1),
            ("u8", 2**64 - 1),
            ("u4", 65535),
            ("u2", 4095),
            ("u8", 2**32 - 1),
        ),
        *(("i2", 32767), ("i4", 2**31 - 1), ("i4", -1), ("i2", -1), ("i4", 65535), ("i8", 2**63 - 1), ("i4", -(2**31))),
        *(("f4", 2**32 - 1), ("f8", 2**32 - 1), ("f4", 65535), ("f8", -1), ("f4", np.nan), ("f8", np.inf)),
        *(("f4", np.finfo("f4").max), ("f8", np.finfo("f8").max), ("f4", 2**31 - 1), ("f8", 1e30)),
    ],
)
def test_a_gap_between_modules_is_masked_whatever_flags_it(dtype, flag):
    counts = make_scan().counts.clip(0, 120).astype(dtype)
    counts[:, :, 7:9] = flag
    np.testing.assert_array_equal(np.argwhere(flagged_pixels(counts).all(0)).ravel(), [7, 8])
    assert flagged_pixels(counts).sum() == 2 * SIZE


def test_counts_that_reach_a_limit_by_chance_are_not_masked():
    counts = np.random.default_rng(0).poisson(255, (24, 16, 16)).astype("u2")
    counts[:20, 3, 3] = 255
    assert not flagged_pixels(counts).any()
    assert not flagged_pixels(np.full((4, 8, 8), 255, "u2")).any(), "four equal patterns prove nothing"


def test_masked_pixels_are_told_with_their_share_of_the_counts(tmp_path, caplog):
    path = GOLDEN["cxi"][1](tmp_path, make_scan())
    with caplog.at_level("INFO"):
        read(path)
    assert "1 of 256 detector pixels are masked" in caplog.text and "inverted" not in caplog.text
    with h5py.File(path, "r+") as file:
        mask = file["entry_1/instrument_1/detector_1/mask"]
        mask[...] = 1
        mask[2:4, 2] = 0
    read(path)
    assert "254 of 256 detector pixels are masked" in caplog.text and "the mask may be inverted" in caplog.text


@pytest.mark.parametrize(("dtype", "value"), [("f4", np.nan), ("i4", -1), ("f8", 1e300), ("f4", -0.5)])
def test_single_impossible_counts_are_kept_for_pack(tmp_path, dtype, value):
    counts = make_scan().counts.astype(dtype)
    counts[3, 5, 6] = value
    found = read(write(tmp_path, counts), domain="counts")
    np.testing.assert_array_equal(found.counts[3, 5, 6], np.asarray(value, dtype))
    assert np.isfinite(found.probe).all() and np.isfinite(found.metadata["photons_measured"])


def test_a_negative_amplitude_is_no_count(tmp_path):
    amplitudes = np.sqrt(make_scan().counts).astype("f4")
    amplitudes[3, 5, 6] = -2
    assert np.isnan(read(write(tmp_path, amplitudes), domain="amplitude").counts[3, 5, 6])


def test_excluded_patterns_go_before_positions_are_paired(tmp_path):
    counts = make_scan().counts
    more = np.concatenate([counts[:2], counts[:1], counts[2:], counts[-2:]])
    with pytest.raises(ValueError, match=r"name the patterns without a position in source\.exclude"):
        read(write(tmp_path, more))
    np.testing.assert_array_equal(read(write(tmp_path, more), exclude=[2, "25:"]).counts, counts)
    both = read(write(tmp_path, counts), exclude=[0, "20:"])
    np.testing.assert_allclose(both.positions, make_scan().positions[1:20], rtol=1e-12)
    with pytest.raises(ValueError, match=r"source\.exclude names 24, expected numbers from 0 to 23"):
        read(write(tmp_path, counts), exclude=[24])


@pytest.mark.parametrize(("moved", "beam"), [((1, -2), (9.0, 6.0)), ((2, 1), (10.0, 9.0))])
def test_the_beam_of_the_file_is_used_on_a_square_detector(tmp_path, moved, beam):
    scan = make_scan()
    path = GOLDEN["nxcxi"][1](tmp_path, scan)
    with h5py.File(path, "r+") as file:
        detector = file["entry_1/instrument_1/detector_1"]
        detector["data"][...] = np.roll(detector["data"][()], moved, axis=(-2, -1))
        detector["mask"][...] = np.roll(detector["mask"][()], moved, axis=(-2, -1))
        detector["beam_center_y"], detector["beam_center_x"][...] = beam
    found = read(path)
    inner = np.s_[:, 2:-2, 2:-2]
    np.testing.assert_array_equal(found.counts[inner], scan.counts[inner])
    assert found.size == SIZE and not found.mask[-moved[0] :].any()


def test_a_beam_far_from_the_intensity_is_told_and_not_taken(tmp_path, caplog):
    path = GOLDEN["nxcxi"][1](tmp_path, make_scan())
    with h5py.File(path, "r+") as file:
        detector = file["entry_1/instrument_1/detector_1"]
        detector["beam_center_y"], detector["beam_center_x"][...] = 500.0, 600.0
    np.testing.assert_array_equal(read(path).counts, make_scan().counts)
    assert "puts the direct beam at (500.0, 600.0)" in caplog.text and "source.centre" in caplog.text


def electron_master(folder, energy_ev: float, **more):
    path = GOLDEN["eiger"][1](folder, make_scan())
    with h5py.File(path, "r+") as file:
        del file["entry/instrument/beam"]
        file["entry/instrument/detector/detectorSpecific/photon_energy"] = energy_ev
        for name, value in more.items():
            file[name.replace("__", "/")] = value
    return path


def test_the_energy_of_electrons_is_not_that_of_photons(tmp_path, caplog):
    found = read(electron_master(tmp_path, 300e3), positions="scan.csv")
    assert found.geometry.wavelength_m == pytest.approx(1.96875e-12, rel=1e-4)
    assert "energy of electrons" in caplog.text


def test_an_energy_of_either_is_asked_for(tmp_path):
    path = electron_master(tmp_path, 80e3)
    with pytest.raises(ValueError, match=r"80000 eV may be .* photons or of electrons: set source\.radiation"):
        read(path, positions="scan.csv")
    found = read(path, positions="scan.csv", radiation="electrons")
    assert found.geometry.wavelength_m == pytest.approx(4.1757e-12, rel=1e-4)


def test_a_source_or_camera_of_electrons_says_what_they_are(tmp_path):
    for name, text in (
        ("entry__instrument__source__probe", "electron"),
        ("entry__instrument__detector__description", "DECTRIS ARINA"),
    ):
        folder = tmp_path / text
        folder.mkdir()
        path = electron_master(folder, 60e3, **{name: text})
        assert read(path, positions="scan.csv").geometry.wavelength_m == electron_wavelength_m(60e3)


def test_the_photon_wavelength_of_an_electron_is_corrected(tmp_path):
    path = electron_master(tmp_path, 300e3, entry__instrument__beam__incident_wavelength=0.0413281)
    assert read(path, positions="scan.csv").geometry.wavelength_m == pytest.approx(1.96875e-12, rel=1e-4)
