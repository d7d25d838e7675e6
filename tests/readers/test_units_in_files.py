"""Every format takes its units from one strict reader; what the file says badly, a setting says better."""

import h5py
import numpy as np
import pytest

from ptychoflow.config import Source
from ptychoflow.readers.registry import read_scan_of

from .golden import GOLDEN, make_scan

ENERGY, MOVED = "entry_1/instrument_1/source_1/energy", "entry_1/data_1/translation"


@pytest.fixture
def cxi(tmp_path):
    return GOLDEN["cxi"][1](tmp_path, make_scan())


def change(path, name: str, scale: float, unit) -> None:
    with h5py.File(path, "r+") as file:
        file[name][...] = file[name][()] * scale
        file[name].attrs["units"] = unit


def read(path, **settings):
    return read_scan_of(path, Source(file=str(path), **settings))


@pytest.mark.parametrize(
    "unit", ["millimeters", np.array([b"mm"]), np.array(["mm"], h5py.string_dtype()), "[m_m]", b"Millimetres"]
)
def test_positions_follow_the_unit_in_any_wrapping(cxi, unit):
    change(cxi, MOVED, 1e3, unit)
    np.testing.assert_allclose(read(cxi).positions, make_scan().positions, atol=2e-3)


def test_a_unit_given_by_hand_replaces_that_of_the_file(cxi):
    change(cxi, MOVED, 1e6, "mm")
    np.testing.assert_allclose(read(cxi, position_unit="um").positions, make_scan().positions, atol=2e-3)


def test_an_unknown_unit_of_positions_is_named_with_a_remedy_that_works(cxi):
    change(cxi, MOVED, 1e6, "steps")
    with pytest.raises(ValueError, match=r"translation has the unknown unit 'steps'.*set source\.position_unit"):
        read(cxi)
    np.testing.assert_allclose(read(cxi, position_unit="um").positions, make_scan().positions, atol=2e-3)


@pytest.mark.parametrize("unit", ["joules", "J", np.array([b"Joule"])])
def test_joules_are_joules(cxi, unit):
    change(cxi, ENERGY, 1, unit)
    assert read(cxi).geometry.energy_ev == pytest.approx(8800)


@pytest.mark.parametrize(
    ("scale", "unit", "reason"), [(1, "bananas", "unknown unit 'bananas'"), (1e16, "GeV", "machine")]
)
def test_an_energy_that_cannot_be_read_is_asked_for_with_the_reason(cxi, scale, unit, reason):
    change(cxi, ENERGY, scale, unit)
    with pytest.raises(ValueError, match=rf"wavelength not found .*{reason}.*source\.geometry"):
        read(cxi)
    assert read(cxi, geometry={"energy_ev": 8800.0}).geometry.energy_ev == pytest.approx(8800)


def write_emd(path, shape, scan, diffraction) -> None:
    with h5py.File(path, "w") as file:
        cube = file.create_group("data/scan")
        y, x = np.indices(shape[2:]) - np.array(shape[2:]).reshape(2, 1, 1) // 2
        cube["data"] = np.broadcast_to(50 * (np.hypot(y, x) < 5), shape).astype("u2")
        for axis, (step, unit) in enumerate((scan, scan, *diffraction)):
            cube[f"dim{axis + 1}"] = np.arange(shape[axis]) * step
            cube[f"dim{axis + 1}"].attrs["units"] = unit


WAVELENGTH = {"wavelength_m": 1.97e-12}


@pytest.mark.parametrize(
    ("scan", "unit", "frequency"),
    [
        *((0.8, "[n_m]", "[n_m^-1]"), (0.8e-3, "[u_m]", "1/nm"), (8, "Å", "nm⁻¹"), (8, b"A", "per nm")),
    ],
)
@pytest.mark.parametrize("counts", [(3, 4), (1, 12), (12, 1)])
def test_a_datacube_is_read_in_every_unit_and_as_a_line(tmp_path, scan, unit, frequency, counts):
    write_emd(tmp_path / "a.emd", (*counts, 16, 16), (scan, unit), ((0.1, frequency),) * 2)
    found = read(tmp_path / "a.emd", geometry=WAVELENGTH)
    steps = np.array(counts) - 1
    np.testing.assert_allclose(np.ptp(found.positions, axis=0), steps * 0.8 * 16 * 0.1, rtol=1e-9)


def test_the_object_pixel_of_a_rectangular_detector_is_of_its_columns(tmp_path):
    write_emd(tmp_path / "a.emd", (3, 4, 16, 24), (0.8, "nm"), ((0.1, "1/nm"),) * 2)
    found = read(tmp_path / "a.emd", geometry=WAVELENGTH)
    assert found.geometry.pixel_size_m * found.size == pytest.approx(1e-9 / 0.1)


def test_diffraction_axes_of_different_steps_are_refused(tmp_path):
    write_emd(tmp_path / "a.emd", (3, 4, 16, 16), (0.8, "nm"), ((0.1, "1/nm"), (0.2, "1/nm")))
    with pytest.raises(ValueError, match=r"diffraction axis steps are 0.1 1/nm and 0.2 1/nm, expected equal ones"):
        read(tmp_path / "a.emd", geometry=WAVELENGTH)


@pytest.mark.parametrize("unit", ["pixels", "[pix]", "", "furlongs"])
def test_scan_axes_without_calibration_are_asked_for(tmp_path, unit):
    write_emd(tmp_path / "a.emd", (3, 4, 16, 16), (2.0, unit), ((0.1, "1/nm"),) * 2)
    with pytest.raises(ValueError, match=r"a\.emd: .*(not calibrated|unknown unit).*set source\.position_unit"):
        read(tmp_path / "a.emd", geometry=WAVELENGTH)
    found = read(tmp_path / "a.emd", geometry=WAVELENGTH, position_unit="nm")
    assert np.ptp(found.positions[:, 1]) == pytest.approx(3 * 2.0 * 1.6)


def test_a_line_of_diamond_is_read(tmp_path):
    scan = make_scan()
    path = GOLDEN["nxcxi"][1](tmp_path, scan)
    with h5py.File(path, "r+") as file:
        for axis, values in (("y", [7.0]), ("x", np.arange(24.0))):
            del file[f"entry_1/sample_1/transformations/{axis}"]
            file[f"entry_1/sample_1/transformations/{axis}"] = values
            file[f"entry_1/sample_1/transformations/{axis}"].attrs["units"] = "um"
    np.testing.assert_allclose(
        np.ptp(read(path).positions * scan.geometry.pixel_size_m, axis=0), [0, 23e-6], atol=1e-12
    )


def test_a_near_field_scan_of_ptypy_is_read_as_one(tmp_path):
    path = GOLDEN["ptypy"][1](tmp_path, make_scan())
    with h5py.File(path, "r+") as file:
        file["meta/propagation"] = "nearfield"
    scan = read(path)
    assert scan.geometry.near_field and scan.geometry.magnification == 1
    assert scan.geometry.pixel_size_m == pytest.approx(make_scan().geometry.detector_pixel_m(scan.size))


def test_matlab_pixels_that_are_not_square_are_refused(tmp_path):
    from scipy.io import savemat

    scan = make_scan()
    y, x = scan.positions.T * scan.geometry.pixel_size_m
    lengths = {"lambda": 1.4e-10, "z": 2.0, "ds": [75e-6, 55e-6]}
    savemat(tmp_path / "a.mat", {"dp": np.moveaxis(scan.counts, 0, -1), "ppY": y, "ppX": x} | lengths)
    with pytest.raises(ValueError, match=r"ds is .* expected square pixels"):
        read(tmp_path / "a.mat")
