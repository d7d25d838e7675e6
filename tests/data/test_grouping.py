"""Groups: the anchor first, its nearest beside it, validation patterns in none of them."""

import numpy as np
import pytest

from ptychoflow.data.grouping import neighbourhood, split_block


@pytest.fixture
def positions() -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 100, (200, 2))


def test_every_pattern_is_an_anchor_once_and_first_in_its_group(positions):
    groups = neighbourhood(positions, np.arange(200), 6).nearest(4)
    assert groups.shape == (200, 4)
    np.testing.assert_array_equal(groups[:, 0], np.arange(200))


def test_no_pattern_comes_twice_in_a_group_even_where_positions_coincide(positions):
    positions[50:60] = positions[40]
    for groups in (
        neighbourhood(positions, np.arange(200), 6).nearest(7),
        neighbourhood(positions, np.arange(200), 6).draw(4, np.random.default_rng(0)),
    ):
        assert all(len(set(group)) == len(group) for group in groups.tolist())


def test_the_nearest_are_those_of_a_plain_search(positions):
    groups = neighbourhood(positions, np.arange(200), 3).nearest(4)
    distance = np.linalg.norm(positions[:, None] - positions, axis=2)
    np.testing.assert_array_equal(groups, np.argsort(distance, axis=1)[:, :4])


def test_a_draw_takes_members_from_the_neighbours_and_is_the_same_for_the_same_seed(positions):
    near = neighbourhood(positions, np.arange(200), 6)
    groups = near.draw(4, np.random.default_rng(1))
    assert all(set(group[1:]) <= set(candidates) for group, candidates in zip(groups, near.candidates, strict=True))
    np.testing.assert_array_equal(groups, near.draw(4, np.random.default_rng(1)))
    assert (groups != near.draw(4, np.random.default_rng(2))).any()


def test_groups_stay_within_the_patterns_they_are_made_of(positions):
    some = np.arange(0, 200, 3)
    assert set(neighbourhood(positions, some, 5).nearest(6).ravel()) == set(some)


def test_too_few_patterns_are_refused_with_a_remedy(positions):
    with pytest.raises(ValueError, match=r"4 patterns are too few to give each 6 neighbours: .*group_size"):
        neighbourhood(positions, np.arange(4), 6)


def test_the_held_out_block_is_compact_and_shares_nothing_with_the_rest(positions):
    train, held = split_block(positions, 0.1, 5, seed=0)
    assert len(held) == 20 and not set(train) & set(held) and len(train) + len(held) == 200
    low, high = positions[held].min(0), positions[held].max(0)
    inside = ((positions >= low) & (positions <= high)).all(1)
    assert set(np.flatnonzero(inside)) == set(held)


def test_nothing_is_held_out_where_nothing_is_asked(positions):
    train, held = split_block(positions, 0.0, 5, seed=0)
    assert len(held) == 0 and len(train) == 200


def test_a_small_scan_still_holds_out_enough_for_a_few_groups(positions):
    assert len(split_block(positions, 0.001, 8, seed=0)[1]) == 8
