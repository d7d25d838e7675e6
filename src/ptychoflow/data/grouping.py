"""The groups of patterns that a network sees together."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import KDTree

from ..config import Grouping

BLOCK_ENTRIES = 1 << 20
"""Entries of a neighbour table computed in one block: bounds the memory of a scan of any size."""
MISSING = -1
"""Fills the rows of anchors with fewer candidates than others."""
QUADRANTS = 4


@dataclass(frozen=True)
class Neighbourhood:
    """Anchors of a scan and the candidates that their groups are drawn from.

    Attributes:
        anchors: pattern index of each group's first member, ``(n,)``.
        candidates: pattern indices to draw the other members from, nearest first, ``(n, K)``; -1 where an anchor has
            fewer than others.
        quadrants: quadrant around its anchor of each candidate, 0 to 3, ``(n, K)``; None where groups ignore it.
        rejected: number of patterns that cannot be anchors, by reason.
    """

    anchors: np.ndarray
    candidates: np.ndarray
    quadrants: np.ndarray | None = None
    rejected: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.anchors)

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw a group of each anchor and ``size - 1`` of its candidates at random, ``(n, size)``.

        With quadrants, each gives a member before any gives a second one.

        Args:
            size: patterns per group, C.
            rng: random generator.
        """
        groups = np.empty((len(self), size), np.int64)
        groups[:, 0] = self.anchors
        for block in _blocks(len(self), self.candidates.shape[1]):
            candidates = self.candidates[block]
            priority = rng.random(candidates.shape)
            if self.quadrants is not None:
                priority = _alternate_quadrants(self.quadrants[block], priority, rng)
            priority[candidates == MISSING] = np.inf
            chosen = priority.argsort(axis=1)[:, : size - 1]
            groups[block, 1:] = np.take_along_axis(candidates, chosen, axis=1)
        return groups


def nearest_groups(positions: np.ndarray, patterns: np.ndarray, size: int) -> np.ndarray:
    """Return each pattern and its nearest neighbours, ``(n, size)``: the groups of validation and prediction.

    Args:
        positions: px, ``(J, 2)``.
        patterns: indices to group, each an anchor once, ``(n,)``.
        size: patterns per group.

    Raises:
        ValueError: if there are too few patterns.
    """
    candidates, _ = _search(positions, patterns, patterns, size - 1)
    return np.concatenate([patterns[:, None], candidates], axis=1)


def neighbourhood(
    positions: np.ndarray, patterns: np.ndarray, size: int, grouping: Grouping = Grouping()
) -> Neighbourhood:
    """Return the anchors and candidates that the settings allow.

    Args:
        positions: px, ``(J, 2)``.
        patterns: indices to group, ``(n,)``; each that lies within the bounds may be an anchor.
        size: patterns per group, held-out neighbours included.
        grouping: method, neighbours, distances, bounds.

    Raises:
        ValueError: if there are too few patterns, or no anchor is left, saying why.
    """
    needed, pool = size - 1, grouping.k_nearest
    if pool < needed:
        raise ValueError(
            f"training.grouping.k_nearest is {pool}, a group of {size} (held-out neighbours included) needs "
            f"{needed}: raise it"
        )
    anchors = patterns[within(positions, grouping.y_bounds, grouping.x_bounds)[patterns]]
    rejected = {"outside the bounds": len(patterns) - len(anchors)}
    least, most = grouping.min_distance_px, grouping.max_distance_px or np.inf
    candidates, number = _search(positions, anchors, patterns, pool, least, most)
    kept = number >= needed
    rejected[f"fewer than {needed} neighbours at {least:g} to {most:g} px"] = int(np.sum(~kept))
    quadrants = None
    if grouping.method == "quadrant":
        quadrants = _quadrants(positions, anchors, candidates)
        surrounded = sum((quadrants == q).any(1).astype(int) for q in range(QUADRANTS)) >= min(needed, QUADRANTS)
        rejected["neighbours in too few quadrants"] = int(np.sum(kept & ~surrounded))
        kept &= surrounded
        quadrants = quadrants[kept]
    rejected = {reason: count for reason, count in rejected.items() if count}
    if not kept.any():
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items())
        raise ValueError(f"none of {len(patterns)} patterns can be an anchor ({reasons}): widen training.grouping")
    return Neighbourhood(anchors[kept], candidates[kept], quadrants, rejected)


def within(positions: np.ndarray, y_bounds: tuple[float, float], x_bounds: tuple[float, float]) -> np.ndarray:
    """Return True for each position within bounds, ``(J,)``.

    Args:
        positions: px, ``(J, 2)``.
        y_bounds: as shares of the extent of all positions; 0 and 1 include all.
        x_bounds: likewise.
    """
    low, high = positions.min(0), positions.max(0)
    first, last = np.array([y_bounds, x_bounds]).T
    share = (positions - low) / np.where(high > low, high - low, 1)
    return ((share >= first) & (share <= last)).all(1)


