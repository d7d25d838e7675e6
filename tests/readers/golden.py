"""Files of every format, written from one small scan by h5py, NumPy, SciPy or tifffile as their programs write them."""

import bz2
import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import tifffile
from scipy.io import savemat

from ptychoflow.core.scan import ELEMENTARY_CHARGE_C, Geometry, GroundTruth, Scan
from ptychoflow.io.scan_cxi import write_scan

ROWS, COLUMNS, SIZE = 4, 6, 16


def make_scan() -> Scan:
    """Twenty-four patterns of 16 px on a raster over a random phase object: real physics, light in the middle."""
    rng = np.random.default_rng(3)
    y, x = np.indices((SIZE, SIZE)) - SIZE // 2
    probe = (np.exp(-(y**2 + 1.4 * x**2) / 12 + 0.05j * (y**2 + x**2)) * 30).astype(np.complex64)
    image = np.exp(1j * rng.uniform(-0.4, 0.4, (40, 48))).astype(np.complex64)
    grid = np.stack(np.meshgrid(np.arange(ROWS) * 4.0, np.arange(COLUMNS) * 5.0, indexing="ij"), axis=-1).reshape(-1, 2)
    positions = grid + SIZE // 2 + 1
    corners = (positions - SIZE // 2).astype(int)
    waves = np.array([probe * image[a : a + SIZE, b : b + SIZE] for a, b in corners])
    expected = abs(np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(-2, -1))) ** 2
    geometry = Geometry.from_detector(SIZE, energy_ev=8800.0, detector_distance_m=2.0, detector_pixel_m=75e-6)
    mask = np.ones((SIZE, SIZE), bool)
    mask[2, 3] = False
    counts = (rng.poisson(expected) * mask).astype(np.uint16)
    return Scan(counts, positions, probe[None], geometry, mask, GroundTruth(image), name="golden")


def _metres(scan: Scan) -> np.ndarray:
    return scan.positions * scan.geometry.pixel_size_m


def _bad(scan: Scan) -> np.ndarray:
    return np.zeros((SIZE, SIZE), bool) if scan.mask is None else ~scan.mask


def ours(folder: Path, scan: Scan) -> Path:
    write_scan(folder / "golden.cxi", scan)
    return folder / "golden.cxi"


def cxi(folder: Path, scan: Scan) -> Path:
    y, x = _metres(scan).T
    with h5py.File(folder / "other.cxi", "w") as file:
        file["cxi_version"] = 150
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"] = np.fft.ifftshift(scan.counts, axes=(-2, -1))
        detector["mask"] = np.fft.ifftshift(_bad(scan) * 0x8 | 0x10000 * ~_bad(scan)).astype(np.uint32)
        detector["distance"] = 2.0
        detector["x_pixel_size"] = detector["y_pixel_size"] = 75e-6
        file["entry_1/instrument_1/source_1/energy"] = scan.geometry.energy_ev * ELEMENTARY_CHARGE_C
        file["entry_1/instrument_1/source_1/probe"] = 0.1 * scan.probe
        file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        file["entry_1/data_1/translation"] = np.stack([x, y, 0 * x], axis=1)
    return folder / "other.cxi"


def nxcxi(folder: Path, scan: Scan) -> Path:
    y, x = (_metres(scan).reshape(ROWS, COLUMNS, 2) * 1e6).transpose(2, 0, 1)  # m to um
    with h5py.File(folder / "diamond.nxs", "w") as file:
        file["entry_1/definition"] = "NXcxi_ptycho"
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"] = scan.counts.reshape(ROWS, COLUMNS, SIZE, SIZE)
        for name, value, unit in (
            ("distance", 2000.0, "mm"),
            ("x_pixel_size", 75.0, "um"),
            ("y_pixel_size", 75.0, "um"),
            ("beam_center_x", 8.0, "pixels"),
        ):
            detector[name] = value
            detector[name].attrs["units"] = unit
        detector["mask"] = _bad(scan).astype(np.uint8)
        file["entry_1/instrument_1/source_1/energy"] = 3.0  # the machine's, which must not be taken for the photons'
        file["entry_1/instrument_1/source_1/energy"].attrs["units"] = "GeV"
        file["entry_1/instrument_1/beam_1/incident_beam_energy"] = scan.geometry.energy_ev * 1e-3
        file["entry_1/instrument_1/beam_1/incident_beam_energy"].attrs["units"] = "keV"
        for name, values in (("y", y), ("x", x)):
            file[f"entry_1/sample_1/transformations/{name}"] = values
            file[f"entry_1/sample_1/transformations/{name}"].attrs["units"] = "um"
    return folder / "diamond.nxs"


