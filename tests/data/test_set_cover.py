"""A cover leaves no pattern out and takes few groups."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from ptychoflow.data.set_cover import cover


@pytest.mark.parametrize("size", [1, 4, 7])
def test_every_pattern_is_in_a_chosen_group_and_few_are_chosen(size):
    positions = np.random.default_rng(0).uniform(0, 100, (600, 2))
    groups = KDTree(positions).query(positions, k=size)[1].reshape(600, size)
    chosen = cover(groups, 600)
    assert set(groups[chosen].ravel()) == set(range(600))
    assert 600 / size <= len(chosen) <= 1.6 * 600 / size
    assert (np.diff(chosen) > 0).all()


def test_the_choice_is_the_same_each_time():
    groups = np.random.default_rng(1).integers(0, 50, (80, 4))
    np.testing.assert_array_equal(cover(groups, 50), cover(groups, 50))
    assert set(groups[cover(groups, 50)].ravel()) == set(groups.ravel())
