"""Groups are read whole from memory maps by any process, or gathered on a device: the same numbers either way."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from ptychoflow.config import Runtime
from ptychoflow.data.datamodule import belongs_on_device
from ptychoflow.data.torch_dataset import GroupDataset, ResidentCounts, RowDataset, read_batch, stored_bytes
from ptychoflow.io.dataset import open_dataset, write_dataset


@pytest.fixture
def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.integers(0, 2, (12, 1)), rng.integers(0, 40, (12, 4))], axis=1)


@pytest.fixture
def scans(scan, tmp_path):
    """Two datasets on disk whose counts have different dtypes."""
    dim = replace(scan, counts=np.minimum(scan.counts, 255), name="dim")
    bright = replace(scan, counts=scan.counts + 60000, name="bright")
    for each in (dim, bright):
        write_dataset(tmp_path / each.name, each)
    opened = [open_dataset(tmp_path / name) for name in ("dim", "bright")]
    assert [each.counts.dtype for each in opened] == [np.uint8, np.uint16]
    return opened


def test_a_batch_holds_the_counts_of_its_rows_ordered_by_scan(scans, rows):
    reading = GroupDataset(scans).__getitems__(rows)
    assert (np.diff(reading.rows[:, 0]) >= 0).all()
    assert sorted(map(tuple, reading.rows.tolist())) == sorted(map(tuple, rows.tolist()))
    for row, counts in zip(reading.rows.numpy(), reading.counts.numpy(), strict=True):
        np.testing.assert_array_equal(counts, scans[row[0]].counts[row[1:]])


def test_counts_travel_in_the_dtype_of_the_disk(scans, rows):
    assert GroupDataset(scans[:1])[np.insert(rows[0, 1:], 0, 0)].counts.dtype == torch.uint8
    assert GroupDataset(scans).__getitems__(rows).counts.dtype == torch.uint16


def test_another_process_opens_the_file_for_itself(scans, rows):
    dataset = GroupDataset(scans)
    packed = pickle.dumps(dataset)
    assert len(packed) < 2000
    again = pickle.loads(packed)
    np.testing.assert_array_equal(again.__getitems__(rows).counts, dataset.__getitems__(rows).counts)


def test_a_slice_of_a_map_travels_as_numbers(scan, tmp_path):
    write_dataset(tmp_path / "d", scan)
    part = open_dataset(tmp_path / "d")
    part = replace(part, counts=part.counts[5:15], positions=part.positions[5:15])
    again = pickle.loads(pickle.dumps(GroupDataset([part])))
    np.testing.assert_array_equal(again[np.array([0, 3])].counts[0], scan.counts[[8]])


def test_counts_on_a_device_are_those_on_disk(scans, rows):
    reading = GroupDataset(scans).__getitems__(rows)
    resident = ResidentCounts(scans, "cpu").read(reading.rows)
    assert resident.dtype == reading.counts.dtype
    np.testing.assert_array_equal(resident, reading.counts)
    handed_over = RowDataset().__getitems__(reading.rows.numpy())
    assert handed_over.counts is None and torch.equal(handed_over.rows, reading.rows)


@pytest.mark.parametrize("dtype", [np.uint32, np.float32, np.float64])
def test_wide_counts_come_back_from_a_device(scan, dtype):
    counts = scan.counts.astype(dtype)
    counts[1, 2, 3] = 2**31 + 8 if dtype == np.uint32 else 0.25
    rows = torch.tensor([[0, 1, 2], [0, 3, 1]])
    actual = ResidentCounts([replace(scan, counts=counts)], "cpu").read(rows)
    np.testing.assert_array_equal(actual, counts[[[1, 2], [3, 1]]])


def test_scans_of_several_sizes_are_refused(scan):
    small = replace(scan, counts=scan.counts[:, :16, :16], probe=scan.probe[:, :16, :16], mask=None, name="small")
    for reader in (GroupDataset, lambda scans: ResidentCounts(scans, "cpu")):
        with pytest.raises(ValueError, match=r"expected patterns of one size, got .*'small': 16.*same crop"):
            reader([scan, small])


def test_size_decides_where_counts_lie_unless_the_settings_do(scans, monkeypatch):
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    needed = stored_bytes(scans)
    assert needed == 2 * 2 * 40 * 32 * 32
    free = {"bytes": 2 * needed}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free["bytes"], 1 << 40))
    assert belongs_on_device(scans, Runtime(), gpu) and not belongs_on_device(scans, Runtime(), cpu)
    assert not belongs_on_device(scans, Runtime(counts_on_device="never"), gpu)
    free["bytes"] -= 1
    assert not belongs_on_device(scans, Runtime(), gpu)
    assert belongs_on_device(scans, Runtime(counts_on_device="always"), cpu)


def test_counts_that_a_gpu_does_not_hold_are_refused(simulated_gpu, scans):
    simulated_gpu.largest = stored_bytes(scans) - 1
    with pytest.raises(ValueError, match=r"^CUDA out of memory[^:]*: set runtime.counts_on_device to never"):
        ResidentCounts(scans, "cuda")


def test_one_call_reads_and_makes_ready(scans, rows):
    batch = read_batch(scans, rows)
    assert batch.counts.shape == (12, 4, 32, 32) and batch.probe.shape == (12, 1, 32, 32)
