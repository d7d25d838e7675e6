"""Values behind the explorer of a report: objects, probes, maps, positions and patterns, packed for a browser.

A number takes 16 bits between the ends of its range, a phase counts 65536ths of a turn. Planes are compressed (zlib)
and written as base64. Those that do not fit into the page go into files beside it: scripts, which the page loads when
they are asked for, because browsers let a page from disk load no other kind of file.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np

from ..metrics.image import unwrapped_phase
from .images import AMPLITUDE, CYCLE, ERROR, MAGNITUDE, PHASE
from .results import Result

EMBEDDED_BYTES = 18_000_000
"""Packed planes that a page holds; with its other pictures it then stays below 30 MB."""
MOST_UNWRAPPED_PX = 1 << 22
"""Pixels of the largest object that is unwrapped; larger ones would take minutes."""
MOST_POSITIONS = 20_000
"""Positions of a scan that are drawn, evenly spread over it."""
COLOURS = ("viridis", AMPLITUDE, PHASE, CYCLE, MAGNITUDE, ERROR)


@dataclass
class PackedData:
    """Packed planes of a page: those that fit lie in the page, others in files beside it.

    Attributes:
        folder: name of the folder of the files, relative to the page.
        embedded: bytes in the page so far.
        files: text of each file by name.
    """

    folder: str
    embedded: int = 0
    files: dict[str, str] = field(default_factory=dict)

    def place(self, planes: Mapping[str, str]) -> dict[str, Any]:
        """Return where planes lie: themselves as ``planes``, or the ``file`` that holds them and their ``key``."""
        size = sum(map(len, planes.values()))
        if self.embedded + size <= EMBEDDED_BYTES:
            self.embedded += size
            return {"planes": dict(planes)}
        key = f"{len(self.files) + 1:04d}"
        self.files[f"{key}.js"] = f"(window.explorerData ??= {{}})[{json.dumps(key)}] = {json.dumps(dict(planes))};\n"
        return {"key": key, "file": f"{self.folder}/{key}.js"}


def explorer_data(
    results: Sequence[Result],
    arrays: Sequence[Mapping[str, np.ndarray]],
    objects: Sequence[tuple[str, str, np.ndarray, np.ndarray]],
    packed: PackedData,
) -> dict[str, Any]:
    """Return everything that the explorer of one scan shows, as plain data.

    Args:
        results: of this scan, as the section shows them.
        arrays: of each result.
        objects: key, name, complex object and mask of each view, all in the frame of the first result.
        packed: where the planes go.
    """
    scan = results[0].metrics["scan"]
    pictures = [_complex_picture(key, name, image, mask, packed) for key, name, image, mask in objects]
    for result, found in zip(results, arrays, strict=True):
        pictures += _probe_pictures(result, found, packed)
    pictures += _map_pictures(results[0], arrays[0], packed)
    return {
        "name": results[0].scan,
        "pixel_m": scan["pixel_size_m"],
        "nominal": scan["nominal_geometry"],
        "pictures": pictures,
        "positions": _positions(arrays[0]),
        "patterns": _patterns(arrays[0], packed),
        "files": [{"name": result.method, "path": str(result.arrays.absolute())} for result in results],
    }


def colour_tables() -> dict[str, str]:
    """Return the colour maps that the explorer offers, 256 red, green and blue bytes each, as base64."""
    steps = np.linspace(0, 1, 256)
    return {
        name: base64.b64encode(matplotlib.colormaps[name](steps, bytes=True)[:, :3].tobytes()).decode()
        for name in COLOURS
    }


def pack(values: np.ndarray) -> str:
    """Return an array of bytes or of 16-bit numbers as base64 text: compressed, of the latter first the high bytes."""
    values = np.ascontiguousarray(values)
    if values.dtype.itemsize == 2:
        values = np.stack([values.view(np.uint16) >> 8, values.view(np.uint16) & 255]).astype(np.uint8)
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as 16-bit numbers, 0 at ``low`` and 65535 at ``high``."""
    return np.rint(np.clip((values - low) / max(high - low, 1e-30), 0, 1) * 65535).astype(np.uint16)


