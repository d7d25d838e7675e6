"""Groups: the anchor first, members as the settings ask for, and reasons why patterns are rejected as anchors."""

import time

import numpy as np
import pytest

from ptychoflow.config import Grouping
from ptychoflow.data import grouping as module
from ptychoflow.data.grouping import nearest_groups, neighbourhood, within

ALL = np.arange(200)
QUADRANT = Grouping(method="quadrant", k_nearest=30)


@pytest.fixture
def positions() -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 100, (200, 2))


@pytest.fixture(params=[1 << 20, 64], ids=["at once", "in blocks"])
def positions_in_blocks(request, monkeypatch, positions) -> np.ndarray:
    """Positions whose neighbours are searched all at once, or in blocks."""
    monkeypatch.setattr(module, "BLOCK_ENTRIES", request.param)
    return positions


def _distance(positions, groups):
    return np.linalg.norm(positions[groups[:, 1:]] - positions[groups[:, :1]], axis=2)


@pytest.mark.parametrize(
    "grouping", [Grouping(), Grouping(method="min_distance", min_distance_px=4, max_distance_px=30), QUADRANT]
)
def test_the_anchor_comes_first_and_no_pattern_comes_twice_even_where_positions_coincide(positions, grouping):
    positions[50:60] = positions[40]
    near = neighbourhood(positions, ALL, 4, grouping)
    groups = near.draw(4, np.random.default_rng(0))
    np.testing.assert_array_equal(groups[:, 0], near.anchors)
    assert len(np.unique(near.anchors)) == len(near)
    assert all(len(set(group)) == 4 and min(group) >= 0 for group in groups.tolist())


def test_every_pattern_is_an_anchor_by_default(positions):
    near = neighbourhood(positions, ALL, 4)
    np.testing.assert_array_equal(near.anchors, ALL)
    assert near.rejected == {}


def test_the_nearest_are_those_of_a_plain_search(positions_in_blocks):
    distance = np.linalg.norm(positions_in_blocks[:, None] - positions_in_blocks, axis=2)
    expected = np.argsort(distance, axis=1)[:, :4]
    np.testing.assert_array_equal(nearest_groups(positions_in_blocks, ALL, 4), expected)
    near = neighbourhood(positions_in_blocks, ALL, 4, Grouping(k_nearest=3))
    np.testing.assert_array_equal(near.candidates, expected[:, 1:])


def test_a_group_of_one_is_its_anchor(positions):
    np.testing.assert_array_equal(nearest_groups(positions, ALL, 1), ALL[:, None])
    np.testing.assert_array_equal(neighbourhood(positions, ALL, 1).draw(1, np.random.default_rng(0)), ALL[:, None])


def test_a_draw_takes_members_from_the_neighbours_and_is_the_same_for_the_same_seed(positions):
    near = neighbourhood(positions, ALL, 4)
    groups = near.draw(4, np.random.default_rng(1))
    assert all(set(group[1:]) <= set(candidates) for group, candidates in zip(groups, near.candidates, strict=True))
    np.testing.assert_array_equal(groups, near.draw(4, np.random.default_rng(1)))
    assert (groups != near.draw(4, np.random.default_rng(2))).any()


def test_a_draw_gives_every_neighbour_the_same_chance(positions):
    near = neighbourhood(positions, ALL, 4, Grouping(k_nearest=6))
    rng = np.random.default_rng(0)
    groups = np.concatenate([near.draw(4, rng)[:, 1:] for _ in range(100)], axis=1)
    times = (groups[:, :, None] == near.candidates[:, None]).sum((0, 1))
    np.testing.assert_allclose(times / times.sum(), 1 / 6, atol=0.005)


def test_the_same_groups_are_drawn_in_blocks_of_any_size(positions, monkeypatch):
    drawn = []
    for entries in (1 << 20, 64):
        monkeypatch.setattr(module, "BLOCK_ENTRIES", entries)
        drawn.append(neighbourhood(positions, ALL, 4).draw(4, np.random.default_rng(0)))
    np.testing.assert_array_equal(*drawn)


def test_members_lie_within_the_band_and_are_the_nearest_there(positions_in_blocks):
    grouping = Grouping(method="min_distance", k_nearest=5, min_distance_px=10, max_distance_px=20)
    near = neighbourhood(positions_in_blocks, ALL, 4, grouping)
    distance = np.linalg.norm(positions_in_blocks[:, None] - positions_in_blocks, axis=2)
    for anchor, candidates in zip(near.anchors, near.candidates, strict=True):
        inside = np.flatnonzero((distance[anchor] >= 10) & (distance[anchor] <= 20))
        expected = inside[np.argsort(distance[anchor, inside])][:5]
        np.testing.assert_array_equal(candidates[candidates >= 0], expected)
    drawn = _distance(positions_in_blocks, near.draw(4, np.random.default_rng(0)))
    assert drawn.min() >= 10 and drawn.max() <= 20
    enough = ((distance >= 10) & (distance <= 20)).sum(1) >= 3
    np.testing.assert_array_equal(near.anchors, np.flatnonzero(enough))


def test_the_ends_of_the_band_belong_to_it():
    line = np.stack([np.zeros(5), [0.0, 1, 3, 6, 10]], axis=1)
    band = Grouping(method="min_distance", k_nearest=2, min_distance_px=3, max_distance_px=6)
    near = neighbourhood(line, np.arange(5), 2, band)
    assert set(near.candidates[0]) == {2, 3}


