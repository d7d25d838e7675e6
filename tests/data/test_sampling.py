"""The order of groups depends on seed, epoch and rank alone, and goes on where it stopped."""

import numpy as np
import pytest

from ptychoflow.data.grouping import neighbourhood
from ptychoflow.data.sampling import FixedSampler, GroupSampler, RowBatches


@pytest.fixture
def sampler(scan):
    near = neighbourhood(scan.positions, np.arange(len(scan)), 4)
    return lambda **settings: GroupSampler([near] * 2, 4, **({"seed": 0} | settings))


def test_the_order_depends_on_seed_and_epoch_alone(sampler):
    first, again, other = sampler(), sampler(), sampler(seed=1)
    np.testing.assert_array_equal(list(first), list(again))
    assert (first.rows() != other.rows()).any()
    again.set_epoch(1)
    assert (first.rows() != again.rows()).any()


def test_an_epoch_has_every_anchor_of_every_scan_once(sampler, scan):
    anchors = sampler().rows()[:, :2]
    assert sorted(map(tuple, anchors.tolist())) == [(s, j) for s in range(2) for j in range(len(scan))]


def test_a_scan_without_anchors_is_left_out(scan):
    near = neighbourhood(scan.positions, np.arange(len(scan)), 4)
    assert set(GroupSampler([near, None, near], 4, seed=0).rows()[:, 0]) == {0, 2}


def test_ranks_share_an_epoch_without_overlap(sampler):
    shares = [list(sampler(rank=rank, ranks=3)) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    together = np.concatenate(shares)
    assert len(np.unique(together[:, :2], axis=0)) == len(together) == 78


def test_a_long_epoch_passes_the_anchors_again(sampler):
    assert len(list(sampler(epoch_size=200))) == len(sampler(epoch_size=200)) == 200


def test_a_short_epoch_takes_some_of_the_anchors(sampler):
    np.testing.assert_array_equal(sampler(epoch_size=30).rows(), sampler().rows()[:30])


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_an_epoch_that_was_stopped_goes_on_where_it_stood_on_any_number_of_ranks(sampler, ranks):
    stopped = sampler(rank=0, ranks=2)
    stopped.set_epoch(3)
    state = stopped.state_dict(seen=24)
    left = []
    for rank in range(ranks):
        resumed = sampler(rank=rank, ranks=ranks)
        resumed.load_state_dict(state)
        left.append(list(resumed))
        assert len(list(resumed)) == 80 // ranks, "what was seen is left out once"
    uninterrupted = sampler()
    uninterrupted.set_epoch(3)
    expected = uninterrupted.rows()[24:]
    np.testing.assert_array_equal(np.stack(left, axis=1).reshape(-1, 5), expected)


def test_fixed_rows_lie_on_exactly_one_rank_in_order():
    rows = np.arange(35).reshape(7, 5)
    shares = [FixedSampler(rows, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 2, 2]
    np.testing.assert_array_equal(np.concatenate([list(share) for share in shares]), rows)


@pytest.mark.parametrize(("drop_last", "lengths"), [(False, [3, 3, 1]), (True, [3, 3])])
def test_batches_are_tables_of_the_rows(drop_last, lengths):
    rows = np.arange(35).reshape(7, 5)
    batches = RowBatches(FixedSampler(rows), 3, drop_last)
    assert [len(batch) for batch in batches] == lengths and len(batches) == len(lengths)
    np.testing.assert_array_equal(np.concatenate(list(batches)), rows[: sum(lengths)])
