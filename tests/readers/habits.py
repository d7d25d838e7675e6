"""Files as people write them by hand: one small scan in six layouts that no reader knows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tifffile
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

ENERGY_EV, DISTANCE_M, PITCH_M, SIZE = 8800.0, 2.0, 75e-6, 32


@dataclass(frozen=True)
class Truth:
    """Counts ``(J, N, N)``, positions ``(J, 2)`` in m, and the side of an object pixel, m."""

    counts: np.ndarray
    positions_m: np.ndarray
    pixel_m: float
    rows: int = 10


def make_truth(rows: int = 10, step_px: float = 3.0, seed: int = 1) -> Truth:
    """Simulate a jittered raster over a structured object with a defocused, lopsided beam."""
    rng = np.random.default_rng(seed)
    frequency = np.fft.fftshift(np.fft.fftfreq(SIZE))
    radius = np.hypot(frequency[:, None], frequency)
    aperture = (radius < 0.2) * np.exp(-1j * np.pi * 60 * radius**2)
    probe = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(aperture), norm="ortho"))
    probe *= np.sqrt(2e5 / np.sum(abs(probe) ** 2))
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(rows), indexing="ij"), -1).reshape(-1, 2) * step_px
    positions = np.round(grid + rng.uniform(-1, 1, grid.shape)) + SIZE // 2 + 2
    side = int(positions.max()) + SIZE // 2 + 3
    noise = gaussian_filter(rng.standard_normal((2, side, side)), (0, 1.2, 1.2))
    phase, absorption = noise / noise.std()
    image = np.exp(0.5j * phase - 0.1 * abs(absorption))
    corners = positions.astype(int) - SIZE // 2
    waves = np.array([probe * image[y : y + SIZE, x : x + SIZE] for y, x in corners])
    expected = abs(np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(-2, -1))) ** 2
    pixel = 12.398419843320026e-7 / ENERGY_EV * DISTANCE_M / (SIZE * PITCH_M)
    return Truth(rng.poisson(expected).astype(np.uint16), positions * pixel, pixel, rows)


def beamline(folder: Path, truth: Truth) -> Path:
    """HDF5 of a beamline: motors in um, one of them inverted, the detector in a group of its own."""
    with h5py.File(folder / "scan_0042.h5", "w") as file:
        file.create_dataset("scan/det/frames", data=truth.counts, compression="gzip", chunks=(8, SIZE, SIZE))
        for axis, values in (("y", truth.positions_m[:, 0]), ("x", -truth.positions_m[:, 1])):
            motor = file.create_dataset(f"scan/motors/sam{axis}", data=values * 1e6)
            motor.attrs["units"] = np.array([b"um"])
            file[f"scan/motors/sam{axis}_set"] = np.zeros(3)
        for name, value, unit in (
            ("mono/energy", 8.8, "keV"),
            ("det/distance", 2000.0, "mm"),
            ("det/pixel_size", 75.0, "um"),
        ):
            file[f"scan/{name}"] = value
            file[f"scan/{name}"].attrs["units"] = unit
        file["scan/ring_current"], file["scan/comment"] = 299.5, "a good scan"
    return folder / "scan_0042.h5"


def archive(folder: Path, truth: Truth) -> Path:
    """NPZ of a postdoc: short names, the energy in keV, everything else in metres."""
    y, x = truth.positions_m.T
    lengths = {"energy_kev": 8.8, "distance": DISTANCE_M, "pixel_size": PITCH_M}
    np.savez(folder / "mine.npz", diffraction=truth.counts.astype(np.float32), x=x, y=y, **lengths)
    return folder / "mine.npz"


def bare(folder: Path, truth: Truth) -> Path:
    """HDF5 without groups, attributes or units: patterns last, positions as (2, J) in um, energy in eV."""
    with h5py.File(folder / "bare.h5", "w") as file:
        file["data"] = truth.counts
        file["positions"] = truth.positions_m.T * 1e6
        file["energy"], file["z"], file["psize"] = ENERGY_EV, DISTANCE_M, PITCH_M
    return folder / "bare.h5"


def matlab(folder: Path, truth: Truth) -> Path:
    """MATLAB v5 with patterns along the last axis and names of a script."""
    y, x = truth.positions_m.T * 1e6
    names = {"frames": np.moveaxis(truth.counts, 0, -1), "motor_y": y, "motor_x": x}
    savemat(folder / "export.mat", names | {"energy_keV": 8.8, "det_dist_mm": 2000.0, "det_pixel_um": 75.0})
    return folder / "export.mat"


def tiffs(folder: Path, truth: Truth) -> Path:
    """A folder of TIFFs with a table in um beside them, and no lengths."""
    place = folder / "run7"
    place.mkdir()
    for index, pattern in enumerate(truth.counts):
        tifffile.imwrite(place / f"run7_{index}.tif", pattern)
    rows = "".join(f"{index},{x},{y}\n" for index, (y, x) in enumerate(truth.positions_m * 1e6))
    (place / "positions.csv").write_text("frame,x (um),y (um)\n" + rows)
    return place


def attributes(folder: Path, truth: Truth) -> Path:
    """HDF5 with the lengths in attributes, patterns in rows of the raster, and positions as maps."""
    shape = (truth.rows, truth.rows)
    with h5py.File(folder / "attributes.h5", "w") as file:
        file["cube"] = truth.counts.reshape(*shape, *truth.counts.shape[1:])
        file["y_mm"], file["x_mm"] = (values.reshape(shape) * 1e3 for values in truth.positions_m.T)
        file.attrs.update({"energy_keV": 8.8, "operator": "me"})
        file["cube"].attrs.update({"distance_m": DISTANCE_M, "pixel_size_um": 75.0})
    return folder / "attributes.h5"


LENGTHS = {"energy_ev": ENERGY_EV, "detector_distance_m": DISTANCE_M, "detector_pixel_m": PITCH_M}
HABITS: dict[str, tuple[Callable[[Path, Truth], Path], dict]] = {
    "beamline": (beamline, {}),
    "archive": (archive, {}),
    "bare": (bare, {}),
    "matlab": (matlab, {}),
    "attributes": (attributes, {}),
    "tiffs": (tiffs, {"geometry": LENGTHS}),
}
"""By name: what writes the file, and the settings that it cannot know."""
