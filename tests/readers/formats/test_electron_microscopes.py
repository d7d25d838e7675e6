"""Electron microscopes: block files and HyperSpy's by RosettaSciIO, Merlin's by its header, Gatan's by its tags."""

import json
import os
import struct
import sys

import h5py
import numpy as np
import pytest

from ptychoflow.config import Source
from ptychoflow.readers.registry import read_measurement, read_scan_of, recognise
from ptychoflow.readers.source_files import source_files

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


def tag(name, value, kind=None):
    """A tag of a DM3 file: a group of tags, a text, an array of bytes or a number (kind 5 is uint32, 6 float32)."""
    head = struct.pack(">BH", 20 if isinstance(value, list) else 21, len(name)) + name.encode()
    if isinstance(value, list):
        return head + struct.pack(">BBI", 0, 0, len(value)) + b"".join(value)
    if isinstance(value, str):
        return head + b"%%%%" + struct.pack(">IIII", 3, 20, 4, len(value)) + value.encode("utf-16-le")
    if isinstance(value, bytes):
        return head + b"%%%%" + struct.pack(">IIII", 3, 20, 10, len(value)) + value
    return head + b"%%%%" + struct.pack(">II", 1, kind) + struct.pack("<I" if kind == 5 else "<f", value)


def write_dm3(path, counts, units=("nm", "nm", "mrad", "mrad"), scales=(0.5, 0.25, 1.5, 1.5)):
    """A DM3 file of one datacube, its dimensions from the fastest to the slowest."""
    axes = [
        tag("", [tag("Origin", 0.0, 6), tag("Scale", scale, 6), tag("Units", unit)])
        for unit, scale in zip(units[::-1], scales[::-1], strict=True)
    ]
    data = [
        tag("Calibrations", [tag("Dimension", axes)]),
        tag("Data", counts.tobytes()),
        tag("DataType", 6, 5),
        tag("Dimensions", [tag("", size, 5) for size in counts.shape[::-1]]),
    ]
    microscope = [tag("Voltage", 200000.0, 6), tag("STEM Camera Length", 150.0, 6)]
    image = [tag("ImageData", data), tag("ImageTags", [tag("Microscope Info", microscope)]), tag("Name", "scan")]
    root = [tag("ImageList", [tag("", image)])]
    content = struct.pack(">BBI", 0, 0, len(root)) + b"".join(root)
    path.write_bytes(struct.pack(">III", 3, len(content), 1) + content + bytes(8))
    return path


def write_zspy(path, counts):
    """The tree of an ``.hspy`` as RosettaSciIO writes it, copied to Zarr: HyperSpy lays out both alike."""
    import zarr

    root = zarr.open_group(path, mode="w", zarr_format=2)

    def copy(name, node):
        if isinstance(node, h5py.Dataset):
            if node.dtype.kind in "uif":
                root.create_array(name, data=node[()], chunks=node.chunks or node.shape)
        else:
            numbers = {key: getattr(value, "item", lambda value=value: value)() for key, value in node.attrs.items()}
            root.require_group(name).attrs.update({k: v for k, v in numbers.items() if type(v) in (str, int, float)})

    with h5py.File(write_hspy(path.with_suffix(".hspy"), counts)) as file:
        file.visititems(copy)
    return path


def test_a_datacube_of_gatan_is_calibrated_in_either_order(tmp_path, counts):
    usual = write_dm3(tmp_path / "a.dm3", counts)
    assert recognise(usual) == "digital_micrograph"
    last = np.ascontiguousarray(counts.transpose(2, 3, 0, 1))
    turned = write_dm3(tmp_path / "b.dm3", last, ("mrad", "mrad", "nm", "nm"), (1.5, 1.5, 0.5, 0.25))
    for path in (usual, turned):
        scan = read_scan_of(path, Source(file=str(path)))
        np.testing.assert_array_equal(scan.counts, counts.reshape(-1, SIDE, SIDE))
        assert scan.geometry.pixel_size_m == pytest.approx(WAVELENGTH_M / (SIDE * 1.5e-3), rel=1e-4)
        np.testing.assert_allclose(
            np.ptp(scan.positions, axis=0) * scan.geometry.pixel_size_m, (2 * 0.5e-9, 3 * 0.25e-9), rtol=1e-6
        )


