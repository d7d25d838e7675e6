"""Files of electron microscopes: block files and HyperSpy's as RosettaSciIO writes them, Merlin's by its header."""

import sys

import numpy as np
import pytest

from ptychoflow.config import Source
from ptychoflow.readers.registry import read_measurement, read_scan_of, recognise

ROWS, COLUMNS, SIDE = 3, 4, 32
WAVELENGTH_M = 2.5079e-12  # of electrons of 200 keV
NAMES = ("y", "x", "dy", "dx")


@pytest.fixture
def counts():
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    disc = 40 * (np.hypot(y, x) < 6) + 3 * (x > 4) + 1
    return np.random.default_rng(0).poisson(disc, (ROWS, COLUMNS, SIDE, SIDE)).astype(np.uint8)


def signal(counts, units, scales, microscope=None):
    """A signal as RosettaSciIO's writers take it."""
    axes = [
        {
            "_type": "UniformDataAxis",
            "size": size,
            "index_in_array": index,
            "name": NAMES[index],
            "scale": scale,
            "offset": 0.0,
            "units": unit,
            "navigate": index < 2,
            "is_binned": False,
        }
        for index, (size, unit, scale) in enumerate(zip(counts.shape, units, scales, strict=True))
    ]
    metadata = {"General": {"title": "scan"}, "Signal": {"signal_type": ""}}
    if microscope:
        metadata["Acquisition_instrument"] = {"TEM": microscope}
    return {
        "data": counts,
        "axes": axes,
        "metadata": metadata,
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
        "package_info": {"package": "", "package_version": ""},
    }


def write_blo(path, counts):
    from rsciio.blockfile import file_writer

    header = {"Beam_energy": 200000, "Camera_length": 1500, "Scan_rotation": 1250, "Note": ""}
    written = signal(counts, ("nm", "nm", "cm", "cm"), (0.5, 0.25, 0.01, 0.01))
    written["original_metadata"] = {"blockfile_header": header}
    file_writer(str(path), written, navigator=None, show_progressbar=False)
    return path


def write_hspy(path, counts, microscope=None):
    from rsciio.hspy import file_writer

    microscope = microscope or {"beam_energy": 200.0, "convergence_angle": 20.0, "camera_length": 150.0}
    file_writer(str(path), signal(counts, ("nm", "nm", "mrad", "mrad"), (0.5, 0.25, 1.5, 1.5), microscope))
    return path


def write_mib(path, counts, per_trigger=None):
    """Frames behind headers of 384 bytes, big-endian; the rows of an image from the last to the first."""
    frames = counts.reshape(-1, SIDE, SIDE)
    with path.open("wb") as file:
        for number, frame in enumerate(frames, 1):
            head = (
                f"MQ1,{number:06d},00384,01,{SIDE:04d},{SIDE:04d},U16,   1x1,01,2020-01-01 00:00:00.000000,0.001,0,0,"
            )
            head += "1.2E2,5.11E2,2020-01-01T00:00:00.000000000Z,1000000ns,12,"
            file.write(head.encode().ljust(384) + frame[::-1].astype(">u2").tobytes())
    if per_trigger is not None:
        path.with_suffix(".hdr").write_text(
            "HDR,\t\nFrames in Acquisition (Number):\t"
            f"{len(frames)}\nFrames per Trigger (Number):\t{per_trigger}\nEnd\t"
        )
    return path


def test_a_block_file_is_calibrated(tmp_path, counts):
    path = write_blo(tmp_path / "a.blo", counts)
    assert recognise(path) == "blockfile"
    measurement = read_measurement(path, Source(file=str(path)))
    np.testing.assert_array_equal(measurement.patterns[:], counts.reshape(-1, SIDE, SIDE))
    np.testing.assert_array_equal(measurement.patterns[5:7], counts.reshape(-1, SIDE, SIDE)[5:7])
    assert measurement.metadata["scan_rotation_deg"] == pytest.approx(12.5)
    scan = read_scan_of(path, Source(file=str(path)))
    assert scan.geometry.wavelength_m == pytest.approx(WAVELENGTH_M, rel=1e-4)
    assert scan.geometry.pixel_size_m == pytest.approx(WAVELENGTH_M * 0.15 / (SIDE * 1e-4), rel=1e-3)
    np.testing.assert_allclose(
        np.ptp(scan.positions, axis=0) * scan.geometry.pixel_size_m, (2 * 0.5e-9, 3 * 0.25e-9), rtol=1e-6
    )


