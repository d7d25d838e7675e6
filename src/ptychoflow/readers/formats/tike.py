"""Reader of tike's test archives: an npz, plain or bz2-compressed, with ``data``, ``scan`` and ``probe``.

All three may lack the axis of angles. Counts come with zero frequency at the corner, positions in object pixels
``(y, x)`` of each patch's first corner, the probe in arbitrary units. The files carry no lengths.
"""

from pathlib import Path

import numpy as np

from ...io.lazy_stack import stack_of
from ...io.npz_archive import NUMBERS, open_npz
from ..raw_scan import Measurement
from ..scan_positions import Positions

ARRAYS = {
    "data": ("fui", 4, "real (angles, patterns, N, N)"),
    "scan": ("f", 3, "real (angles, patterns, 2)"),
    "probe": ("c", 6, "complex (angles, 1, 1, modes, N, N)"),
}
"""Required arrays: kinds of number, number of dimensions with that of the angles, and both for messages."""


def read_tike(path: Path, dataset: str | None = None) -> Measurement:
    """Read the first angle of a tike archive; ``dataset`` is another name of the patterns.

    Raises:
        ValueError: if the archive is damaged or holds something else.
    """
    with open_npz(path) as archive:
        names = {name: dataset if dataset and name == "data" else name for name in ARRAYS}
        arrays = {name: archive.array(held, kinds=NUMBERS) for name, held in names.items() if held in archive}
    single = all(array.ndim == ARRAYS[name][1] - 1 for name, array in arrays.items())
    if single:
        arrays = {name: array[None] for name, array in arrays.items()}
    for name, (kind, dimensions, meaning) in ARRAYS.items():
        if name not in arrays:
            raise ValueError(f"array {name} not found in {path}, expected {meaning}: correct source.format")
        array = arrays[name]
        if array.dtype.kind not in kind or array.ndim != dimensions or 0 in array.shape:
            raise ValueError(f"{path}: {name} is {array.dtype} {array.shape}, expected {meaning}")
    patterns = stack_of(arrays["data"][0])
    return Measurement(
        patterns=patterns,
        positions=Positions(arrays["scan"][0].astype(np.float64) + patterns.shape[-1] // 2, "px"),
        corner=None if single else True,  # a scan cut out of an archive may have been centred
        probe=arrays["probe"][0, 0, 0],
        name=path.name.partition(".")[0],
    )
