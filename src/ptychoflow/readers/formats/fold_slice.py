"""Reader of fold_slice pairs: patterns in ``NAME_dp.hdf5``, positions and lengths in ``NAME_para.hdf5``."""

from pathlib import Path

import numpy as np

from ...io.safe_hdf5 import Hdf5
from ..raw_scan import Measurement
from ..scan_positions import positions_in


def is_fold_slice(path: Path) -> bool:
    """Return True if the name ends as one of a pair does."""
    return path.stem.endswith(("_dp", "_para")) and path.suffix in (".hdf5", ".h5")


def read_fold_slice(path: Path, dataset: str | None = None) -> Measurement:
    """Read a pair; ``dataset`` is another path of the patterns.

    Raises:
        FileNotFoundError: if the other one of the pair is missing.
    """
    base = path.stem.removesuffix("_dp").removesuffix("_para")
    pair = [path.with_name(f"{base}_{part}{path.suffix}") for part in ("dp", "para")]
    for part in pair:
        if not part.is_file():
            raise FileNotFoundError(
                f"{part.name} not found beside {path.name}: fold_slice writes pairs, put both into one folder"
            )
    with Hdf5(pair[0]) as file:
        patterns = file.stack(dataset or "/dp")
    with Hdf5(pair[1]) as file:
        y, x = (file.array(f"/{name}").ravel() for name in ("ppY", "ppX"))
        if len(y) != len(x):
            raise ValueError(
                f"{pair[1].name}: got {len(y)} positions in ppY and {len(x)} in ppX, expected as many: correct the file"
            )
        return Measurement(
            patterns=patterns,
            positions=positions_in(
                np.stack([y, x], axis=1), file.unit("/ppY", "m"), file.unit("/ppX", "m"), f"{pair[1].name}:/ppY"
            ),
            corner=None,
            wavelength_m=file.number("/lambda", unit="m"),
            pixel_size_m=file.number("/dx", unit="m"),
            name=base,
            unread=file.unread,
            metadata={"tomography_angle_deg": file.number("/angle", otherwise=0.0)},
        )