def test_a_signal_of_hyperspy_is_calibrated(tmp_path, counts):
    path = write_hspy(tmp_path / "a.hspy", counts)
    assert recognise(path) == "hspy"
    measurement = read_measurement(path, Source(file=str(path)))
    assert measurement.aperture_rad == pytest.approx(0.02)
    scan = read_scan_of(path, Source(file=str(path)))
    np.testing.assert_array_equal(scan.counts, counts.reshape(-1, SIDE, SIDE))
    assert scan.geometry.pixel_size_m == pytest.approx(WAVELENGTH_M / (SIDE * 1.5e-3), rel=1e-4)
    np.testing.assert_allclose(
        np.ptp(scan.positions, axis=0) * scan.geometry.pixel_size_m, (2 * 0.5e-9, 3 * 0.25e-9), rtol=1e-6
    )


def test_merlin_frames_take_their_raster_from_settings_and_header(tmp_path, counts):
    path = write_mib(tmp_path / "a.mib", counts, per_trigger=COLUMNS)
    assert recognise(path) == "merlin"
    settings = {
        "geometry": {"energy_ev": 2e5, "detector_distance_m": 0.15, "detector_pixel_m": 55e-6},
        "raster": {"step_m": (5e-10, 25e-11), "flyback_columns": 1},
    }
    scan = read_scan_of(path, Source(file=str(path), **settings))
    np.testing.assert_array_equal(scan.counts, counts[:, :-1].reshape(-1, SIDE, SIDE))
    np.testing.assert_allclose(
        np.ptp(scan.positions, axis=0) * scan.geometry.pixel_size_m, (2 * 0.5e-9, 2 * 0.25e-9), rtol=1e-6
    )


def test_a_raster_needs_a_shape_that_fits(tmp_path, counts):
    path = write_mib(tmp_path / "a.mib", counts)
    for shape, message in ((None, r"give them in source\.raster\.shape"), ((5, 3), "expected 15")):
        with pytest.raises(ValueError, match=message) as caught:
            read_measurement(path, Source(file=str(path), raster={"step_m": 1e-10, "shape": shape}))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="fewer than the 4 columns"):
        raster = {"step_m": 1e-10, "shape": (ROWS, COLUMNS), "flyback_columns": 4}
        read_measurement(path, Source(file=str(path), raster=raster))


def test_settings_beside_a_raster_that_would_not_act_are_refused():
    for more in ({"positions": "a.csv"}, {"position_unit": "nm"}, {"keys": {"y": "a", "x": "b"}}):
        with pytest.raises(ValueError, match=r"not both|does not act"):
            Source(file="a.mib", raster={"step_m": 1e-10}, **more)


@pytest.mark.parametrize(("write", "name"), [(write_blo, "a.blo"), (write_mib, "a.mib"), (write_hspy, "a.hspy")])
@pytest.mark.parametrize("kept", [8, 200, 0.5, -7])
def test_a_cut_file_is_refused_in_one_line(tmp_path, counts, write, name, kept):
    path = write(tmp_path / name, counts)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError) as caught:
        read_scan_of(path, Source(file=str(path), raster={"step_m": 1e-10, "shape": (ROWS, COLUMNS)}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\0\0\0\x03", b"\0\0\0\x04" + b"\xff" * 400, b"\0\0\0\x03" + bytes(400)])
def test_a_damaged_dm_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "a.dm4"
    path.write_bytes(content)
    assert recognise(path) == "digital_micrograph"
    with pytest.raises(ValueError) as caught:
        read_measurement(path, Source(file=str(path)))
    assert "\n" not in str(caught.value)


def test_a_missing_library_names_its_extra(tmp_path, counts, monkeypatch):
    path = write_mib(tmp_path / "a.mib", counts)
    monkeypatch.setitem(sys.modules, "rsciio", None)
    monkeypatch.delitem(sys.modules, "rsciio.quantumdetector", raising=False)
    with pytest.raises(ValueError, match=r"rosettasciio is not installed.*ptychoflow\[em\]"):
        read_measurement(path, Source(file=str(path)))
