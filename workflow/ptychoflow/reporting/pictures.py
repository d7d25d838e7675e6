"""From arrays to colours: one scale for images that are compared, nothing drawn where nothing is known."""

import base64
import io

import matplotlib
import numpy as np
from PIL import Image

AMPLITUDE, PHASE, ERROR, FIT = "gray", "cividis", "RdBu_r", "magma"
"""Colour maps, by what they show."""


def limits(values: np.ndarray, mask: np.ndarray, shares: tuple[float, float] = (0.5, 99.5)) -> tuple[float, float]:
    """The range of values to show: all but a few outliers on the mask, never empty."""
    low, high = (float(v) for v in np.percentile(values[mask], shares))
    return (low, high) if high - low > 1e-6 * max(1, abs(high)) else (low - 0.5, high + 0.5)


def symmetric_limits(values: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Limits around zero that hold 99 of 100 values."""
    reach = limits(np.abs(values), mask, (0, 99))[1]
    return -reach, reach


def colour(values: np.ndarray, mask: np.ndarray, scale: tuple[float, float], colours: str) -> np.ndarray:
    """Values as colours, transparent outside the mask, ``(H, W, 4)`` uint8."""
    low, high = scale
    shares = np.where(mask, (values - low) / (high - low), 0)
    rgba = matplotlib.colormaps[colours](np.clip(shares, 0, 1), bytes=True)
    rgba[..., 3] = np.where(mask, 255, 0)
    return rgba


def colour_wave(wave: np.ndarray) -> np.ndarray:
    """A wave with its phase as hue and its amplitude as brightness, opaque, ``(H, W, 4)`` uint8."""
    amplitude = np.abs(wave)
    hue = np.angle(wave) / (2 * np.pi) % 1
    hsv = np.stack([hue, np.full(wave.shape, 0.85), amplitude / max(float(amplitude.max()), 1e-30)], -1)
    rgb = np.rint(255 * matplotlib.colors.hsv_to_rgb(hsv)).astype(np.uint8)
    return np.concatenate([rgb, np.full((*wave.shape, 1), 255, np.uint8)], -1)


def log_counts(counts: np.ndarray) -> np.ndarray:
    """Counts as they are looked at: ``log10(1 + counts)``."""
    return np.log10(1 + np.maximum(counts, 0))


def data_uri(rgba: np.ndarray, most_px: int, quality: int = 88) -> str:
    """A picture as text that a page holds: WebP, no side longer than ``most_px``; small ones lose nothing."""
    picture = Image.fromarray(rgba, "RGBA")
    if max(picture.size) > most_px:
        shrink = most_px / max(picture.size)
        size = [max(1, round(side * shrink)) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality, method=4, lossless=max(picture.size) <= 96)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def gradient(colours: str, steps: int = 9) -> str:
    """A colour map as a CSS gradient, from left to right."""
    stops = matplotlib.colormaps[colours](np.linspace(0, 1, steps), bytes=True)[:, :3]
    return "linear-gradient(to right, " + ", ".join(f"rgb({r} {g} {b})" for r, g, b in stops.tolist()) + ")"
