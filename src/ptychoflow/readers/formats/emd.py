"""Reader of 4D-STEM in EMD files, of py4DSTEM and others: ``(scan y, scan x, q y, q x)``, each axis calibrated.

Positions follow from the steps of the scan axes, the object pixel from the steps of the diffraction axes; the
wavelength must be given in ``source.geometry``.
"""

from pathlib import Path

import numpy as np

from ...io.safe_hdf5 import Hdf5, factor
from ..raw_scan import Measurement

DEEPEST = 6
RECIPROCAL = {"a^-1": 1e10, "å^-1": 1e10, "1/a": 1e10, "1/å": 1e10, "nm^-1": 1e9, "1/nm": 1e9, "m^-1": 1.0, "1/m": 1.0}
ANGLES = {"mrad": 1e-3, "rad": 1.0, "urad": 1e-6}


def is_emd(path: Path) -> bool:
    """Return True if a dataset of four dimensions has calibrated axes beside it."""
    with Hdf5(path) as file:
        return _datacube(file) is not None


def read_emd(path: Path, dataset: str | None = None) -> Measurement:
    """Read the first datacube of an EMD file, or the one at ``dataset``."""
    with Hdf5(path) as file:
        group = dataset.rpartition("/")[0] if dataset else _datacube(file)
        if group is None:
            raise ValueError(f"datacube of four dimensions not found in {path.name}: set source.dataset")
        name = dataset or f"{group}/data"
        rows, columns, side, _ = file.dataset(name, (4,)).shape
        first = 0 if f"{group}/dim0" in file else 1  # dim0 to dim3 since EMD 1.0, dim1 to dim4 before
        steps = [_step(file, f"{group}/dim{first + axis}") for axis in range(4)]
        y, x = (np.arange(count) * _length(step, path) for count, step in zip((rows, columns), steps))
        known = _frequencies(steps[2], side)
        return Measurement(
            patterns=file.stack(name, (4,)),
            positions=np.stack([grid.ravel() for grid in np.meshgrid(y, x, indexing="ij")], axis=1),
            unit="m" if steps[0] and steps[0][1].lower() not in ("", "pixels", "px", "n_m") else "px",
            corner=None,
            name=path.stem,
            **known,
        )


def _datacube(file: Hdf5, group: str = "", depth: int = 0) -> str | None:
    """Find the first group that holds ``data`` of four dimensions with a ``dim`` beside it."""
    names = file.names(group or "/")
    if "data" in names and len(file.shape(f"{group}/data")) == 4 and {"dim1", "dim2"} & set(names):
        return group
    if depth == DEEPEST:
        return None
    return next(filter(None, (_datacube(file, f"{group}/{name}", depth + 1) for name in names)), None)


def _step(file: Hdf5, name: str) -> tuple[float, str] | None:
    """Read the step of a calibrated axis and its unit; None if the axis is missing."""
    if not file.shape(name) or file.shape(name)[0] < 2:
        return None
    values = file.array(name, 1)[:2].astype(np.float64)
    unit = file.attribute(name, "units")
    unit = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit or "")
    return abs(float(values[1] - values[0])), unit.strip("[]_ ").replace("⁻¹", "^-1")


def _length(step: tuple[float, str] | None, path: Path) -> float:
    if step is None:
        return 1.0
    size, unit = step
    return size * factor("px" if unit.lower() in ("", "n_m") else unit.replace("n_m", "nm"), f"{path.name}: scan axis")


def _frequencies(step: tuple[float, str] | None, side: int) -> dict:
    """Return the lengths from a calibrated diffraction axis: object pixel, or from angles pitch over distance."""
    if step is None or step[0] == 0:
        return {}
    size, unit = step[0], step[1].lower()
    if unit in RECIPROCAL:
        return {"pixel_size_m": 1 / (side * size * RECIPROCAL[unit])}
    if unit in ANGLES:
        return {"detector_distance_m": 1.0, "detector_pixel_m": size * ANGLES[unit]}
    return {}