def test_members_surround_the_anchor(positions_in_blocks):
    near = neighbourhood(positions_in_blocks, ALL, 5, QUADRANT)
    groups = near.draw(5, np.random.default_rng(0))
    y, x = np.moveaxis(positions_in_blocks[groups[:, 1:]] - positions_in_blocks[groups[:, :1]], 2, 0)
    quadrants = np.sort((y > 0) + 2 * (x > 0), axis=1)
    np.testing.assert_array_equal(quadrants, np.broadcast_to([0, 1, 2, 3], quadrants.shape))


def test_three_members_come_from_three_quadrants_chosen_evenly_and_seven_from_each_in_turn(positions):
    rng = np.random.default_rng(0)
    left_out = np.zeros(4, int)
    for size in (4, 8):
        near = neighbourhood(positions, ALL, size, QUADRANT)
        for _ in range(20):
            groups = near.draw(size, rng)
            y, x = np.moveaxis(positions[groups[:, 1:]] - positions[groups[:, :1]], 2, 0)
            quadrant = (y > 0) + 2 * (x > 0)
            counts = np.stack([(quadrant == q).sum(1) for q in range(4)], axis=1)
            if size == 4:
                assert counts.max() == 1
                left_out += (counts == 0).sum(0)
            else:
                assert counts[(counts > 0).all(1)].min() >= 1
    assert left_out.min() > 0.7 * left_out.mean()


def test_a_regular_grid_has_one_neighbour_of_the_first_ring_in_each_quadrant():
    """Every half axis belongs to one quadrant."""
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij"), -1).reshape(-1, 2)
    near = neighbourhood(grid, np.arange(81), 5, Grouping(method="quadrant", k_nearest=8))
    middle = np.flatnonzero(near.anchors == 40)[0]
    assert np.bincount(near.quadrants[middle], minlength=4).tolist() == [2, 2, 2, 2]


def test_anchors_at_the_edge_have_too_few_quadrants_and_are_counted():
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij"), -1).reshape(-1, 2)
    near = neighbourhood(grid, np.arange(81), 5, Grouping(method="quadrant", k_nearest=24))
    assert len(near) == 49 and near.rejected == {"neighbours in too few quadrants": 32}


def test_bounds_hold_for_anchors_only(positions):
    near = neighbourhood(positions, ALL, 4, Grouping(x_bounds=(0.25, 0.5), y_bounds=(0.0, 0.75)))
    low, high = positions.min(0), positions.max(0)
    share = (positions - low) / (high - low)
    inside = (share[:, 0] <= 0.75) & (share[:, 1] >= 0.25) & (share[:, 1] <= 0.5)
    np.testing.assert_array_equal(near.anchors, np.flatnonzero(inside))
    assert not inside[near.candidates].all()
    assert near.rejected == {"outside the bounds": 200 - inside.sum()}


def test_full_bounds_leave_none_out_whatever_the_rounding():
    for seed in range(50):
        positions = np.random.default_rng(seed).uniform(-1e4, 1e-3, (50, 2))
        assert within(positions, (0.0, 1.0), (0.0, 1.0)).all()


def test_every_pattern_is_accepted_or_counted_as_rejected(positions):
    grouping = Grouping(method="quadrant", k_nearest=12, max_distance_px=12, x_bounds=(0.1, 0.9), y_bounds=(0.1, 0.9))
    near = neighbourhood(positions, ALL, 4, grouping)
    assert len(near) + sum(near.rejected.values()) == 200
    assert set(near.rejected) == {
        "outside the bounds",
        "fewer than 3 neighbours at 0 to 12 px",
        "neighbours in too few quadrants",
    }


def test_where_no_anchor_is_left_the_reasons_are_given(positions):
    grouping = Grouping(method="min_distance", min_distance_px=500)
    with pytest.raises(ValueError, match=r"none of 200 patterns can be an anchor \(200 fewer than 3 neighbours at 500"):
        neighbourhood(positions, ALL, 4, grouping)


def test_groups_stay_within_the_patterns_they_are_made_of(positions):
    some = np.arange(0, 200, 3)
    assert set(nearest_groups(positions, some, 6).ravel()) == set(some)
    for grouping in (Grouping(), QUADRANT):
        assert set(neighbourhood(positions, some, 4, grouping).draw(4, np.random.default_rng(0)).ravel()) <= set(some)


def test_too_few_patterns_are_refused_with_a_remedy(positions):
    with pytest.raises(
        ValueError, match=r"expected at least 7 patterns to give each 6 neighbours, got 4: .*group_size"
    ):
        neighbourhood(positions, np.arange(4), 4, Grouping(k_nearest=6))


def test_too_few_neighbours_for_a_group_are_refused(positions):
    with pytest.raises(ValueError, match=r"k_nearest is 2, a group of 4 .*needs 3: raise it"):
        neighbourhood(positions, ALL, 4, Grouping(k_nearest=2))


@pytest.mark.parametrize(
    "settings", [{"min_distance_px": 1.0}, {"method": "quadrant", "min_distance_px": 5, "max_distance_px": 4}]
)
def test_distances_that_do_not_act_are_refused(settings):
    with pytest.raises(ValueError, match=r"not on nearest|min_distance_px 5.0 exceeds max_distance_px 4.0"):
        Grouping(**settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "grouping", [Grouping(), Grouping(method="min_distance", min_distance_px=4, max_distance_px=24), QUADRANT]
)
def test_a_million_positions_take_seconds(grouping):
    grid = np.stack(np.meshgrid(np.arange(1000), np.arange(1000), indexing="ij"), -1).reshape(-1, 2)
    positions = 8.0 * grid + np.random.default_rng(0).uniform(-2, 2, grid.shape)
    began = time.process_time()
    near = neighbourhood(positions, np.arange(len(grid)), 4, grouping)
    groups = near.draw(4, np.random.default_rng(0))
    assert time.process_time() - began < 60
    assert len(groups) == len(near) > 0.99 * len(grid)
