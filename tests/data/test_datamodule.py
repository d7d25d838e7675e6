"""Batches: each group with its own probe, in the layout the physics wants, in an order that seed and epoch fix."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ptychoflow.config import Runtime, Training
from ptychoflow.data.datamodule import GroupDataset, GroupSampler, PredictionData, TrainingData, to_corner
from ptychoflow.data.grouping import neighbourhood
from ptychoflow.physics.detector import amplitude_error
from ptychoflow.physics.forward import expected_counts, shift_probe
from ptychoflow.physics.patches import cut_windows, split_positions
from ptychoflow.physics.propagation import far_field_corner
from ptychoflow.scan import Scan


@pytest.fixture
def exact(scan: Scan) -> Scan:
    """The shared scan with counts as the forward model expects them at every position, without noise."""
    whole, rest = split_positions(torch.from_numpy(scan.positions))
    windows = cut_windows(torch.from_numpy(scan.truth.object), whole - scan.size // 2, scan.size)
    return replace(scan, counts=expected_counts(windows, shift_probe(torch.from_numpy(scan.probe), rest)).numpy())


def _rows(scan: Scan, size: int = 4) -> np.ndarray:
    return np.insert(neighbourhood(scan.positions, np.arange(len(scan)), 6).nearest(size), 0, 0, axis=1)


def test_the_truth_of_a_group_diffracts_to_the_counts_of_each_member(exact):
    batch = GroupDataset([exact]).__getitems__(_rows(exact))
    # members far from the centre put the faint edge of their probe beyond the canvas
    near = batch.relative.norm(dim=-1) < 4
    error = {}
    for sign in (1, -1):
        probes = shift_probe(batch.probe[:, None], sign * batch.relative)
        expected = expected_counts(batch.truth[:, None], probes, propagate=far_field_corner)
        error[sign] = amplitude_error(batch.counts[near], expected[near])
    assert error[1] < 2e-3 and error[-1] > 10 * error[1]


def test_counts_and_mask_have_zero_frequency_at_the_corner(scan):
    rows = _rows(scan)
    batch = GroupDataset([scan]).__getitems__(rows)
    np.testing.assert_array_equal(batch.counts, np.fft.ifftshift(scan.counts[rows[:, 1:]], axes=(-2, -1)))
    np.testing.assert_array_equal(batch.mask[0, 0].bool(), np.fft.ifftshift(scan.mask))
    assert batch.counts.dtype == torch.float32


def test_an_odd_pattern_is_shifted_as_numpy_does():
    counts = np.arange(2 * 25).reshape(2, 5, 5)
    np.testing.assert_array_equal(to_corner(counts), np.fft.ifftshift(counts, axes=(-2, -1)))


def test_the_centre_is_a_whole_pixel_of_the_truth_amid_the_members(scan):
    scan = replace(scan, truth=replace(scan.truth, origin=(0.25, -0.5)))
    batch = GroupDataset([scan]).__getitems__(_rows(scan))
    offset = batch.centre - torch.tensor([0.25, -0.5])
    torch.testing.assert_close(offset, offset.round())
    assert batch.relative.mean(1).abs().max() <= 0.5
    torch.testing.assert_close(batch.centre[:, None] + batch.relative, torch.from_numpy(scan.positions)[batch.members])


def test_each_group_carries_the_probe_of_its_scan(scan):
    other = replace(scan, probe=np.concatenate([scan.probe, 0.5 * scan.probe]), name="other", truth=None, mask=None)
    rows = _rows(scan)[:4]
    rows[1::2, 0] = 1
    batch = GroupDataset([scan, other]).__getitems__(rows)
    np.testing.assert_array_equal(batch.probe[0], np.concatenate([scan.probe, 0 * scan.probe]))
    np.testing.assert_array_equal(batch.probe[1], other.probe)
    assert batch.labelled.tolist() == [True, False, True, False]
    assert batch.mask[0].sum() == scan.mask.sum() and batch.mask[1].all()


def test_scans_of_several_sizes_are_refused(scan):
    small = replace(scan, counts=scan.counts[:, :16, :16], probe=scan.probe[:, :16, :16], mask=None, name="small")
    with pytest.raises(ValueError, match=r"expected patterns of one size, got .*'small': 16.*same crop"):
        GroupDataset([scan, small])


def _sampler(scan: Scan, **settings) -> GroupSampler:
    return GroupSampler([neighbourhood(scan.positions, np.arange(len(scan)), 6)] * 2, 4, **({"seed": 0} | settings))


def test_the_order_depends_on_seed_and_epoch_alone(scan):
    first, again, other = _sampler(scan), _sampler(scan), _sampler(scan, seed=1)
    np.testing.assert_array_equal(list(first), list(again))
    assert (first.rows() != other.rows()).any()
    again.set_epoch(1)
    assert (first.rows() != again.rows()).any()


def test_an_epoch_has_every_anchor_of_every_scan_once(scan):
    anchors = _sampler(scan).rows()[:, :2]
    assert sorted(map(tuple, anchors.tolist())) == [(s, j) for s in range(2) for j in range(len(scan))]


def test_ranks_share_an_epoch_without_overlap(scan):
    shares = [list(_sampler(scan, rank=rank, ranks=3)) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    together = np.concatenate(shares)
    assert len(np.unique(together[:, :2], axis=0)) == len(together) == 78


def test_a_long_epoch_passes_the_anchors_again(scan):
    assert len(list(_sampler(scan, epoch_size=200))) == len(_sampler(scan, epoch_size=200)) == 200


def test_a_sampler_that_resumes_leaves_out_what_was_seen_once(scan):
    sampler = _sampler(scan)
    sampler.done = 30
    np.testing.assert_array_equal(list(sampler), _sampler(scan).rows()[30:])
    assert len(list(sampler)) == 80


def test_training_and_validation_share_no_pattern(scan):
    data = TrainingData([scan, scan], 4, Training(validation_fraction=0.3), Runtime())
    for index in range(2):
        held = set(data.validation_rows[data.validation_rows[:, 0] == index, 1:].ravel())
        rows = data.sampler().rows()
        trained = set(rows[rows[:, 0] == index, 1:].ravel())
        assert held and trained and not held & trained


def test_a_scan_too_small_to_train_on_is_named(scan):
    few = replace(scan, counts=scan.counts[:9], positions=scan.positions[:9])
    with pytest.raises(ValueError, match=r"sample: 1 patterns are too few.*validation_fraction"):
        TrainingData([few], 4, Training(), Runtime())


def test_prediction_has_every_pattern_as_an_anchor_on_exactly_one_rank(scan):
    data = PredictionData(scan, 4, Runtime())
    anchors = [row[1] for rank in range(3) for row in data.share(rank, 3)]
    assert sorted(anchors) == list(range(len(scan)))
