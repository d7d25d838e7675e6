"""Batches: each group with its own probe, in the layout the physics wants."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ptychoflow.core.scan import Scan
from ptychoflow.data.batch import ScanTable
from ptychoflow.data.grouping import nearest_groups
from ptychoflow.data.torch_dataset import GroupDataset, read_batch
from ptychoflow.physics.data_fidelity import amplitude_error
from ptychoflow.physics.forward_model import expected_counts, shift_probe
from ptychoflow.physics.patches import cut_windows, extract_patches, split_positions
from ptychoflow.physics.propagation import far_field_corner


@pytest.fixture
def exact(scan: Scan) -> Scan:
    """The shared scan with counts as the forward model expects them at every position, without noise."""
    whole, subpixel_shift = split_positions(torch.from_numpy(scan.positions))
    windows = cut_windows(torch.from_numpy(scan.truth.object), whole - scan.size // 2, scan.size)
    return replace(
        scan, counts=expected_counts(windows, shift_probe(torch.from_numpy(scan.probe), subpixel_shift)).numpy()
    )


def _rows(scan: Scan, size: int = 4) -> np.ndarray:
    return np.insert(nearest_groups(scan.positions, np.arange(len(scan)), size), 0, 0, axis=1)


def test_the_truth_of_a_group_diffracts_to_the_counts_of_each_member(exact):
    batch = read_batch([exact], _rows(exact))
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
    batch = read_batch([scan], rows)
    np.testing.assert_array_equal(batch.counts, np.fft.ifftshift(scan.counts[rows[:, 1:]], axes=(-2, -1)))
    np.testing.assert_array_equal(batch.mask[0, 0].bool(), np.fft.ifftshift(scan.mask))
    assert batch.counts.dtype == torch.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32, np.float64])
def test_every_dtype_of_a_dataset_comes_out_as_it_went_in(scan, dtype):
    counts = scan.counts.astype(dtype)
    counts[0, 0, 0] = 200 if dtype == np.uint8 else 40000
    batch = read_batch([replace(scan, counts=counts)], _rows(scan))
    np.testing.assert_array_equal(batch.counts[:, 0], np.fft.ifftshift(counts, axes=(-2, -1)))


def test_the_centre_is_a_whole_pixel_of_the_truth_amid_the_members(scan):
    scan = replace(scan, truth=replace(scan.truth, origin=(0.25, -0.5)))
    batch = read_batch([scan], _rows(scan))
    offset = batch.centre - torch.tensor([0.25, -0.5])
    torch.testing.assert_close(offset, offset.round())
    assert batch.relative.mean(1).abs().max() <= 0.5
    torch.testing.assert_close(batch.centre[:, None] + batch.relative, torch.from_numpy(scan.positions)[batch.members])


def test_each_group_carries_what_is_known_of_its_own_scan(scan):
    doubled = np.concatenate([scan.probe, 0.5 * scan.probe])
    other = replace(scan, probe=doubled, positions=scan.positions + 100, name="other", truth=None, mask=None)
    rows = _rows(scan)[:4]
    rows[1::2, 0] = 1
    batch = read_batch([scan, other], rows)
    assert batch.scan.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(batch.members, rows[[0, 2, 1, 3], 1:])
    np.testing.assert_array_equal(batch.probe[0], np.concatenate([scan.probe, 0 * scan.probe]))
    np.testing.assert_array_equal(batch.probe[2], doubled)
    assert batch.labelled.tolist() == [True, True, False, False]
    assert batch.mask[0].sum() == scan.mask.sum() and batch.mask[2].all()
    assert batch.truth[:2].abs().min() > 0 and not batch.truth[2:].any()
    centres = np.round(other.positions[rows[1, 1:]].mean(0))
    np.testing.assert_array_equal(batch.centre[2], centres)


def test_truths_of_several_scans_are_cut_as_each_alone(scan):
    wide = replace(scan.truth, object=np.tile(scan.truth.object, (1, 2))[3:], origin=(3.0, 0.0))
    other = replace(scan, truth=wide, name="other")
    rows = _rows(scan)
    rows[::3, 0] = 1
    together = read_batch([scan, other], rows)
    for index, alone in enumerate((scan, other)):
        mine = rows[rows[:, 0] == index].copy()
        mine[:, 0] = 0
        np.testing.assert_array_equal(together.truth[together.scan == index], read_batch([alone], mine).truth)


def test_labels_are_cut_as_the_adjoint_of_stitching_cuts(scan):
    batch = read_batch([scan], _rows(scan))
    inside = ((batch.centre >= 16) & (batch.centre <= torch.tensor(scan.truth.object.shape) - 16)).all(1)
    cut = extract_patches(torch.from_numpy(scan.truth.object), batch.centre[inside], scan.size)
    assert inside.sum() > 20
    assert torch.equal(batch.truth[inside], cut)


def test_the_edge_of_a_truth_is_repeated_beyond_it(scan):
    far = replace(scan, positions=scan.positions + np.array([500.0, -500.0]))
    batch = read_batch([far], _rows(scan)[:1])
    assert (batch.truth.numpy() == scan.truth.object[-1, 0]).all()


def test_without_labels_nothing_is_cut(scan):
    assert read_batch([scan], _rows(scan), labels=False).truth is None


def test_one_probe_for_all_is_not_copied(scan):
    table = ScanTable([scan])
    reading = GroupDataset([scan]).__getitems__(_rows(scan))
    assert table.batch(reading.counts, reading.rows).probe.data_ptr() == table.probes.data_ptr()