def _complex_picture(key: str, name: str, image: np.ndarray, mask: np.ndarray, packed: PackedData) -> dict[str, Any]:
    amplitude, phase = np.abs(image), np.angle(image)
    most = float(amplitude[mask].max(initial=0)) or 1.0
    planes = {
        "amplitude": pack(_scaled(amplitude, 0, most)),
        # -pi and pi are the same phase, so that a turn has 65536 steps
        "phase": pack((np.rint((phase / (2 * math.pi) + 0.5) * 65536).astype(np.int64) & 0xFFFF).astype(np.uint16)),
        "mask": pack(mask.astype(np.uint8)),
    }
    if key != "probe" and mask.any() and image.size <= MOST_UNWRAPPED_PX:
        reference = np.angle(image[mask].sum())
        turns = np.rint((unwrapped_phase(image, mask) + reference - phase) / (2 * math.pi))
        planes["turns"] = pack(np.where(mask, np.clip(turns, -127, 127), 0).astype(np.int8))
    description = {"name": name, "kind": "probe" if key == "probe" else "object", "amplitude_max": most}
    return description | {"shape": list(image.shape)} | packed.place(planes)


def _probe_pictures(result: Result, found: Mapping[str, np.ndarray], packed: PackedData) -> Iterator[dict[str, Any]]:
    """Yield the probe modes of a result, the strongest first."""
    power = np.sum(np.abs(found["probe"]) ** 2, axis=(1, 2))
    for number, mode in enumerate(np.argsort(-power).tolist(), 1):
        name = f"probe mode {number}, {result.method} ({power[mode] / power.sum():.1%})"
        yield _complex_picture("probe", name, found["probe"][mode], np.ones(found["probe"].shape[1:], bool), packed)


def _map_pictures(result: Result, found: Mapping[str, np.ndarray], packed: PackedData) -> Iterator[dict[str, Any]]:
    """Yield the maps of a result in its frame: R-factor of the nearest pattern, illumination, phase uncertainty."""
    mask = found["refined_mask"].astype(bool)
    named = {
        "refined_r_map": ("R-factor", ""),
        "weight": ("illumination", "relative"),
        "phase_uncertainty": ("phase uncertainty", "rad"),
    }
    for key, (name, unit) in named.items():
        if key in found and mask.any():
            values = found[key].astype(np.float32)
            low, high = float(values[mask].min()), float(values[mask].max())
            planes = {"value": pack(_scaled(values, low, high)), "mask": pack(mask.astype(np.uint8))}
            description = {"name": f"{name}, {result.method}", "kind": "map", "low": low, "high": high, "unit": unit}
            yield description | {"shape": list(values.shape)} | packed.place(planes)


def _positions(found: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Return positions in the frame, px: refined, and as they were recorded."""
    if "positions" not in found:
        return None
    some = slice(None, None, -(-len(found["positions"]) // MOST_POSITIONS))
    return {
        "refined": [[round(value, 3) for value in point] for point in found["positions"][some].tolist()],
        "recorded": [[round(value, 3) for value in point] for point in found["positions_recorded"][some].tolist()],
    }


def _patterns(found: Mapping[str, np.ndarray], packed: PackedData) -> dict[str, Any] | None:
    """Return measured and expected patterns by index, on the scale ``log10(1 + counts)`` from 0 to ``most``."""
    if "browse_patterns" not in found:
        return None
    measured, expected = found["browse_patterns"]
    description = {
        "index": found["browse_indices"].tolist(),
        "positions": np.round(found["positions"][found["browse_indices"]].astype(float), 3).tolist(),
        "r_factor": [float(f"{value:.4g}") for value in found["r_factors"][found["browse_indices"]].tolist()],
        "side": measured.shape[-1],
        "binning": int(found["browse_binning"]),
        "most": float(found["browse_most"]),
    }
    return description | packed.place({"measured": pack(measured), "expected": pack(expected)})
