"""Reader of 4D-STEM in EMD files, of py4DSTEM and others: ``(scan y, scan x, q y, q x)``, each axis calibrated.

Positions follow from the steps of the scan axes, the object pixel from the steps of the diffraction axes; the
wavelength must be given in ``source.geometry``.
"""

from pathlib import Path

import numpy as np

from ...io.safe_hdf5 import Hdf5
from ..rasters import Step, lengths_of_axes, raster_of_axes
from ..raw_scan import Measurement

DEEPEST = 6


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
        rows, columns, _, side = file.dataset(name, (4,)).shape
        first = 0 if f"{group}/dim0" in file else 1  # dim0 to dim3 since EMD 1.0, dim1 to dim4 before
        steps = [_step(file, f"{group}/dim{first + axis}") for axis in range(4)]
        lengths, unread = lengths_of_axes(steps[2], steps[3], side, path.name)
        return Measurement(
            patterns=file.stack(name, (4,)),
            positions=raster_of_axes(steps[0], steps[1], (rows, columns), path.name),
            corner=None,
            radiation="electrons",
            name=path.stem,
            unread=[*file.unread, *unread],
            metadata={"scan_shape": [rows, columns]},
            **lengths,
        )


def _datacube(file: Hdf5, group: str = "", depth: int = 0) -> str | None:
    """Find the first group that holds ``data`` of four dimensions with a ``dim`` beside it."""
    names = file.names(group or "/")
    if "data" in names and len(file.shape(f"{group}/data")) == 4 and {"dim1", "dim2"} & set(names):
        return group
    if depth == DEEPEST:
        return None
    return next(filter(None, (_datacube(file, f"{group}/{name}", depth + 1) for name in names)), None)


def _step(file: Hdf5, name: str) -> Step | None:
    """Read the step of a calibrated axis and its unit; None if the axis is missing or has one point."""
    if not file.shape(name) or file.shape(name)[0] < 2:
        return None
    values = file.array(name, 1)[:2].astype(np.float64)
    return abs(float(values[1] - values[0])), file.unit(name)
