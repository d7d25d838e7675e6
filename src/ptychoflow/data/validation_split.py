"""The split of patterns into training and validation, made before groups are formed, so that none is in both."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from ..config import Validation
from ..core.scan import Scan
from .grouping import within


class Split(NamedTuple):
    """The patterns of one scan, each in at most one of the two, in order.

    Attributes:
        train: indices of the patterns to train on.
        validation: indices of those to validate on.
        margin: number of patterns in neither, because they lie too near to those to validate on.
    """

    train: np.ndarray
    validation: np.ndarray
    margin: int


def split(scans: Sequence[Scan], validation: Validation, least: int, seed: int) -> list[Split]:
    """Split every scan into patterns to train on and patterns to validate on.

    Args:
        scans: to split.
        validation: by block, region or scan, and the fraction.
        least: fewest patterns of a block.
        seed: of the place of the blocks.

    Raises:
        ValueError: if a named scan does not exist, or no pattern is left to train on.
    """
    names = {scan.name for scan in scans}
    if unknown := set(validation.scans) - names:
        raise ValueError(
            f"training.validation.scans: no such scan: {', '.join(sorted(unknown))}; name some of "
            f"{', '.join(sorted(names))}"
        )
    splits = [_split(scan, validation, least, seed + index) for index, scan in enumerate(scans)]
    if not any(len(part.train) for part in splits):
        raise ValueError("training.validation leaves no pattern to train on: lower its fraction or shrink its region")
    return splits


def _split(scan: Scan, validation: Validation, least: int, seed: int) -> Split:
    if validation.split == "scan":
        is_held = np.full(len(scan), scan.name in validation.scans)
    elif validation.split == "region":
        is_held = within(scan.positions, validation.y_bounds, validation.x_bounds)
    else:
        is_held = block(scan.positions, validation.fraction, least, seed)
    too_near = np.zeros(len(scan), bool)
    if validation.margin_px > 0 and is_held.any():
        distance, _ = KDTree(scan.positions[is_held]).query(scan.positions, workers=-1)
        too_near = ~is_held & (distance < validation.margin_px)
    return Split(np.flatnonzero(~is_held & ~too_near), np.flatnonzero(is_held), int(too_near.sum()))


def block(positions: np.ndarray, fraction: float, least: int, seed: int) -> np.ndarray:
    """Return True for the patterns of one square block within the scan, ``(J,)``.

    Args:
        positions: px, ``(J, 2)``.
        fraction: share of patterns in the block; none for 0.
        least: fewest patterns in a block.
        seed: of the place of the block.
    """
    count = max(round(fraction * len(positions)), least) if fraction > 0 else 0
    low, high = positions.min(0), positions.max(0)
    centre = low + (high - low) * np.random.default_rng(seed).uniform(0.2, 0.8, 2)
    order = np.argsort(np.abs(positions - centre).max(1), kind="stable")
    is_held = np.zeros(len(positions), bool)
    is_held[order[:count]] = True
    return is_held
