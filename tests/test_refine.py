"""Refinement finds the object from nothing, sooner from something near, and a probe that was wrong."""

import dataclasses

import numpy as np
import pytest

from ptychoflow.config import Refinement
from ptychoflow.data.packing import open_dataset, write_dataset
from ptychoflow.metrics.alignment import align
from ptychoflow.reconstruction import read_reconstruction, write_reconstruction
from ptychoflow.refine import refine


def _phase_error(path, scan) -> float:
    """RMS phase error of a reconstruction on its coverage, rad."""
    found = read_reconstruction(path)
    matched = align(found.object, found.origin, found.coverage, scan.truth.object, scan.truth.origin)
    return float(np.sqrt(np.mean(np.angle(matched.object * matched.truth.conj())[matched.mask] ** 2)))


def test_a_flat_start_finds_the_object(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    refine(tiny_dataset, tmp_path / "a.h5", Refinement(epochs=20, batch_size=8))
    assert _phase_error(tmp_path / "a.h5", scan) < 0.06
    history = read_reconstruction(tmp_path / "a.h5").history
    assert history["epoch"] == list(range(1, 21))
    assert history["error"][-1] < 0.2 * history["error"][0]
    assert np.all(np.diff(history["cpu_seconds"]) >= 0)


def test_a_start_near_the_truth_is_ahead_after_one_epoch(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    refine(tiny_dataset, tmp_path / "far.h5", Refinement(epochs=20, batch_size=8))
    refine(tiny_dataset, tmp_path / "flat.h5", Refinement(epochs=1))
    refine(tiny_dataset, tmp_path / "near.h5", Refinement(epochs=1), start=tmp_path / "far.h5")
    assert _phase_error(tmp_path / "near.h5", scan) < 0.5 * _phase_error(tmp_path / "flat.h5", scan)


def test_the_smooth_phase_is_found_sooner_when_it_is_solved_for(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    far = read_reconstruction(_refined(tiny_dataset, tmp_path / "done.h5", epochs=20, batch_size=8))
    y, x = np.indices(far.object.shape) / far.object.shape[0] - 0.5
    bent = far.object * np.exp(4j * (x**2 - y**2)).astype(np.complex64)
    write_reconstruction(tmp_path / "bent.h5", dataclasses.replace(far, object=bent))
    errors = []
    for smooth in (0, 2):
        refine(tiny_dataset, tmp_path / "b.h5", Refinement(epochs=2, smooth_epochs=smooth), start=tmp_path / "bent.h5")
        errors.append(_phase_error(tmp_path / "b.h5", scan))
    assert errors[1] < 0.7 * errors[0]


def test_a_wrong_probe_is_put_right(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    y, x = np.indices(scan.probe.shape[1:]) - 16
    wrong = (scan.probe * np.exp(0.01j * (x**2 + y**2))).astype(np.complex64)
    write_dataset(tmp_path / "wrong", dataclasses.replace(scan, probe=wrong))
    for probe_from in (None, 2):
        refine(tmp_path / "wrong", tmp_path / f"{probe_from}.h5", Refinement(epochs=15, probe_from=probe_from))
    kept, found = (read_reconstruction(tmp_path / f"{name}.h5") for name in (None, 2))
    assert np.array_equal(kept.probe, wrong)
    assert found.history["error"][-1] < 0.7 * kept.history["error"][-1]
    assert _likeness(found.probe, scan.probe) > _likeness(wrong, scan.probe)


def test_what_is_masked_does_not_matter(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    mask = np.ones((scan.size, scan.size), bool)
    mask[5:8, 20:25] = False
    spoilt = np.where(mask, scan.counts, 60000).astype(np.uint16)
    clean = np.where(mask, scan.counts, 0).astype(np.uint16)
    for name, counts in (("spoilt", spoilt), ("clean", clean)):
        write_dataset(tmp_path / name, dataclasses.replace(scan, counts=counts, mask=mask))
        refine(tmp_path / name, tmp_path / f"{name}.h5", Refinement(epochs=2))
    spoilt, clean = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("spoilt", "clean"))
    np.testing.assert_array_equal(spoilt.object, clean.object)


def test_snapshots_begin_with_the_start_and_end_with_the_result(tiny_dataset, tmp_path):
    found = read_reconstruction(_refined(tiny_dataset, tmp_path / "a.h5", epochs=4))
    assert found.facts["snapshot_epochs"] == [0, 1, 2, 3, 4]
    assert np.all(found.snapshots[0] == 1)
    np.testing.assert_array_equal(found.snapshots[-1], found.object)


def test_a_start_of_another_scan_is_refused(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    _refined(tiny_dataset, tmp_path / "a.h5", epochs=1)
    write_dataset(tmp_path / "moved", dataclasses.replace(scan, positions=scan.positions + 50))
    with pytest.raises(ValueError, match="does not hold all windows of blobs"):
        refine(tmp_path / "moved", tmp_path / "b.h5", Refinement(epochs=1), start=tmp_path / "a.h5")
    assert not (tmp_path / "b.h5").exists()


def _refined(dataset, path, **settings):
    refine(dataset, path, Refinement(**settings))
    return path


def _likeness(a, b) -> float:
    """Normalised overlap of two probes, blind to phase and scale."""
    return float(np.abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b))
