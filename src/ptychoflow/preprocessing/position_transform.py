"""Transformation of scan positions to the axes of the detector: transpose, flips, rotation."""

import numpy as np

from ..config import Orientation


def oriented(positions: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Apply transpose, flips and rotation, in that order, to positions ``(J, 2)``."""
    transformed = positions[:, ::-1] if orientation.transpose else positions
    transformed = transformed * (-1.0 if orientation.flip_y else 1.0, -1.0 if orientation.flip_x else 1.0)
    if orientation.rotation_deg == 0:
        return transformed
    angle = np.deg2rad(orientation.rotation_deg)
    return transformed @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
