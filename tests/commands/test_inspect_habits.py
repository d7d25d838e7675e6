"""Files in people's own layouts are inspected, and the config that is written reads them rightly."""

import h5py
import numpy as np
import pytest

from ptychoflow.commands.convert import convert
from ptychoflow.commands.inspect_file import inspect
from ptychoflow.config import Source, load_config
from ptychoflow.io.scan_cxi import read_scan

from ..readers.habits import HABITS, PITCH_M, make_truth


@pytest.fixture(scope="module")
def truth():
    return make_truth()


def converted(folder, path, **settings):
    report = inspect(Source(file=str(path), **settings), folder / "out")
    ((_, entry),) = load_config(folder / "out" / "config.yaml").scans.items()
    convert(folder / "scan.cxi", entry.source)
    return read_scan(folder / "scan.cxi"), report, entry


def relative(positions: np.ndarray) -> np.ndarray:
    return positions - positions[0]


@pytest.mark.parametrize("name", HABITS)
def test_the_config_that_is_written_reads_the_file(tmp_path, truth, name):
    write, settings = HABITS[name]
    scan, report, _ = converted(tmp_path, write(tmp_path, truth), **settings)
    np.testing.assert_array_equal(scan.counts, truth.counts)
    assert scan.geometry.pixel_size_m == pytest.approx(truth.pixel_m, rel=1e-6), report
    assert scan.geometry.detector_pixel_m(scan.size) == pytest.approx(PITCH_M)
    expected = relative(truth.positions_m / truth.pixel_m)
    found = relative(scan.positions)
    turned = np.sign(np.sum(found * expected))  # without a probe the scan may be turned by 180 degrees as a whole
    np.testing.assert_allclose(turned * found, expected, atol=1e-3, err_msg=report)
    assert "turned by 180 degrees" in report


def test_a_datacube_of_electrons_needs_its_voltage_alone(tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.indices((32, 32)) - 16
    counts = rng.poisson(50 * (np.hypot(y, x) < 8), (6, 7, 32, 32)).astype("u2")
    with h5py.File(tmp_path / "stem.h5", "w") as file:
        file["datacube_root/datacube/data"] = counts
        for axis, (step, unit) in enumerate(((5.0, "Å"), (5.0, "Å"), (0.02, "A^-1"), (0.02, "A^-1"))):
            file[f"datacube_root/datacube/dim{axis}"] = np.arange(counts.shape[axis]) * step
            file[f"datacube_root/datacube/dim{axis}"].attrs["units"] = unit
    asked = inspect(Source(file=str(tmp_path / "stem.h5")), tmp_path / "asked")
    assert "missing: lengths: wavelength not found" in asked
    assert "geometry" not in (tmp_path / "asked" / "config.yaml").read_text().replace("source.geometry", "")
    scan, report, _ = converted(tmp_path, tmp_path / "stem.h5", geometry={"energy_ev": 300e3})
    assert scan.geometry.wavelength_m == pytest.approx(1.96875e-12, rel=1e-4), report
    np.testing.assert_allclose(np.ptp(scan.positions, axis=0), [5 * 5 * 0.64, 6 * 5 * 0.64])
    with h5py.File(tmp_path / "stem.h5", "r+") as file:
        file["datacube_root/metadata/accelerating_voltage"] = 300.0
    (tmp_path / "known").mkdir()
    scan, report, _ = converted(tmp_path / "known", tmp_path / "stem.h5")
    assert scan.geometry.wavelength_m == pytest.approx(1.96875e-12, rel=1e-4), report
