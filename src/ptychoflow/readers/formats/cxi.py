"""Reader of CXI files: ours, those of other programs, and Diamond's NXcxi_ptycho, which is CXI and NeXus at once.

The standard fixes names and SI units; where the direct beam lies it leaves open. Pixels are bad where the low bits of
the mask say so. NXcxi_ptycho keeps raster scans in four dimensions, units in attributes, and the machine's energy where
CXI keeps the photons'.
"""

import json
from pathlib import Path

import numpy as np

from ...core.wavelengths import Radiation
from ...io.safe_hdf5 import Hdf5
from ..raw_scan import Measurement
from ..scan_positions import Positions, pair_axes, positions_in, table_columns

ENTRY, DETECTOR, SOURCE, BEAM = (
    "/entry_1",
    "/entry_1/instrument_1/detector_1",
    "/entry_1/instrument_1/source_1",
    "/entry_1/instrument_1/beam_1",
)
OURS = f"{ENTRY}/ptychoflow"
PATTERNS = (f"{ENTRY}/data_1/data", f"{DETECTOR}/data", f"{ENTRY}/image_1/data")
TRANSLATIONS = tuple(
    f"{ENTRY}/{place}/translation" for place in ("sample_1/geometry_1", "data_1", "instrument_1/detector_1")
)
PROBES = (f"{SOURCE}/illumination", f"{SOURCE}/probe", f"{DETECTOR}/probe", f"{ENTRY}/instrument_1/probe")
MOTORS = f"{ENTRY}/sample_1/transformations"
BAD_BITS = 0xFFFF
"""The bits of a CXI mask that make a pixel bad; higher ones say only that it has signal."""
ELECTRON_CAMERAS = ("arina", "dectris ela", "quadro", "singla")
HIGHEST_PHOTON_EV = 1e6
"""A higher energy is that of the machine."""


def is_cxi(path: Path) -> bool:
    """Return True if the file keeps patterns where CXI does."""
    with Hdf5(path) as file:
        return file.first(*PATTERNS[:2]) is not None


def is_nxcxi(path: Path) -> bool:
    """Return True if the file is declared as NXcxi_ptycho."""
    with Hdf5(path) as file:
        return (
            file.text(f"{ENTRY}/definition") in ("NXcxi_ptycho", "NXptycho") and file.first(*PATTERNS[:2]) is not None
        )


def read_cxi(path: Path, dataset: str | None = None) -> Measurement:
    """Read a CXI file; ``dataset`` is another path of the patterns."""
    with Hdf5(path) as file:
        if OURS in file:
            return _read_ours(file)
        patterns = file.stack(dataset or file.first(*PATTERNS) or PATTERNS[1], (3, 4))
        pitch = _pixel(file)
        energy = _photon_energy(file)
        return Measurement(
            patterns=patterns,
            positions=_positions(file, len(patterns)),
            corner=None,
            beam=_beam(file),
            mask=_mask(file, patterns.shape[1:]),
            probe=_probe(file),
            wavelength_m=None if energy else file.number(f"{SOURCE}/wavelength", unit="m"),
            energy_ev=energy,
            radiation=named_radiation(file, f"{SOURCE}/probe", "/entry_1/instrument_1/source_1/name"),
            detector_distance_m=file.number(f"{DETECTOR}/distance", f"{DETECTOR}/detector_distance", unit="m"),
            detector_pixel_m=pitch,
            name=path.stem,
            unread=file.unread,
        )


def _read_ours(file: Hdf5) -> Measurement:
    bad = file.array(f"{DETECTOR}/mask", 2) != 0
    truth = file.array(f"{OURS}/truth", 2, kinds="c") if f"{OURS}/truth" in file else None
    origin = np.asarray(file.attribute(f"{OURS}/truth", "origin")).reshape(-1) if truth is not None else (0.0, 0.0)
    try:
        metadata = json.loads(str(file.attribute(OURS, "metadata")))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{file.path.name}: metadata is not JSON ({error}): convert or simulate the scan again"
        ) from None
    return Measurement(
        patterns=file.stack(f"{DETECTOR}/data"),
        positions=Positions(file.array(f"{OURS}/positions", 2), "px"),
        mask=~bad,
        probe=file.array(f"{OURS}/probe", 3, kinds="c"),
        probe_in_photons=True,
        wavelength_m=file.number(f"{OURS}@wavelength_m"),
        detector_distance_m=file.number(f"{DETECTOR}/distance"),
        pixel_size_m=file.number(f"{OURS}@pixel_size_m"),
        propagation="near_field" if file.text(f"{OURS}@propagation").startswith("near") else "far_field",
        focus_distance_m=file.number(f"{OURS}@focus_distance_m"),
        object=truth,
        object_origin=(float(origin[0]), float(origin[1])),
        object_is_ground_truth=truth is not None,
        name=str(file.attribute(OURS, "name")),
        metadata=metadata if isinstance(metadata, dict) else {},
    )


