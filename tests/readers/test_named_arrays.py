"""`source.keys` names the arrays of a file in any layout, with units and multipliers."""

import h5py
import numpy as np
import pytest

from ptychoflow.config import ConfigError, Keys, Source, validate
from ptychoflow.readers.containers import open_container
from ptychoflow.readers.registry import read_measurement, read_scan_of

from .golden import GOLDEN, SIZE, make_scan

KEYS = {
    "patterns": "frames",
    "y": {"name": "motors/a", "unit": "mm"},
    "x": {"name": "motors/b", "unit": "um", "scale": -1},
    "energy": {"name": "mono", "unit": "keV"},
    "distance": "z",
    "pixel": {"name": "p", "scale": 1e-6},
}


@pytest.fixture
def file(tmp_path):
    scan = make_scan()
    y, x = scan.positions.T * scan.geometry.pixel_size_m
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["frames"], file["motors/a"], file["motors/b"] = scan.counts, y * 1e3, -x * 1e6
        file["table"] = np.stack([np.arange(len(x)), x, y], axis=1)
        file["mono"], file["z"], file["p"] = np.full(24, 8.8), 2.0, 75.0
        file["bad_pixels"], file["ok"] = ~scan.mask, scan.mask
        file["illumination"] = scan.probe
    return tmp_path / "a.h5"


def read(path, **keys):
    return read_scan_of(path, Source(file=str(path), keys={**KEYS, **keys}))


def test_units_and_multipliers_are_applied(file):
    found, scan = read(file), make_scan()
    np.testing.assert_array_equal(found.counts, scan.counts)
    np.testing.assert_allclose(found.positions, scan.positions, atol=1e-6)
    assert found.geometry.pixel_size_m == pytest.approx(scan.geometry.pixel_size_m)


def test_positions_may_be_columns_of_a_table(file):
    table = {"y": {"name": "table", "column": 2}, "x": {"name": "table", "column": 1}}
    np.testing.assert_allclose(read(file, **table).positions, make_scan().positions, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "marks"), [("bad_pixels", "auto"), ("ok", "auto"), ("ok", "good"), ("bad_pixels", "bad")]
)
def test_a_mask_is_taken_in_its_sense(file, name, marks):
    np.testing.assert_array_equal(read(file, mask=name, mask_marks=marks).mask, make_scan().mask)


def test_a_probe_is_taken_and_not_required(file):
    found = read(file, probe="illumination").probe
    overlap = abs(np.vdot(found, make_scan().probe)) ** 2
    assert overlap == pytest.approx(np.sum(abs(found) ** 2) * make_scan().photons, rel=1e-5)
    assert np.any(read(file).probe)


def test_a_zone_plate_gives_the_aperture_of_a_probe(file):
    source = Source(file=str(file), keys=KEYS, zone_plate={"outermost_zone_m": 3.2e-6, "central_stop": 0.4})
    far_field = np.abs(np.fft.fftshift(np.fft.fft2(read_scan_of(file, source).probe[0])))
    # lambda / (2 width) over lambda / (N pixel): the radius of the aperture in detector pixels
    radius = SIZE * make_scan().geometry.pixel_size_m / (2 * 3.2e-6)
    y, x = np.indices((SIZE, SIZE)) - SIZE // 2
    inside = far_field > 0.5 * far_field.max()
    assert inside.sum() == pytest.approx(np.pi * radius**2 * (1 - 0.4**2), rel=0.2)
    assert not inside[np.hypot(y, x) > radius + 1].any()


def test_keys_fill_in_what_a_reader_lacks(tmp_path):
    path = GOLDEN["eiger"][1](tmp_path, make_scan())
    y, x = make_scan().positions.T * make_scan().geometry.pixel_size_m
    with h5py.File(path, "r+") as file:
        file["stage/up"], file["stage/right"] = y * 1e6, x * 1e6
    keys = {"y": {"name": "stage/up", "unit": "um"}, "x": {"name": "stage/right", "unit": "um"}}
    found = read_scan_of(path, Source(file=str(path), keys=keys))
    np.testing.assert_allclose(found.positions, make_scan().positions, atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"patterns": "nothing"}, r"source\.keys\.patterns is nothing, not found in a\.h5, which holds .*frames"),
        ({"energy": "table"}, r"source\.keys\.energy: .* is not one number"),
        ({"mask": "table"}, r"source\.keys\.mask: table has shape"),
        ({"x": "bad_pixels"}, "got 24 positions along y and 256 along x"),
        ({"x": None}, "expected a table of y and x"),
    ],
)
def test_a_key_that_does_not_suit_is_named(file, keys, message):
    with pytest.raises(ValueError, match=message):
        read(file, **keys)


@pytest.mark.parametrize("entry", [{"name": "a", "unit": "furlong"}, {"name": "a", "scale": 0}, {"unit": "um"}])
def test_an_entry_that_makes_no_sense_is_refused(entry):
    with pytest.raises(ConfigError):
        validate(Keys, {"y": entry}, "source.keys.")


def test_an_unknown_layout_names_the_way_out(file):
    with pytest.raises(ValueError, match=r"unknown format, .* source\.keys, which `ptychoflow inspect` proposes"):
        read_measurement(file, Source(file=str(file)))


def test_an_array_that_cannot_be_read_hides_no_other(file):
    with h5py.File(file, "r+") as changed:
        changed["nothing"] = h5py.Empty("f4")
        changed.create_dataset("raw", (4,), "f4", external=[("/etc/passwd", 0, 16)])
        changed["text"], changed["link"] = "a text", h5py.ExternalLink("missing.h5", "/d")
        changed.attrs["energy"] = 8.8
    with open_container(file) as container:
        infos = {info.name: info for info in container.infos()}
    assert infos["/frames"].shape == (24, SIZE, SIZE) and infos["/p"].value == 75.0
    assert infos["/@energy"].value == 8.8 and infos["/raw"].value is None
    np.testing.assert_allclose(read(file, energy={"name": "@energy", "unit": "keV"}).geometry.energy_ev, 8800)
