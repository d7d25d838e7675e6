"""Positions as the detector sees them: axes swapped, flipped, rotated."""

import numpy as np

from ..config import Orientation


def oriented(positions: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Positions after swap, flips and rotation, in that order, ``(J, 2)``."""
    turned = positions[:, ::-1] if orientation.transpose else positions
    turned = turned * (-1.0 if orientation.flip_y else 1.0, -1.0 if orientation.flip_x else 1.0)
    if orientation.rotation_deg == 0:
        return turned
    angle = np.deg2rad(orientation.rotation_deg)
    return turned @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