def eiger(folder: Path, scan: Scan) -> Path:
    half = len(scan) // 2
    for part in (1, 2):
        with h5py.File(folder / f"scan_data_00000{part}.h5", "w") as file:
            counts = scan.counts[(part - 1) * half : part * half].astype(np.uint32)
            counts[:, _bad(scan)] = 2**32 - 1
            import hdf5plugin

            file.create_dataset(
                "entry/data/data", data=counts, chunks=(1, SIZE, SIZE), **hdf5plugin.Bitshuffle(cname="lz4")
            )
    with h5py.File(folder / "scan_master.h5", "w") as file:
        for part in (1, 2):
            link = h5py.ExternalLink(f"scan_data_00000{part}.h5", "/entry/data/data")
            file[f"entry/data/data_00000{part}"] = link
        detector = file.create_group("entry/instrument/detector")
        for name, value in (("x_pixel_size", 75e-6), ("y_pixel_size", 75e-6), ("detector_distance", 2.0)):
            detector[name] = value
            detector[name].attrs["units"] = "m"
        detector["beam_center_x"], detector["beam_center_y"] = 8.0, 8.0
        detector["detectorSpecific/pixel_mask"] = _bad(scan).astype(np.uint32)
        wavelength = file["entry/instrument"].create_dataset(
            "beam/incident_wavelength", data=scan.geometry.wavelength_m * 1e10
        )
        wavelength.attrs["units"] = "angstrom"
    y, x = _metres(scan).T
    (folder / "scan.csv").write_text(
        "y (m),x (m)\n" + "".join(f"{a!r},{b!r}\n" for a, b in zip(y.tolist(), x.tolist()))
    )
    return folder / "scan_master.h5"


def hxn(folder: Path, scan: Scan) -> Path:
    y, x = _metres(scan).T * 1e6  # m to um
    with h5py.File(folder / "hxn.h5", "w") as file:
        file["diffamp"] = np.sqrt(scan.counts).astype(np.float32)
        file["points"] = np.stack([x, y])
        file["lambda_nm"], file["z_m"], file["ccd_pixel_um"], file["angle"] = (
            scan.geometry.wavelength_m * 1e9,
            2.0,
            75.0,
            0.0,
        )
    return folder / "hxn.h5"


def fold_slice(folder: Path, scan: Scan) -> Path:
    y, x = _metres(scan).T
    with h5py.File(folder / "scan7_dp.hdf5", "w") as file:
        file.create_dataset("dp", data=scan.counts, compression="gzip", chunks=(5, SIZE, SIZE))
    with h5py.File(folder / "scan7_para.hdf5", "w") as file:
        file["ppY"], file["ppX"] = y, x[None]
        file["lambda"], file["dx"], file["angle"] = [scan.geometry.wavelength_m], [scan.geometry.pixel_size_m], 0.0
    return folder / "scan7_dp.hdf5"


def ptypy(folder: Path, scan: Scan) -> Path:
    half = len(scan) // 2
    with h5py.File(folder / "scan.ptyd.part001", "w") as file:
        file["data"], file["positions"] = scan.counts[half:].astype(np.int32), _metres(scan)[half:]
    with h5py.File(folder / "scan.ptyd", "w") as file:
        file["chunks/0/data"], file["chunks/0/positions"] = scan.counts[:half].astype(np.int32), _metres(scan)[:half]
        file["chunks/0/weights"] = np.broadcast_to(~_bad(scan), (half, SIZE, SIZE)).astype(np.float32)
        file["chunks/1"] = h5py.ExternalLink("/somewhere/else/scan.ptyd.part001", "/")  # ptypy links by the full path
        file["meta/energy"], file["meta/distance"], file["meta/psize"] = (
            scan.geometry.energy_ev * 1e-3,
            2.0,
            [75e-6, 75e-6],
        )
        file["meta/label"], file["info/recipe"] = "golden", "none"
    return folder / "scan.ptyd"


