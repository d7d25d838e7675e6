"""Reader of MATLAB files, v5 and v7.3: patterns, positions and lengths under the names of ptychography scripts.

MATLAB writes patterns along the last axis, ``(H, W, J)`` or ``(H, W, Jx, Jy)``; v7.3 is HDF5 with all axes reversed.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ...io.lazy_stack import Stack, stack_of
from ...io.safe_hdf5 import Hdf5, is_hdf5
from ..raw_scan import Measurement, UnknownFormatError
from ..scan_positions import Positions, positions_in
from .matlab_v5 import read_v5

PATTERNS = ("det_data", "dp", "diffraction", "patterns", "data", "cbed", "fmag", "diff", "I", "measured")
AMPLITUDES = ("fmag",)
PAIRS = (("ppY", "ppX"), ("pos_y", "pos_x"), ("positions_y", "positions_x"), ("ypos", "xpos"), ("y", "x"))
TABLES = ("pos_xy", "positions", "probe_positions", "pos", "scan_positions")
PROBES = ("prb", "probe", "probe0", "initial_probe")
LENGTHS = {
    "pixel_size_m": (("dx", 1.0), ("img_pixel_size_x", 1.0), ("dx_spec", 1.0), ("pixel_size_m", 1.0)),
    "wavelength_m": (("lambda", 1.0), ("wavelength", 1.0), ("wavelength_m", 1.0)),
    "detector_distance_m": (("det_dist", 1e-6), ("z", 1.0), ("distance", 1.0), ("detector_distance_m", 1.0)),
    "detector_pixel_m": (("det_pixel_size", 1e-6), ("ds", 1.0), ("detector_pixel_m", 1.0)),
}
"""Names of single numbers and their factor to metres; NSLS-II writes micrometres."""
ENERGIES_EV = (("energy_ev", 1.0), ("energy", 1e3), ("energy_kev", 1e3))


def is_matlab(path: Path) -> bool:
    """Return True if the file has the signature of MATLAB."""
    with path.open("rb") as file:
        return file.read(6) == b"MATLAB"


def read_matlab(path: Path, dataset: str | None = None) -> Measurement:
    """Read a ``.mat`` file; ``dataset`` is the name of the patterns, if not a common one."""
    arrays = _read_v73(path, dataset) if is_hdf5(path) else read_v5(path)
    name = dataset or next((name for name in PATTERNS if name in arrays), None)
    if name is None or name not in arrays:
        raise UnknownFormatError(
            f"patterns not found in {path.name} under a known name: set source.keys.patterns to one of {sorted(arrays)}"
        )
    positions = _positions(arrays)
    lengths: dict[str, Any] = {key: _number(arrays, names) for key, names in LENGTHS.items()}
    return Measurement(
        patterns=_as_stack(arrays[name], None if positions is None else len(positions), path),
        positions=positions,
        amplitude=True if name in AMPLITUDES else None,
        corner=None,
        probe=_probe(arrays),
        energy_ev=None if lengths["wavelength_m"] else _number(arrays, ENERGIES_EV),
        name=path.stem,
        **lengths,
    )


def _read_v73(path: Path, dataset: str | None) -> dict[str, np.ndarray | Stack]:
    """Read the numeric arrays of the root with MATLAB's axes; patterns stay on disk."""
    arrays: dict[str, np.ndarray | Stack] = {}
    with Hdf5(path) as file:
        for name in (dataset,) if dataset and dataset not in file.names() else file.names():
            shape = file.shape(name)
            if len(shape) in (3, 4) and not file.holds_complex(name):
                # (J, W, H) on disk: MATLAB's axes reversed
                stack = file.stack(name, (3, 4))
                arrays[name] = stack.map(lambda piece: piece.swapaxes(-1, -2), stack.shape[:0:-1], stack.dtype)
            elif shape and file.is_numeric(name):
                arrays[name] = file.array(name, kinds="uifc").T
    return arrays


def _as_stack(patterns: np.ndarray | Stack, count: int | None, path: Path) -> Stack:
    """Return patterns ``(J, H, W)`` from an array ``(H, W, J)`` or ``(J, H, W)``, by the number of positions."""
    if isinstance(patterns, Stack):
        return patterns
    if patterns.ndim not in (3, 4) or patterns.dtype.kind not in "uif" or 0 in patterns.shape:
        raise ValueError(f"{path.name}: patterns are {patterns.dtype} {patterns.shape}, expected (H, W, patterns)")
    if patterns.ndim == 4:
        return stack_of(np.ascontiguousarray(patterns.transpose(3, 2, 0, 1)))
    last = patterns.shape[-1] == count or patterns.shape[0] != count
    return stack_of(np.moveaxis(patterns, -1, 0) if last else patterns)


def _positions(arrays: dict) -> Positions | None:
    for pair in PAIRS:
        if all(isinstance(arrays.get(name), np.ndarray) for name in pair):
            y, x = (np.asarray(arrays[name], np.float64).ravel() for name in pair)
            return Positions(np.stack([y, x], axis=1)) if len(y) == len(x) else None
    for name in TABLES:
        table = arrays.get(name)
        if isinstance(table, np.ndarray) and table.ndim == 2 and 2 in table.shape:
            x_y = table if table.shape[1] == 2 else table.T
            unit = "um" if name == "pos_xy" else "m"  # NSLS-II writes um
            return positions_in(np.asarray(x_y[:, ::-1], np.float64), unit, unit, name)
    return None


def _probe(arrays: dict) -> np.ndarray | None:
    for name in PROBES:
        probe = arrays.get(name)
        if isinstance(probe, np.ndarray) and probe.dtype.kind == "c" and probe.ndim in (2, 3):
            return np.moveaxis(probe, -1, 0) if probe.ndim == 3 else probe[None]
    return None


def _number(arrays: dict, names: tuple[tuple[str, float], ...]) -> float | None:
    for name, scale in names:
        value = arrays.get(name)
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "uif":
            number = float(value.ravel()[0]) * scale
            if value.size > 1 and np.ptp(value) > 1e-3 * abs(value).max():
                raise ValueError(
                    f"{name} is {value.ravel().tolist()[:3]}, expected square pixels: resample the patterns"
                )
            return number if np.isfinite(number) and number > 0 else None
    return None
