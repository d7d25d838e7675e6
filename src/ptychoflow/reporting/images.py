"""Images of arrays: colour maps, ranges, scale bars and data URIs. Unknown pixels are transparent."""

import base64
import io
import math
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

AMPLITUDE, PHASE, CYCLE, ERROR, MAGNITUDE = "gray", "cividis", "twilight", "RdBu_r", "magma"
"""Colour maps by quantity. ``CYCLE`` is cyclic, for phases that span the full circle."""
LONGEST_BAR = 0.3
"""Fraction of the image width that a scale bar may take."""
LENGTHS = ((1e-9, "nm"), (1e-6, "µm"), (1e-3, "mm"), (1.0, "m"))


def limits(values: np.ndarray, mask: np.ndarray, percentiles: tuple[float, float] = (0.5, 99.5)) -> tuple[float, float]:
    """Return the range of values between two percentiles on the mask, never empty."""
    low, high = (float(v) for v in np.percentile(values[mask], percentiles))
    return (low, high) if high - low > 1e-6 * max(1, abs(high)) else (low - 0.5, high + 0.5)


def symmetric_limits(values: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Return limits around zero that hold 99 % of the values on the mask."""
    reach = limits(np.abs(values), mask, (0, 99))[1]
    return -reach, reach


def phase_colours(phase: np.ndarray, mask: np.ndarray) -> tuple[tuple[float, float], str]:
    """Return range (rad) and colour map of a phase: the full circle where it spans more than three quarters of it."""
    low, high = limits(phase, mask)
    return ((-math.pi, math.pi), CYCLE) if high - low > 1.5 * math.pi else ((low, high), PHASE)


@dataclass(frozen=True)
class ScaleBar:
    """A scale bar: its length as a fraction of the image width, and its label."""

    fraction: float
    label: str


def scale_bar(pixel_size_m: float, width_px: int) -> ScaleBar:
    """Return the longest scale bar of 1, 2 or 5 times a power of ten that fits :data:`LONGEST_BAR` of the width."""
    most = LONGEST_BAR * width_px * pixel_size_m
    power = 10.0 ** math.floor(math.log10(most))
    length = next(power * m for m in (5, 2, 1) if power * m <= most)
    return ScaleBar(length / (width_px * pixel_size_m), length_text(length))


def length_text(length_m: float) -> str:
    """Return a length with three digits in the unit that suits it."""
    unit, name = next((u for u in reversed(LENGTHS) if length_m >= 0.9999 * u[0]), LENGTHS[0])
    return f"{length_m / unit:.3g} {name}"


def colour(values: np.ndarray, mask: np.ndarray, scale: tuple[float, float], colours: str) -> np.ndarray:
    """Map values to colours, transparent outside the mask, ``(H, W, 4)`` uint8."""
    low, high = scale
    fractions = np.where(mask, (values - low) / (high - low), 0)
    rgba = matplotlib.colormaps[colours](np.clip(fractions, 0, 1), bytes=True)
    rgba[..., 3] = np.where(mask, 255, 0)
    return rgba


def colour_wave(wave: np.ndarray) -> np.ndarray:
    """Map a complex wave to colours, phase as hue and amplitude as value, opaque, ``(H, W, 4)`` uint8."""
    amplitude = np.abs(wave)
    hue = np.angle(wave) / (2 * np.pi) % 1
    hsv = np.stack([hue, np.full(wave.shape, 0.85), amplitude / max(float(amplitude.max()), 1e-30)], -1)
    rgb = np.rint(255 * matplotlib.colors.hsv_to_rgb(hsv)).astype(np.uint8)
    return np.concatenate([rgb, np.full((*wave.shape, 1), 255, np.uint8)], -1)


def log_counts(counts: np.ndarray) -> np.ndarray:
    """Compute ``log10(1 + counts)``, the scale on which patterns are shown."""
    return np.log10(1 + np.maximum(counts, 0))


@dataclass(frozen=True)
class Detail:
    """Size and quality of the images of a page.

    Attributes:
        tile_px: longest side of an image of the object, px.
        small_px: longest side of other images, px.
        quality: of WebP, 0 to 100; from 80, images of at most 96 px are lossless.
        patterns: most patterns shown of a scan.
    """

    tile_px: int
    small_px: int
    quality: int
    patterns: int

    @classmethod
    def for_results(cls, count: int) -> "Detail":
        """Return the detail with which a page of ``count`` reconstructions stays below about 30 MB."""
        return cls(480, 192, 88, 5) if count <= 12 else cls(300, 192, 80, 5) if count <= 60 else cls(180, 64, 60, 3)


def data_uri(rgba: np.ndarray, most_px: int, quality: int) -> str:
    """Encode an image ``(H, W, 4)`` as a WebP data URI, no side longer than ``most_px``."""
    picture = Image.fromarray(rgba, "RGBA")
    if max(picture.size) > most_px:
        shrink = most_px / max(picture.size)
        size = [max(1, round(side * shrink)) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality, method=4, lossless=quality >= 80 and max(picture.size) <= 96)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def gradient(colours: str, steps: int = 9) -> str:
    """Return a colour map as a CSS gradient, from left to right."""
    stops = matplotlib.colormaps[colours](np.linspace(0, 1, steps), bytes=True)[:, :3]
    return "linear-gradient(to right, " + ", ".join(f"rgb({r} {g} {b})" for r, g, b in stops.tolist()) + ")"
