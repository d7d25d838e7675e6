"""Which patterns a network sees together."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import KDTree

from ..config import Grouping

AT_ONCE = 1 << 20
"""Neighbours looked at at once: bounds the memory of a scan of any size."""
NONE = -1
"""Stands where an anchor has fewer candidates than others."""
QUADRANTS = 4


@dataclass(frozen=True)
class Neighbourhood:
    """Candidates to form groups from.

    Attributes:
        anchors: pattern index of each group's first member, ``(n,)``.
        candidates: pattern indices to draw the other members from, nearest first, ``(n, K)``; -1 where an anchor has
            fewer than others.
        quadrants: the quadrant around its anchor that each candidate lies in, 0 to 3, ``(n, K)``; None where that
            does not matter.
        rejected: how many patterns are no anchor, by reason.
    """

    anchors: np.ndarray
    candidates: np.ndarray
    quadrants: np.ndarray | None = None
    rejected: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.anchors)

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Groups of each anchor and ``size - 1`` of its candidates at random, ``(n, size)``.

        Where quadrants matter, members come from as many of them as there are, then from those again.
        """
        groups = np.empty((len(self), size), np.int64)
        groups[:, 0] = self.anchors
        for block in _blocks(len(self), self.candidates.shape[1]):
            candidates = self.candidates[block]
            turn = rng.random(candidates.shape)
            if self.quadrants is not None:
                turn = _in_turn(self.quadrants[block], turn, rng)
            turn[candidates == NONE] = np.inf
            chosen = turn.argsort(axis=1)[:, : size - 1]
            groups[block, 1:] = np.take_along_axis(candidates, chosen, axis=1)
        return groups


def nearest_groups(positions: np.ndarray, patterns: np.ndarray, size: int) -> np.ndarray:
    """Each pattern and its nearest, ``(n, size)``: the groups to validate on and to predict with.

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
    """What groups can be drawn from, in the way that the settings ask for.

    Args:
        positions: px, ``(J, 2)``.
        patterns: indices to group, ``(n,)``; each that lies within the bounds may be an anchor.
        size: patterns per group, held_out_neighbours among them.
        grouping: method, neighbours, distances, bounds.

    Raises:
        ValueError: if there are too few patterns, or no anchor is left, saying why.
    """
    needed, pool = size - 1, grouping.k_nearest
    if pool < needed:
        raise ValueError(
            f"training.grouping.k_nearest is {pool}, a group of {size} (with held_out_neighbours) needs {needed}: raise it"
        )
    anchors = patterns[within(positions, grouping.y_bounds, grouping.x_bounds)[patterns]]
    rejected = {"outside the bounds": len(patterns) - len(anchors)}
    least, most = grouping.min_distance_px, grouping.max_distance_px or np.inf
    candidates, found = _search(positions, anchors, patterns, pool, least, most)
    kept = found >= needed
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
    """True for each position within bounds that are shares of the extent of all, ``(J,)``; 0 and 1 leave none out."""
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
    """The nearest patterns within a band of distances from each anchor, but itself.

    Args:
        positions: px, ``(J, 2)``.
        anchors: pattern indices, ``(n,)``.
        patterns: pattern indices that may be neighbours.
        count: how many are wanted, K.
        least_px: least distance.
        most_px: greatest distance.

    Returns:
        Pattern indices, nearest first, int32, ``(n, K)``, -1 where there are fewer; how many there are, ``(n,)``.

    Raises:
        ValueError: if there are too few patterns, however far apart they are.
    """
    if len(patterns) <= count:
        raise ValueError(
            f"{len(patterns)} patterns are too few to give each {count} neighbours: "
            "use a larger scan, or lower network.group_size, training.grouping.k_nearest or training.validation"
        )
    tree = KDTree(positions[patterns])
    names = np.append(patterns, NONE).astype(np.int32)
    closer = np.zeros(len(anchors), np.int64)
    if least_px > 0:
        inner = np.nextafter(least_px, 0)
        closer = tree.query_ball_point(positions[anchors], inner, return_length=True, workers=-1) - 1
    candidates, found = np.full((len(anchors), count), NONE, np.int32), np.zeros(len(anchors), np.int64)
    for block in _blocks(len(anchors), count + 1 + int(closer.max(initial=0))):
        reach = np.arange(1, min(count + 1 + int(closer[block].max()), len(patterns)) + 1)
        bound = np.nextafter(most_px, np.inf)
        where = positions[anchors[block]]
        distance, near = tree.query(where, k=reach, distance_upper_bound=bound, workers=-1)
        near, distance = _without_self(names[near], distance, anchors[block])
        near[distance < least_px] = NONE
        near = _valid_first(near)[:, :count]
        candidates[block, : near.shape[1]] = near
        found[block] = np.sum(near != NONE, axis=1)
    return candidates, found


def _without_self(near: np.ndarray, distance: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbour lists less the anchor itself, which need not come first where positions coincide."""
    is_self = near == own[:, None]
    is_self[~is_self.any(1), -1] = True
    shape = (len(near), near.shape[1] - 1)
    return near[~is_self].reshape(shape), distance[~is_self].reshape(shape)


def _valid_first(near: np.ndarray) -> np.ndarray:
    """Neighbour lists with what is none moved to the end."""
    if (near != NONE).all():
        return near
    return np.take_along_axis(near, np.argsort(near == NONE, axis=1, kind="stable"), axis=1)


def _quadrants(positions: np.ndarray, anchors: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The quadrant around its anchor that each candidate lies in, uint8, ``(n, K)``; 4 for none.

    Each half axis belongs to one quadrant, so that the four are alike under a quarter turn.
    """
    quadrants = np.full(candidates.shape, QUADRANTS, np.uint8)
    for block in _blocks(len(anchors), candidates.shape[1]):
        y, x = np.moveaxis(positions[candidates[block]] - positions[anchors[block], None], -1, 0)
        for quadrant, inside in enumerate(
            ((y < 0) & (x >= 0), (y >= 0) & (x > 0), (y > 0) & (x <= 0), (y <= 0) & (x < 0))
        ):
            quadrants[block][inside & (candidates[block] != NONE)] = quadrant
    return quadrants


def _in_turn(quadrants: np.ndarray, chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """When each candidate's turn comes, ``(n, K)``: the first of every quadrant before the second of any."""
    order = np.argsort(quadrants + chance / 2, axis=1)
    ordered = np.take_along_axis(quadrants, order, axis=1)
    first = np.stack([np.sum(quadrants < q, axis=1) for q in range(QUADRANTS + 1)], axis=1)
    rank = np.arange(quadrants.shape[1]) - np.take_along_axis(first, ordered.astype(np.intp), axis=1)
    toss = rng.random((len(quadrants), QUADRANTS + 1))
    turn = np.empty_like(chance)
    np.put_along_axis(turn, order, rank + np.take_along_axis(toss, ordered.astype(np.intp), axis=1), axis=1)
    turn[quadrants == QUADRANTS] = np.inf
    return turn


def _blocks(length: int, width: int) -> Iterator[slice]:
    """Slices of a table of ``width`` columns, each of a bounded size."""
    step = max(1, AT_ONCE // max(width, 1))
    return (slice(first, first + step) for first in range(0, length, step))