def _positions(file: Hdf5, count: int) -> Positions | None:
    """Read positions from the table ``(x, y, z)``, else from the motors of NXcxi_ptycho."""
    table = file.first(*TRANSLATIONS)
    if table is not None:
        x_y_z, unit = table_columns(file.array(table, 2), count), file.unit(table, "m")
        y_x = x_y_z[:, [1, 0]] if x_y_z.shape[1] in (2, 3) else x_y_z
        return positions_in(y_x, unit, unit, f"{file.path.name}:{table}")
    if f"{MOTORS}/x" in file and f"{MOTORS}/y" in file:
        pairs = pair_axes(file.array(f"{MOTORS}/y"), file.array(f"{MOTORS}/x"), count)
        y_unit, x_unit = (file.unit(f"{MOTORS}/{axis}", "m") for axis in "yx")
        return None if pairs is None else positions_in(pairs, y_unit, x_unit, f"{file.path.name}:{MOTORS}")
    return None


def _mask(file: Hdf5, sides: tuple[int, ...]) -> np.ndarray | None:
    if f"{DETECTOR}/mask" not in file:
        return None
    mask = file.array(f"{DETECTOR}/mask", 2, 3, kinds="uib")
    bad = (mask.astype(np.int64) & BAD_BITS) != 0
    bad = bad.any(0) if bad.ndim == 3 else bad
    if bad.shape != sides:
        raise ValueError(
            f"{file.path.name}: got a mask of shape {bad.shape} for patterns of {sides} px: remove or correct it"
        )
    return ~bad


def _probe(file: Hdf5) -> np.ndarray | None:
    name = file.first(*PROBES)
    if name is None or not file.holds_complex(name):
        return None
    probe = file.array(name, 2, 3, 4, kinds="c")
    return probe.reshape(-1, *probe.shape[-2:])


def _photon_energy(file: Hdf5) -> float | None:
    """Read the energy of the photons, eV: NeXus keeps it with the beam, CXI with the source."""
    beam = file.number(f"{BEAM}/incident_beam_energy", f"{BEAM}/energy", f"{BEAM}/incident_energy", unit="j")
    energy = beam or file.number(f"{SOURCE}/energy", unit="j")
    if energy and energy >= HIGHEST_PHOTON_EV:
        file.unread.append(f"{file.path.name}: {energy:.4g} eV is the energy of a machine, not of photons")
        return None
    return energy if energy and energy > 0 else None


def _pixel(file: Hdf5) -> float | None:
    x, y = (file.number(f"{DETECTOR}/{axis}_pixel_size", unit="m") for axis in "xy")
    return square_pixel(x, y, file.path.name)


def _beam(file: Hdf5) -> tuple[float, float] | None:
    """Read the beam centre, if it is in pixels."""
    y, x = (file.number(f"{DETECTOR}/beam_center_{axis}", unit="px") for axis in "yx")
    return (y, x) if y and x and y > 0 and x > 0 else None  # zeros and -1 stand for what is not known


def named_radiation(file: Hdf5, *names: str) -> Radiation | None:
    """Return the radiation that texts of a file name: NeXus' ``probe`` of the source, or a camera for electrons."""
    for text in (file.text(name).lower() for name in names):
        if "electron" in text or any(camera in text for camera in ELECTRON_CAMERAS):
            return "electrons"
        if "x-ray" in text or "xray" in text or "photon" in text:
            return "photons"
    return None


def square_pixel(x: float | None, y: float | None, name: str) -> float | None:
    """Return the side of a square detector pixel, m, or None if neither side is known.

    Args:
        x: width, m.
        y: height, m.
        name: of the file, for messages.

    Raises:
        ValueError: if the pixel is not square.
    """
    if x and y and abs(x / y - 1) > 1e-3:
        raise ValueError(f"{name}: detector pixels of {y:.4g} x {x:.4g} m, expected square ones: resample the patterns")
    return x or y
