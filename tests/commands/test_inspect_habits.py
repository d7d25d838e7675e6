"""Files in people's own layouts are inspected, and the config that is written reads them rightly."""

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