def standard_directory(folder: Path, scan: Scan) -> Path:
    place = folder / "golden"
    place.mkdir()
    kept = np.arange(len(scan))
    with h5py.File(place / "diffraction.h5", "w") as file:
        file["indexes"] = kept[::-1] + 5
        file.create_dataset("patterns", data=scan.counts[::-1], compression="lzf")
        file["patterns"].attrs.update({"detector_pixel_width_m": 75e-6, "detector_pixel_height_m": 75e-6})
        file["bad_pixels"] = _bad(scan)
    pixel, shape = scan.geometry.pixel_size_m, scan.truth.object.shape
    with h5py.File(place / "product.h5", "w") as file:
        file.attrs.update({"detector_object_distance_m": 2.0, "probe_energy_eV": scan.geometry.energy_ev})
        file["probe_position_indexes"] = kept + 5
        file["probe_position_y_m"], file["probe_position_x_m"] = _metres(scan).T
        file["probe"], file["object"] = scan.probe[None], scan.truth.object
        file["object"].attrs.update({"pixel_width_m": pixel, "pixel_height_m": pixel})
        centre = [((side - 1) / 2 + 0.5) * pixel for side in shape]  # (N - 1) / 2 there, N // 2 here
        file["object"].attrs.update({"center_y_m": centre[0], "center_x_m": centre[1]})
    return place


def ptychodus_training(folder: Path, scan: Scan) -> Path:
    with h5py.File(folder / "training.h5", "w") as file:
        file["patterns"], file["bad_pixels"], file["probe"] = scan.counts, _bad(scan), scan.probe
        file["object"] = scan.truth.object
        file["probe_position_y_px"], file["probe_position_x_px"] = scan.positions.T
        file["object_pixel_width_m"] = file["object_pixel_height_m"] = scan.geometry.pixel_size_m
        file["detector_object_distance_m"], file["photon_energy_eV"] = 2.0, scan.geometry.energy_ev
    return folder / "training.h5"


def emd(folder: Path, scan: Scan) -> Path:
    steps = np.array([4.0, 5.0]) * scan.geometry.pixel_size_m * 1e9  # m to nm
    frequency = 1e-10 / (SIZE * scan.geometry.pixel_size_m)
    with h5py.File(folder / "stem.emd", "w") as file:
        file.attrs["authoring_program"] = "py4DSTEM"
        cube = file.create_group("datacube_root/datacube")
        cube["data"] = scan.counts.reshape(ROWS, COLUMNS, SIZE, SIZE)
        lines = ((steps[0], "nm"), (steps[1], "nm"), (frequency, "A^-1"), (frequency, "A^-1"))
        for axis, (step, unit) in enumerate(lines):
            cube[f"dim{axis}"] = [0.0, step]
            cube[f"dim{axis}"].attrs["units"] = unit
    return folder / "stem.emd"


def matlab_v5(folder: Path, scan: Scan) -> Path:
    y, x = _metres(scan).T
    contents = {"dp": np.moveaxis(scan.counts, 0, -1), "ppY": y, "ppX": x, "probe": np.moveaxis(scan.probe, 0, -1)}
    savemat(folder / "v5.mat", contents | {"lambda": scan.geometry.wavelength_m, "dx": scan.geometry.pixel_size_m})
    return folder / "v5.mat"


def matlab_v73(folder: Path, scan: Scan) -> Path:
    y, x = _metres(scan).T
    path = folder / "v73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["dp"] = scan.counts.transpose(0, 2, 1)  # MATLAB's (H, W, J), axes reversed
        pairs = np.empty((SIZE, SIZE), [("real", "f4"), ("imag", "f4")])
        pairs["real"], pairs["imag"] = scan.probe[0].T.real, scan.probe[0].T.imag
        file["probe"], file["ppY"], file["ppX"] = pairs, y[None], x[None]
        file["lambda"], file["dx"] = [[scan.geometry.wavelength_m]], [[scan.geometry.pixel_size_m]]
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(512, b" "))
    return path


def tike(folder: Path, scan: Scan) -> Path:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        data=np.fft.ifftshift(scan.counts, axes=(-2, -1))[None].astype(np.float32),
        scan=(scan.positions - SIZE // 2)[None].astype(np.float32),
        probe=0.01 * scan.probe[None, None, None],
    )
    (folder / "tike.npz.bz2").write_bytes(bz2.compress(buffer.getvalue()))
    return folder / "tike.npz.bz2"


