"""Which patterns a network sees together, and which are kept from training."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree


@dataclass(frozen=True)
class Neighbourhood:
    """Candidates to form groups from.

    Attributes:
        anchors: pattern index of each group's first member, ``(n,)``.
        candidates: pattern indices to draw the other members from, nearest first, ``(n, K)``.
    """

    anchors: np.ndarray
    candidates: np.ndarray

    def __len__(self) -> int:
        return len(self.anchors)

    def nearest(self, size: int) -> np.ndarray:
        """Groups of each anchor and its ``size - 1`` nearest neighbours, ``(n, size)``."""
        return np.concatenate([self.anchors[:, None], self.candidates[:, : size - 1]], axis=1)

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Groups of each anchor and ``size - 1`` of its candidates at random, ``(n, size)``."""
        order = rng.random(self.candidates.shape).argsort(axis=1)[:, : size - 1]
        return np.concatenate([self.anchors[:, None], np.take_along_axis(self.candidates, order, axis=1)], axis=1)


def neighbourhood(positions: np.ndarray, patterns: np.ndarray, neighbours: int) -> Neighbourhood:
    """Each pattern's nearest neighbours among ``patterns``.

    Args:
        positions: px, ``(J, 2)``.
        patterns: indices to group, each an anchor once, ``(n,)``.
        neighbours: K, how many neighbours to know of each.

    Raises:
        ValueError: if there are too few patterns.
    """
    if len(patterns) <= neighbours:
        raise ValueError(
            f"{len(patterns)} patterns are too few to give each {neighbours} neighbours: "
            "use a larger scan, or lower network.group_size, training.grouping.neighbours or validation_fraction"
        )
    where = positions[patterns]
    _, near = KDTree(where).query(where, k=neighbours + 1)
    near = _without_self(near, np.arange(len(patterns)))
    return Neighbourhood(patterns, patterns[near])


def split_block(positions: np.ndarray, fraction: float, least: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a scan into patterns to train on and one square block of patterns to validate on.

    Args:
        positions: px, ``(J, 2)``.
        fraction: share of patterns in the block; none for 0.
        least: fewest patterns a block is of use with.
        seed: places the block.

    Returns:
        Indices of the patterns to train on and of those to validate on, each in order.
    """
    held = max(round(fraction * len(positions)), least) if fraction > 0 else 0
    low, high = positions.min(0), positions.max(0)
    centre = low + (high - low) * np.random.default_rng(seed).uniform(0.2, 0.8, 2)
    distance = np.abs(positions - centre).max(1)
    order = np.argsort(distance, kind="stable")
    return np.sort(order[held:]), np.sort(order[:held])


def _without_self(near: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Neighbour lists less the pattern itself, which need not come first where positions coincide."""
    is_self = near == own[:, None]
    is_self[~is_self.any(1), -1] = True
    return near[~is_self].reshape(len(near), -1)