def test_a_signal_in_zarr_reads_as_in_hdf5(tmp_path, counts):
    path = write_zspy(tmp_path / "a.zspy", counts)
    assert recognise(path) == "zspy"
    found, expected = (read_scan_of(file, Source(file=str(file))) for file in (path, tmp_path / "a.hspy"))
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_array_equal(found.positions, expected.positions)
    assert found.geometry == expected.geometry


@pytest.mark.parametrize("version", [2, 3])
def test_arrays_in_zarr_are_read_by_their_names(tmp_path, counts, version):
    import zarr

    path = tmp_path / "a.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=version)
    root.create_array("entry/data", data=counts, chunks=(2, 2, SIDE, SIDE))
    for name, step, count in (("y", 0.5, ROWS), ("x", 0.25, COLUMNS)):
        root.create_array(f"entry/{name}", data=np.arange(count) * step).attrs["units"] = "nm"
    keys = {"patterns": "entry/data", "y": "entry/y", "x": "entry/x"}
    measurement = read_measurement(path, Source(file=str(path), keys=keys))
    np.testing.assert_array_equal(measurement.patterns[3:7], counts.reshape(-1, SIDE, SIDE)[3:7])
    np.testing.assert_allclose(measurement.positions.scaled().values[-1], (1e-9, 0.75e-9))
    with pytest.raises(ValueError, match="not found"):
        read_measurement(path, Source(file=str(path), keys=keys | {"y": "entry/z"}))
    os.symlink("/etc/hostname", path / "entry/link")
    with pytest.raises(ValueError, match="holds links"):
        read_measurement(path, Source(file=str(path), keys=keys))


def test_nothing_is_unpickled_from_zarr(tmp_path, counts):
    path = write_zspy(tmp_path / "a.zspy", counts)
    (array,) = path.rglob("data/.zarray")
    content = array.read_text()
    assert '"compressor"' in content
    array.write_text(json.dumps(json.loads(content) | {"compressor": None, "filters": [{"id": "pickle"}]}))
    with pytest.raises(ValueError, match="pickle"):
        read_scan_of(path, Source(file=str(path)))


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


@pytest.mark.parametrize("name", ["a.mib", "a.blo", "a.dm3", "a.zspy"])
def test_what_a_library_cannot_read_is_named(tmp_path, name):
    path = tmp_path / name
    if name == "a.zspy":
        path.mkdir()
        (path / ".zgroup").write_text("{")
    else:
        path.write_bytes({"a.mib": b"MQ1,000001,00384,01,0032,0032,U16,", "a.blo": b"IMGBLO"}.get(name, b"\0\0\0\x03"))
    with pytest.raises(ValueError, match=name) as caught:
        read_scan_of(path, Source(file=str(path)))
    assert "\n" not in str(caught.value)


def test_a_scan_depends_on_all_that_its_reading_touches(tmp_path, counts):
    frames, folder = write_mib(tmp_path / "a.mib", counts, COLUMNS), write_zspy(tmp_path / "b.zspy", counts)
    assert source_files(Source(file=str(frames))) == [frames, tmp_path / "a.hdr"]
    found = source_files(Source(file=str(folder)))
    assert set(found) == {file for file in folder.rglob("*") if file.is_file()} and len(found) > 3


def test_a_missing_library_names_its_extra(tmp_path, counts, monkeypatch):
    path = write_mib(tmp_path / "a.mib", counts)
    monkeypatch.setitem(sys.modules, "rsciio", None)
    monkeypatch.delitem(sys.modules, "rsciio.quantumdetector", raising=False)
    with pytest.raises(ValueError, match=r"rosettasciio is not installed.*ptychoflow\[em\]"):
        read_measurement(path, Source(file=str(path)))