def _search(
    positions: np.ndarray,
    anchors: np.ndarray,
    patterns: np.ndarray,
    count: int,
    least_px: float = 0.0,
    most_px: float = np.inf,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest patterns of each anchor within a band of distances, itself excluded.

    Args:
        positions: px, ``(J, 2)``.
        anchors: pattern indices, ``(n,)``.
        patterns: pattern indices that may be neighbours.
        count: number of neighbours, K.
        least_px: least distance.
        most_px: greatest distance.

    Returns:
        Pattern indices, nearest first, int32, ``(n, K)``, -1 where there are fewer; and their number, ``(n,)``.

    Raises:
        ValueError: if there are too few patterns at any distance.
    """
    if len(patterns) <= count:
        raise ValueError(
            f"expected at least {count + 1} patterns to give each {count} neighbours, got {len(patterns)}: "
            "use a larger scan, or lower network.group_size, training.grouping.k_nearest or training.validation"
        )
    tree = KDTree(positions[patterns])
    indices = np.append(patterns, MISSING).astype(np.int32)
    closer = np.zeros(len(anchors), np.int64)
    if least_px > 0:
        inner = np.nextafter(least_px, 0)
        closer = tree.query_ball_point(positions[anchors], inner, return_length=True, workers=-1) - 1
    candidates, number = np.full((len(anchors), count), MISSING, np.int32), np.zeros(len(anchors), np.int64)
    for block in _blocks(len(anchors), count + 1 + int(closer.max(initial=0))):
        ranks = np.arange(1, min(count + 1 + int(closer[block].max()), len(patterns)) + 1)
        bound = np.nextafter(most_px, np.inf)
        centres = positions[anchors[block]]
        distance, near = tree.query(centres, k=ranks, distance_upper_bound=bound, workers=-1)
        near, distance = _without_self(indices[near], distance, anchors[block])
        near[distance < least_px] = MISSING
        near = _valid_first(near)[:, :count]
        candidates[block, : near.shape[1]] = near
        number[block] = np.sum(near != MISSING, axis=1)
    return candidates, number


def _without_self(near: np.ndarray, distance: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return neighbour lists without the anchor itself, which need not come first where positions coincide."""
    is_self = near == own[:, None]
    is_self[~is_self.any(1), -1] = True
    shape = (len(near), near.shape[1] - 1)
    return near[~is_self].reshape(shape), distance[~is_self].reshape(shape)


def _valid_first(near: np.ndarray) -> np.ndarray:
    """Return neighbour lists with missing entries moved to the end."""
    if (near != MISSING).all():
        return near
    return np.take_along_axis(near, np.argsort(near == MISSING, axis=1, kind="stable"), axis=1)


def _quadrants(positions: np.ndarray, anchors: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the quadrant around its anchor of each candidate, uint8, ``(n, K)``; 4 for missing ones.

    Each half axis belongs to one quadrant, so that the four are equivalent under a quarter rotation.
    """
    quadrants = np.full(candidates.shape, QUADRANTS, np.uint8)
    for block in _blocks(len(anchors), candidates.shape[1]):
        y, x = np.moveaxis(positions[candidates[block]] - positions[anchors[block], None], -1, 0)
        for quadrant, inside in enumerate(
            ((y < 0) & (x >= 0), (y >= 0) & (x > 0), (y > 0) & (x <= 0), (y <= 0) & (x < 0))
        ):
            quadrants[block][inside & (candidates[block] != MISSING)] = quadrant
    return quadrants


def _alternate_quadrants(quadrants: np.ndarray, chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the priority of each candidate, ``(n, K)``: the first of every quadrant before the second of any."""
    order = np.argsort(quadrants + chance / 2, axis=1)
    ordered = np.take_along_axis(quadrants, order, axis=1)
    first = np.stack([np.sum(quadrants < q, axis=1) for q in range(QUADRANTS + 1)], axis=1)
    rank = np.arange(quadrants.shape[1]) - np.take_along_axis(first, ordered.astype(np.intp), axis=1)
    toss = rng.random((len(quadrants), QUADRANTS + 1))
    priority = np.empty_like(chance)
    np.put_along_axis(priority, order, rank + np.take_along_axis(toss, ordered.astype(np.intp), axis=1), axis=1)
    priority[quadrants == QUADRANTS] = np.inf
    return priority


def _blocks(length: int, width: int) -> Iterator[slice]:
    """Yield slices of a table of ``width`` columns, each of a bounded size."""
    step = max(1, BLOCK_ENTRIES // max(width, 1))
    return (slice(first, first + step) for first in range(0, length, step))
