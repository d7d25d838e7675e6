"""Reader of ptypy: prepared data in ``.ptyd`` (chunks, linked or inside), reconstructions in ``.ptyr``.

Patterns are cropped so that the direct beam lies in the middle, positions are ``(y, x)`` in metres, energies in keV.
"""

from pathlib import Path

import numpy as np

from ...io.lazy_stack import concatenate_stacks
from ...io.safe_hdf5 import Hdf5
from ..raw_scan import Measurement
from ..scan_positions import Positions


def is_ptypy(path: Path) -> bool:
    """Return True if the file holds chunks of prepared data."""
    with Hdf5(path) as file:
        return "/chunks" in file and "/meta" in file


def read_ptypy(path: Path, dataset: str | None = None) -> Measurement:
    """Read the chunks of a ``.ptyd`` file; ``dataset`` is another name of the patterns in a chunk."""
    with Hdf5(path) as file:
        chunks = sorted((name for name in file.names("/chunks") if name.isdigit()), key=int)
        if not chunks:
            raise ValueError(f"chunks not found in {path.name}: finish its preparation in ptypy")
        in_chunks = [_chunk_positions(file, f"/chunks/{name}") for name in chunks]
        known = [positions for positions in in_chunks if positions is not None]
        in_file = np.concatenate(known) if len(known) == len(chunks) else _whole_scan(file)
        patterns = concatenate_stacks([file.stack(f"/chunks/{name}/{dataset or 'data'}") for name in chunks])
        energy_ev = file.number("/meta/energy", "/info/energy", unit="kev")
        return Measurement(
            patterns=patterns,
            positions=None if in_file is None else Positions(in_file),
            mask=_weight(file, chunks[0], patterns.shape[1:]),
            energy_ev=energy_ev,
            detector_distance_m=file.number("/meta/distance", "/info/distance", unit="m"),
            detector_pixel_m=_pixel(file),
            # lengths of a cone beam are effective ones in ptypy, those of a parallel beam
            propagation="near_field" if file.text("/meta/propagation").lower().startswith("near") else None,
            name=file.text("/meta/label") or path.stem,
            unread=file.unread,
        )


def read_ptyr(path: Path) -> np.ndarray:
    """Read the probe of a ``.ptyr`` reconstruction, modes ``(M, N, N)``.

    Raises:
        ValueError: if it holds no probe.
    """
    with Hdf5(path) as file:
        names = file.names("/content/probe")
        if not names:
            raise ValueError(f"probe not found in {path.name}, expected a ptypy reconstruction: correct source.probe")
        probe = file.array(f"/content/probe/{names[0]}/data", 2, 3, kinds="c")
        return probe.reshape(-1, *probe.shape[-2:])


def _chunk_positions(file: Hdf5, chunk: str) -> np.ndarray | None:
    return file.array(f"{chunk}/positions", 2) if f"{chunk}/positions" in file else None


def _whole_scan(file: Hdf5) -> np.ndarray | None:
    name = file.first("/info/positions_scan", "/info/positions_theory")
    return None if name is None else file.array(name, 2)


def _weight(file: Hdf5, chunk: str, sides: tuple[int, ...]) -> np.ndarray | None:
    """Return True for pixels that have weight in the first pattern; one mask serves all."""
    name = file.first(f"/chunks/{chunk}/weights", "/info/weight2d", "/meta/weight2d")
    if name is None or file.shape(name)[-2:] != sides:
        return None
    if len(file.shape(name)) == 3:
        return file.stack(name)[0] > 0
    return file.array(name, 2, kinds="uifb") > 0


def _pixel(file: Hdf5) -> float | None:
    name = file.first("/meta/psize", "/info/psize")
    if name is None or not file.shape(name):
        return file.number("/meta/psize", "/info/psize", unit="m")
    sides = file.array(name).ravel()
    if abs(sides / sides[0] - 1).max() > 1e-3:
        raise ValueError(f"{file.path.name}: detector pixels of {sides} m, expected square ones: resample the patterns")
    return float(sides[0])
