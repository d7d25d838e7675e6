"""Reader of ptychodus: standard directories (``diffraction.h5``, ``product.h5``), training files, and its own readers.

Patterns carry a scan index each, and so do positions: they are paired by it. The direct beam lies in the middle.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ...io.lazy_stack import stack_of
from ...io.safe_hdf5 import Hdf5
from ..raw_scan import Measurement
from ..scan_positions import Positions
from .cxi import square_pixel
from .ptychodus_product import read_product

DIFFRACTION, PRODUCT = "diffraction.h5", "product.h5"


def is_standard(path: Path) -> bool:
    """Return True for a standard directory, or the patterns in one."""
    if path.is_dir():
        return (path / DIFFRACTION).is_file()
    with Hdf5(path) as file:
        return all(name in file for name in ("/patterns", "/indexes", "/bad_pixels"))


def is_training(path: Path) -> bool:
    """Return True for a training file: patterns, probe, object and lengths, all in the root."""
    with Hdf5(path) as file:
        return all(name in file for name in ("/patterns", "/probe_position_x_px", "/object_pixel_width_m"))


def read_standard(path: Path, dataset: str | None = None) -> Measurement:
    """Read a standard directory; without a product, only the patterns."""
    diffraction = path / DIFFRACTION if path.is_dir() else path
    with Hdf5(diffraction) as file:
        name = dataset or "/patterns"
        patterns, indexes = file.stack(name), file.array("/indexes", 1, kinds="ui")
        x, y = (file.number(f"{name}@detector_pixel_{side}_m") for side in ("width", "height"))
        mask = file.array("/bad_pixels", 2, kinds="buif") == 0
    if len(indexes) != len(patterns):
        raise ValueError(
            f"{diffraction.name}: got {len(indexes)} indexes for {len(patterns)} patterns: export the scan again"
        )
    pitch = square_pixel(x or None, y or None, diffraction.name)
    measurement = Measurement(patterns, mask=mask, detector_pixel_m=pitch, name=diffraction.resolve().parent.name)
    if not (diffraction.parent / PRODUCT).is_file():
        return measurement
    product = read_product(diffraction.parent / PRODUCT)
    kept, rows = _paired(indexes, product.indexes)
    return Measurement(
        patterns=patterns if len(kept) == len(patterns) else patterns.take(kept),
        positions=Positions(np.stack([product.y_m, product.x_m], axis=1)[rows]),
        mask=mask,
        probe=product.probe[0] if product.probe.size else None,
        energy_ev=product.energy_ev if product.energy_ev > 0 else None,
        detector_distance_m=product.distance_m if product.distance_m > 0 else None,
        detector_pixel_m=pitch,
        pixel_size_m=product.pixel_m,
        propagation="far_field" if product.far_field else "near_field",
        object=product.object[0] if product.object.size else None,
        object_origin=product.origin_px(patterns.shape[-1]) if product.object.size else (0.0, 0.0),
        name=measurement.name,
    )


def read_training(path: Path, dataset: str | None = None) -> Measurement:
    """Read a training file; ``dataset`` is another path of the patterns."""
    with Hdf5(path) as file:
        y, x = (file.array(f"/probe_position_{axis}_px", 1) for axis in "yx")
        energy = file.number("/photon_energy_eV")
        patterns = file.stack(dataset or "/patterns")
        half = (patterns.shape[-1] - 1) / 2 - patterns.shape[-1] // 2
        guess = file.array("/object", 2, 3, kinds="c") if "/object" in file else None
        probe = file.array("/probe", 2, 3, 4, kinds="c") if "/probe" in file else None
        if len(y) != len(x):
            raise ValueError(f"{path.name}: got {len(y)} positions along y and {len(x)} along x: export the scan again")
        return Measurement(
            patterns=patterns,
            positions=Positions(np.stack([y, x], axis=1), "px"),
            mask=file.array("/bad_pixels", 2, kinds="buif") == 0 if "/bad_pixels" in file else None,
            probe=None if probe is None else probe.reshape(-1, *probe.shape[-2:]),
            energy_ev=energy,
            detector_distance_m=file.number("/detector_object_distance_m"),
            pixel_size_m=square_pixel(
                file.number("/object_pixel_width_m"), file.number("/object_pixel_height_m"), path.name
            ),
            object=guess if guess is None or guess.ndim == 2 else guess[0],
            object_origin=(half, half),
            name=path.stem,
        )


def read_with_ptychodus(name: str, path: Path) -> Measurement:
    """Read a file with a diffraction reader of the installed ptychodus.

    Args:
        name: of ptychodus's reader.
        path: the file.

    Raises:
        ValueError: if ptychodus is not installed, knows no such reader, or its reader fails.
    """
    try:
        from ptychodus.api.plugins import PluginRegistry
    except ImportError as error:
        raise ValueError(f"the format ptychodus:{name} needs ptychodus, which cannot be imported ({error})") from None
    readers = PluginRegistry.load_plugins().diffraction_file_readers
    known = {plugin.simple_name for plugin in readers}
    if name not in known:
        raise ValueError(f"ptychodus has no reader {name}; it has {', '.join(sorted(known))}")
    try:
        data = readers.get_strategy_by_name(name).read(path)
        patterns = np.concatenate([np.asarray(array.get_patterns()) for array in data])
    except Exception as error:  # whatever a foreign reader meets is a fact about the file
        raise ValueError(f"ptychodus's reader {name} cannot read {path.name} ({error})") from None
    return _from_dataset(data, patterns, path)


def _from_dataset(data: Any, patterns: np.ndarray, path: Path) -> Measurement:
    metadata = data.get_metadata()
    pixel, bad = metadata.detector_pixel_geometry, data.get_bad_pixels()
    return Measurement(
        patterns=stack_of(patterns),
        corner=None,
        mask=None if bad is None else ~np.asarray(bad, bool),
        energy_ev=metadata.photon_energy_eV or None,
        detector_distance_m=metadata.detector_distance_m or None,
        detector_pixel_m=None if pixel is None else square_pixel(pixel.width_m, pixel.height_m, path.name),
        name=path.stem,
    )


def _paired(indexes: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the patterns that have a position, and the rows of their positions."""
    row_of = {int(index): row for row, index in reversed(list(enumerate(known)))}
    kept = [pattern for pattern, index in enumerate(indexes) if int(index) in row_of]
    if not kept:
        raise ValueError("patterns and product share no scan index: put files of one scan into the directory")
    return np.array(kept), np.array([row_of[int(indexes[pattern])] for pattern in kept])
