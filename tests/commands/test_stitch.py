"""Perfect patches in, perfect object out; weights, phases and positions each do their part."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from ptychoflow.commands.stitch import stitch
from ptychoflow.config import Runtime, Stitching
from ptychoflow.core.scan import GroundTruth
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.patch_store import ShardWriter, seal
from ptychoflow.io.provenance import record_provenance
from ptychoflow.io.reconstruction_h5 import read_reconstruction


def _write_patches(folder, scan, size=20, turn=0.0, drop=0, spoil=()):
    """Patches cut from the truth at whole pixels, each turned by a phase of its own, as float32 shards."""
    folder.mkdir()
    centres = np.round(scan.positions)[: len(scan) - drop]
    first = centres.astype(int) - size // 2
    patches = np.stack([scan.truth.object[y : y + size, x : x + size] for y, x in first])
    phases = np.random.default_rng(3).uniform(-np.pi, np.pi, len(patches)) * turn
    members = np.arange(len(patches))[:, None]
    patches[list(spoil)] = np.nan
    writer = ShardWriter(folder, 0, len(patches), size, 1, "float32")
    writer.write(patches * np.exp(1j * phases)[:, None, None], centres, members)
    writer.close()
    seal(folder, {})
    return folder


def _error(path, scan) -> float:
    """Greatest deviation from the truth on the coverage, after one global phase."""
    reconstruction = read_reconstruction(path)
    return _deviation(reconstruction, scan, reconstruction.coverage)


def _deviation(reconstruction, scan, seen) -> float:
    y, x = np.round(reconstruction.origin).astype(int)
    height, width = reconstruction.object.shape
    padded = np.pad(scan.truth.object, 40, constant_values=1)
    truth = padded[y + 40 : y + 40 + height, x + 40 : x + 40 + width]
    phase = np.angle(np.vdot(reconstruction.object[seen], truth[seen]))
    return float(np.abs(reconstruction.object * np.exp(1j * phase) - truth)[seen].max())


@pytest.mark.parametrize("weighting", ["illumination", "uniform"])
@pytest.mark.parametrize("turn", [0.0, 1.0], ids=["in phase", "out of phase"])
def test_perfect_patches_make_a_perfect_object(tiny_dataset, tmp_path, weighting, turn):
    scan = open_dataset(tiny_dataset)
    patches = _write_patches(tmp_path / "patches", scan, turn=turn)
    stitch(tiny_dataset, patches, tmp_path / "a.h5", Stitching(weighting=weighting))
    assert _error(tmp_path / "a.h5", scan) < 1e-6
    metadata = read_reconstruction(tmp_path / "a.h5").metadata
    assert metadata["patches"] == len(scan) and metadata["components"] == 1 and metadata["agreement"] > 0.9999


def test_patches_out_of_phase_are_a_mess_unless_they_are_synchronised(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    patches = _write_patches(tmp_path / "patches", scan, turn=1.0)
    stitch(tiny_dataset, patches, tmp_path / "a.h5", Stitching(phase="none"))
    assert _error(tmp_path / "a.h5", scan) > 0.5
    assert read_reconstruction(tmp_path / "a.h5").metadata["agreement"] < 0.5


def _halved(scan):
    """The same scan, its lower half moved away by 200 px, truth and all."""
    below = scan.positions[:, 0] > np.median(scan.positions[:, 0])
    shift = np.where(below, 200.0, 0.0)[:, None] * [1, 0]
    truth = np.ones((284, 84), np.complex64)
    truth[:84], truth[200:] = scan.truth.object, scan.truth.object
    return replace(scan, positions=scan.positions + shift, truth=GroundTruth(truth), name="halved")


def test_parts_that_do_not_overlap_are_stitched_apart_and_logged(tiny_dataset, tmp_path, caplog):
    scan = _halved(open_dataset(tiny_dataset))
    write_dataset(tmp_path / "halved", scan)
    patches = _write_patches(tmp_path / "patches", scan, turn=1.0)
    stitch(tmp_path / "halved", patches, tmp_path / "a.h5")
    reconstruction = read_reconstruction(tmp_path / "a.h5")
    metadata = reconstruction.metadata
    assert metadata["components"] == 2 and sum(metadata["patches_of_components"]) == 100
    assert "2 components of the scan do not overlap, the largest of" in caplog.text
    labels = [
        set(np.unique(reconstruction.component[rows][reconstruction.coverage[rows]]))
        for rows in (np.s_[:100], np.s_[-90:])
    ]
    assert labels in ([{0}, {1}], [{1}, {0}])
    assert np.all((reconstruction.component >= 0) == reconstruction.coverage)
    for label in (0, 1):
        only = reconstruction.component == label
        assert _deviation(reconstruction, scan, only) < 1e-5


def test_parts_that_touch_where_it_is_dim_do_not_blend(tiny_dataset, tmp_path):
    """Two patches of unlike phase share a corner; each pixel shows one of them."""
    scan = open_dataset(tiny_dataset)
    chosen = replace(scan, counts=scan.counts[:2], positions=np.array([[30.0, 30.0], [49.0, 49.0]]), name="two")
    write_dataset(tmp_path / "two", chosen)
    patches = _write_patches(tmp_path / "patches", chosen, turn=1.0)
    stitch(tmp_path / "two", patches, tmp_path / "a.h5", Stitching(weighting="uniform"))
    reconstruction = read_reconstruction(tmp_path / "a.h5")
    if reconstruction.metadata["components"] == 2:
        assert all(_deviation(reconstruction, chosen, reconstruction.component == part) < 1e-5 for part in (0, 1))
    assert np.abs(reconstruction.object[reconstruction.coverage]).min() > 0.5


def test_patches_that_are_no_numbers_stop_unless_they_may_be_left_out(tiny_dataset, tmp_path, caplog):
    scan = open_dataset(tiny_dataset)
    patches = _write_patches(tmp_path / "patches", scan, spoil=[3, 40])
    with pytest.raises(
        ValueError, match=r"2 of 100 patches of blobs hold NaN or infinity, 2 of 100 patterns are in no"
    ):
        stitch(tiny_dataset, patches, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
    stitch(tiny_dataset, patches, tmp_path / "a.h5", Stitching(allow_missing_patches=True))
    metadata = read_reconstruction(tmp_path / "a.h5").metadata
    assert metadata["patches"] == 98 and metadata["patches_dropped"] == 2 and "they are left out" in caplog.text
    assert _error(tmp_path / "a.h5", scan) < 1e-5


def test_a_pattern_in_no_patch_stops(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    patches = _write_patches(tmp_path / "patches", scan, drop=7)
    with pytest.raises(
        ValueError, match=r"0 of 93 patches .* 7 of 100 patterns are in no finite patch: run infer again"
    ):
        stitch(tiny_dataset, patches, tmp_path / "a.h5")


def test_a_missing_shard_is_refused(tiny_dataset, tmp_path):
    patches = _write_patches(tmp_path / "patches", open_dataset(tiny_dataset))
    (patches / "patches-00000.npy").unlink()
    with pytest.raises(
        ValueError, match=r"patches-00000\.npy is missing, truncated or not an array .* run infer again"
    ):
        stitch(tiny_dataset, patches, tmp_path / "a.h5")


def test_a_canvas_in_files_makes_the_same_object_and_leaves_nothing(tiny_dataset, tmp_path):
    patches = _write_patches(tmp_path / "patches", open_dataset(tiny_dataset), turn=1.0)
    stitch(tiny_dataset, patches, tmp_path / "memory.h5")
    stitch(tiny_dataset, patches, tmp_path / "files.h5", runtime=Runtime(canvas_memory_gib=0))
    ours, theirs = (read_reconstruction(tmp_path / f"{name}.h5") for name in ("files", "memory"))
    for name in ("object", "weight", "coverage"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files.h5", "memory.h5", "patches"]


def test_nothing_is_known_where_no_patch_lies(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    stitch(tiny_dataset, _write_patches(tmp_path / "patches", scan), tmp_path / "a.h5")
    reconstruction = read_reconstruction(tmp_path / "a.h5")
    assert 0 < reconstruction.coverage.sum() < reconstruction.coverage.size
    assert np.all(reconstruction.object[~reconstruction.coverage] == 1)


def test_patches_of_a_scan_that_only_looks_alike_are_refused(tiny_dataset, tmp_path):
    """Same positions, other counts: nothing but the record of what was read tells them apart."""
    scan = open_dataset(tiny_dataset)
    write_dataset(tmp_path / "other", replace(scan, counts=scan.counts[::-1], name="other"))
    for dataset, ours in (("other", False), (tiny_dataset, True)):
        patches = _write_patches(tmp_path / "patches", scan)
        seal(patches, record_provenance(dataset=tmp_path / dataset))
        if ours:
            stitch(tiny_dataset, patches, tmp_path / "a.h5")
        else:
            with pytest.raises(
                ValueError, match=r"from another dataset than .*blobs \(other\): run infer on this dataset"
            ):
                stitch(tiny_dataset, patches, tmp_path / "a.h5")
        shutil.rmtree(patches)


def test_patches_of_another_scan_are_refused(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    patches = _write_patches(tmp_path / "patches", scan)
    np.save(patches / "members-00000.npy", np.arange(1000, 1000 + len(scan))[:, None])
    with pytest.raises(ValueError, match="run infer on this dataset"):
        stitch(tiny_dataset, patches, tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError, match="patches not found"):
        stitch(tiny_dataset, tmp_path / "none", tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