def _coordinates(scan: Scan, suffix: str = "") -> dict:
    return {f"ycoords{suffix}": scan.positions[:, 0], f"xcoords{suffix}": scan.positions[:, 1]}


def ptychopinn(folder: Path, scan: Scan) -> Path:
    guess = {"probeGuess": scan.probe[0], "objectGuess": scan.truth.object, "scan_index": np.zeros(len(scan), int)}
    np.savez_compressed(
        folder / "train.npz", diff3d=scan.counts, **_coordinates(scan), **_coordinates(scan, "_start"), **guess
    )
    return folder / "train.npz"


def slac(folder: Path, scan: Scan) -> Path:
    lengths = {"detector_distance_m": 2.0, "photon_energy_eV": scan.geometry.energy_ev, "detector_pixel_size_m": 75e-6}
    patterns = np.ascontiguousarray(np.moveaxis(scan.counts, 0, -1))
    np.savez(
        folder / "slac.npz", diffraction=patterns, **_coordinates(scan, "_start"), probeGuess=scan.probe[0], **lengths
    )
    return folder / "slac.npz"


def ptychodus_npz(folder: Path, scan: Scan) -> Path:
    np.savez_compressed(folder / "d.npz", patterns=scan.counts, indexes=np.arange(len(scan)), bad_pixels=_bad(scan))
    np.save(folder / "positions.npy", _metres(scan))
    return folder / "d.npz"


def named(folder: Path, scan: Scan) -> Path:
    y, x = _metres(scan).T
    lengths = {
        "object_pixel_m": scan.geometry.pixel_size_m,
        "wavelength_m": scan.geometry.wavelength_m,
        "semi_angle_mrad": 0.4,
    }
    np.savez(folder / "named.npz", patterns=scan.counts, position_y_m=y, position_x_m=x, source="a text", **lengths)
    return folder / "named.npz"


def npy(folder: Path, scan: Scan) -> Path:
    np.save(folder / "pile.npy", scan.counts)
    y, x = _metres(scan).T
    (folder / "positions.txt").write_text("# x y\n" + "".join(f"{b!r} {a!r}\n" for a, b in zip(y.tolist(), x.tolist())))
    return folder / "pile.npy"


def tiffs(folder: Path, scan: Scan) -> Path:
    place = folder / "frames"
    place.mkdir()
    for index, pattern in enumerate(scan.counts):
        tifffile.imwrite(place / f"frame_{index + 8}.tif", pattern)
    (place / "positions.csv").write_text("".join(f"{y!r},{x!r}\n" for y, x in _metres(scan).tolist()))
    return place


LENGTHS = {"energy_ev": 8800.0, "detector_distance_m": 2.0, "detector_pixel_m": 75e-6}
GOLDEN: dict[str, tuple[str, Callable[[Path, Scan], Path], dict]] = {
    "ours": ("cxi", ours, {}),
    "cxi": ("cxi", cxi, {}),
    "nxcxi": ("nxcxi_ptycho", nxcxi, {}),
    "eiger": ("nexus", eiger, {"positions": "scan.csv"}),
    "hxn": ("hxn", hxn, {}),
    "fold_slice": ("fold_slice", fold_slice, {}),
    "ptypy": ("ptypy", ptypy, {}),
    "standard_directory": ("ptychodus", standard_directory, {}),
    "ptychodus_training": ("ptychodus_training", ptychodus_training, {}),
    "emd": ("emd", emd, {"geometry": {"wavelength_m": 1.4089e-10}}),
    "matlab_v5": ("matlab", matlab_v5, {}),
    "matlab_v73": ("matlab", matlab_v73, {}),
    "tike": ("tike_npz", tike, {"geometry": LENGTHS}),
    "ptychopinn": ("ptychopinn_npz", ptychopinn, {"geometry": LENGTHS}),
    "slac": ("slac_npz", slac, {}),
    "ptychodus_npz": ("ptychodus_npz", ptychodus_npz, {"positions": "positions.npy", "geometry": LENGTHS}),
    "named": ("npz", named, {}),
    "npy": ("stack", npy, {"positions": "positions.txt", "geometry": LENGTHS}),
    "tiffs": ("stack", tiffs, {"positions": "positions.csv", "geometry": LENGTHS}),
}
"""By name: the format, what writes the file, and what ``source`` must say beside its path."""
