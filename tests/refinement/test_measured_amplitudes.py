"""Counts stay on disk: amplitudes read for each batch are those kept in memory, and memory stays small."""

import os

import numpy as np
import pytest
import torch

from ptychoflow.config import Refinement
from ptychoflow.io.count_reader import CountReader
from ptychoflow.io.dataset import open_dataset
from ptychoflow.refinement import measured_amplitudes
from ptychoflow.refinement.engine import RefinedVariables, RefinementEngine
from ptychoflow.refinement.measured_amplitudes import MeasuredAmplitudes


@pytest.mark.parametrize("rows", [[], [3], [5, 6, 7, 2, 3, 9], [9, 8]])
def test_patterns_are_read_from_a_map_as_from_an_array(tiny_dataset, rows):
    counts = open_dataset(tiny_dataset).counts
    rows = np.array(rows, np.int64)
    assert isinstance(counts, np.memmap)
    for source in (counts, counts[:], np.array(counts), counts[:50]):
        np.testing.assert_array_equal(CountReader(source).read(rows), np.array(counts)[rows])
    assert sum(map(len, CountReader(counts).blocks(7))) == len(counts)


def test_a_file_that_has_become_shorter_is_an_error(tmp_path):
    counts = np.memmap(tmp_path / "counts", np.uint16, "w+", shape=(4, 8, 8))
    reader = CountReader(counts)
    os.truncate(tmp_path / "counts", 200)
    with pytest.raises(OSError, match="the counts end too early"):
        reader.read(np.array([2]))


def test_amplitudes_read_ahead_are_those_in_memory(tiny_dataset, monkeypatch):
    scan = open_dataset(tiny_dataset)
    resident = MeasuredAmplitudes(scan.counts, "cpu")
    monkeypatch.setattr(measured_amplitudes, "RESIDENT_BYTES", 0)
    streamed = MeasuredAmplitudes(scan.counts, "cpu")
    assert resident.resident is not None and streamed.resident is None
    order = torch.randperm(len(scan), generator=torch.Generator().manual_seed(0))
    batches = list(streamed.ahead(order.split(7)))
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in order.split(7)]
    for batch in streamed.ahead(order.split(7)):
        values, rows = streamed.of(batch)
        assert torch.equal(values[rows], resident.resident[batch])
    np.testing.assert_array_equal(streamed.photons(None), resident.photons(None))


def test_a_refinement_from_disk_is_the_same(tiny_dataset, monkeypatch):
    states, scan = [], open_dataset(tiny_dataset)
    for limit in (1 << 30, 0):
        monkeypatch.setattr(measured_amplitudes, "RESIDENT_BYTES", limit)
        engine = RefinementEngine(scan, Refinement(epochs=3))
        errors = [engine.epoch(RefinedVariables(probe=True, positions=True), 0.5, True).error for _ in range(2)]
        engine.apply_low_order_phase()
        states.append((engine.state(), errors, engine.preconditioned_gradient()))
    assert all(torch.equal(states[0][0][name], states[1][0][name]) for name in states[0][0])
    assert states[0][1] == states[1][1]
    assert torch.equal(states[0][2], states[1][2])
