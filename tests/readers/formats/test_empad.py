"""EMPAD frames of 130 x 128 are read without their two extra rows, and damaged files are refused."""

import numpy as np
import pytest

from ptychoflow.config import Source
from ptychoflow.readers.registry import read_measurement, read_scan_of, recognise

XML = """<root><raw_file filename="scan_x4_y3.raw"/>
<scan_parameters mode="search"><scan_resolution_x>9</scan_resolution_x><scan_resolution_y>9</scan_resolution_y>
</scan_parameters><scan_parameters mode="acquire"><scan_resolution_x>4</scan_resolution_x>
<scan_resolution_y>{rows}</scan_resolution_y></scan_parameters></root>"""


@pytest.fixture
def frames():
    return np.random.default_rng(0).normal(size=(12, 130, 128)).astype("<f4")


def test_extra_rows_are_left_out(tmp_path, frames):
    path = tmp_path / "scan_x4_y3.raw"
    frames.tofile(path)
    path.with_suffix(".xml").write_text(XML.format(rows=3))
    assert recognise(path) == "empad"
    measurement = read_measurement(path, Source(file=str(path)))
    assert measurement.patterns.shape == (12, 128, 128)
    np.testing.assert_array_equal(measurement.patterns[:], frames[:, :128])
    np.testing.assert_array_equal(measurement.patterns[5:7], frames[5:7, :128])
    assert measurement.radiation == "electrons"
    assert measurement.metadata["scan_shape"] == [3, 4]


def test_a_cut_file_is_refused(tmp_path, frames):
    path = tmp_path / "a.raw"
    path.write_bytes(frames.tobytes()[:-4])
    with pytest.raises(ValueError, match="expected a multiple of 66560"):
        read_measurement(path, Source(file=str(path), format="empad"))


def test_frames_other_than_the_xml_says_are_refused(tmp_path, frames):
    path = tmp_path / "a.raw"
    frames.tofile(path)
    path.with_suffix(".xml").write_text(XML.format(rows=5))
    with pytest.raises(ValueError, match="holds 12 frames, expected 5 x 4"):
        read_measurement(path, Source(file=str(path)))


def test_the_raster_takes_its_shape_from_the_xml(tmp_path, frames):
    path = tmp_path / "a.raw"
    frames.tofile(path)
    path.with_suffix(".xml").write_text(XML.format(rows=3))
    found = read_measurement(path, Source(file=str(path), raster={"step_m": [2e-10, 1e-10]}))
    positions = found.positions.scaled().values.reshape(3, 4, 2)
    np.testing.assert_allclose(positions[2, 3], (4e-10, 3e-10))
    np.testing.assert_allclose(positions[0, 1], (0, 1e-10))


def test_a_scan_of_electrons_has_their_wavelength_and_counts(tmp_path):
    counts = np.zeros((12, 130, 128), "<f4")
    y, x = np.indices((128, 128)) - 64
    counts[:, :128] = np.random.default_rng(1).poisson(20 * (np.hypot(y, x) < 12), (12, 128, 128))
    counts[:, 128:] = 1e6  # the extra rows must leave no trace
    path = tmp_path / "a.raw"
    counts.tofile(path)
    pixel = 1.96875e-12 / (128 * 2e-4)
    steps = np.stack(np.meshgrid(np.arange(3), np.arange(4), indexing="ij"), axis=-1).reshape(-1, 2)
    np.save(tmp_path / "positions.npy", steps * 6 * pixel)
    lengths = {"energy_ev": 3e5, "detector_distance_m": 1.0, "detector_pixel_m": 2e-4}
    scan = read_scan_of(path, Source(file=str(path), positions="positions.npy", geometry=lengths))
    np.testing.assert_array_equal(scan.counts, counts[:, :128])
    assert scan.geometry.wavelength_m == pytest.approx(1.96875e-12, rel=1e-4)
    assert scan.geometry.pixel_size_m == pytest.approx(pixel, rel=1e-4)
    np.testing.assert_allclose(np.ptp(scan.positions, axis=0), [12, 18], rtol=1e-3)
