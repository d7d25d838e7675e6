"""Perfect patches in, perfect object out; weights, phases and positions each do their part."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychoflow.config import Stitching
from ptychoflow.data.packing import open_dataset
from ptychoflow.data.shards import ShardWriter, seal
from ptychoflow.reconstruction import read_reconstruction
from ptychoflow.stitch import Canvas, stitch


def _write_patches(folder, scan, size=20, turn=0.0, drop=0):
    """Patches cut from the truth at whole pixels, each turned by a phase of its own, as float32 shards."""
    folder.mkdir()
    centres = np.round(scan.positions)[: len(scan) - drop]
    first = centres.astype(int) - size // 2
    patches = np.stack([scan.truth.object[y : y + size, x : x + size] for y, x in first])
    phases = np.random.default_rng(3).uniform(-np.pi, np.pi, len(patches)) * turn
    members = np.arange(len(patches))[:, None]
    writer = ShardWriter(folder, 0, len(patches), size, 1, "float32")
    writer.write(patches * np.exp(1j * phases)[:, None, None], centres, members)
    writer.close()
    seal(folder, {})
    return folder


def _error(path, scan) -> float:
    """Greatest deviation from the truth on the coverage, after one global phase."""
    found = read_reconstruction(path)
    y, x = np.round(found.origin).astype(int)
    height, width = found.object.shape
    padded = np.pad(scan.truth.object, 40, constant_values=1)
    truth = padded[y + 40 : y + 40 + height, x + 40 : x + 40 + width]
    seen = found.coverage
    phase = np.angle(np.vdot(found.object[seen], truth[seen]))
    return float(np.abs(found.object * np.exp(1j * phase) - truth)[seen].max())


@pytest.mark.parametrize("weighting", ["illumination", "uniform"])
@pytest.mark.parametrize("turn", [0.0, 1.0], ids=["in phase", "out of phase"])
def test_perfect_patches_make_a_perfect_object(tiny_dataset, tmp_path, weighting, turn):
    scan = open_dataset(tiny_dataset)
    patches = _write_patches(tmp_path / "patches", scan, turn=turn)
    stitch(tiny_dataset, patches, tmp_path / "a.h5", Stitching(weighting=weighting))
    assert _error(tmp_path / "a.h5", scan) < 1e-5
    facts = read_reconstruction(tmp_path / "a.h5").facts
    assert facts["patches"] == len(scan) and facts["components"] == 1 and facts["agreement"] > 0.9999


def test_patches_out_of_phase_are_a_mess_unless_they_are_synchronised(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    patches = _write_patches(tmp_path / "patches", scan, turn=1.0)
    stitch(tiny_dataset, patches, tmp_path / "a.h5", Stitching(phase="none"))
    assert _error(tmp_path / "a.h5", scan) > 0.5
    assert read_reconstruction(tmp_path / "a.h5").facts["agreement"] < 0.5


def test_parts_that_do_not_overlap_are_counted(tiny_dataset, tmp_path, caplog):
    scan = open_dataset(tiny_dataset)
    patches = _write_patches(tmp_path / "patches", scan, size=4)
    stitch(tiny_dataset, patches, tmp_path / "a.h5", Stitching(weighting="uniform"))
    assert read_reconstruction(tmp_path / "a.h5").facts["components"] > 1
    assert "do not overlap" in caplog.text


def test_nothing_is_known_where_no_patch_lies(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    stitch(tiny_dataset, _write_patches(tmp_path / "patches", scan), tmp_path / "a.h5")
    found = read_reconstruction(tmp_path / "a.h5")
    assert 0 < found.coverage.sum() < found.coverage.size
    assert np.all(found.object[~found.coverage] == 1)


def test_canvases_add_up_in_any_order():
    rng = np.random.default_rng(0)
    positions = torch.from_numpy(rng.uniform(0, 20, (9, 2)))
    patches = torch.from_numpy(rng.normal(size=(9, 8, 8)) + 1j * rng.normal(size=(9, 8, 8))).to(torch.complex64)
    weights = torch.from_numpy(rng.uniform(0.5, 1, (9, 8, 8))).float()
    empty = Canvas.around(positions.numpy(), 8, grid=positions[0].numpy())
    whole = empty.add(patches, weights, positions)
    parts = [empty.add(patches[i::3], weights[i::3], positions[i::3]) for i in range(3)]
    for merged in (parts[0] + (parts[1] + parts[2]), (parts[2] + parts[1]) + parts[0]):
        torch.testing.assert_close(merged.total, whole.total)
        torch.testing.assert_close(merged.weight, whole.weight)
        assert merged.patches == whole.patches == 9


def test_fractional_places_agree_with_a_loop_and_a_wrong_sign_does_not():
    """An independent float64 loop on an asymmetric, non-square set of places."""
    rng = np.random.default_rng(1)
    positions = rng.uniform((6, 6), (14, 30), (12, 2))
    patches = rng.normal(size=(12, 7, 7)) + 1j * rng.normal(size=(12, 7, 7))
    canvas = Canvas.around(positions, 7, grid=np.zeros(2))
    ones = torch.ones(12, 7, 7)
    ours = canvas.add(torch.from_numpy(patches).to(torch.complex64), ones, torch.from_numpy(positions)).total.numpy()
    assert np.abs(ours - _loop(patches, positions - canvas.origin, ours.shape)).max() < 1e-5
    mirrored = canvas.origin + (positions - canvas.origin)[:, ::-1]
    assert np.abs(ours - _loop(patches, mirrored - canvas.origin, ours.shape)).max() > 0.1


def _loop(patches, places, shape) -> np.ndarray:
    image = np.zeros((shape[0] + 40, shape[1] + 40), complex)
    size = patches.shape[-1]
    for patch, (y, x) in zip(patches, places, strict=True):
        for row in range(size):
            for column in range(size):
                v, u = y + row - size // 2, x + column - size // 2
                for dy in (0, 1):
                    for dx in (0, 1):
                        share = (1 - abs(v - np.floor(v) - dy)) * (1 - abs(u - np.floor(u) - dx))
                        image[int(np.floor(v)) + dy, int(np.floor(u)) + dx] += share * patch[row, column]
    return image[: shape[0], : shape[1]]


@pytest.mark.parametrize("case", ["fractional", "integer", "wide"])
def test_uniform_stitching_agrees_with_the_reference(case):
    folder = os.environ.get("PTYCHOFLOW_DATA")
    oracle = Path(folder or ".").parent / "oracles" / "reassemble_position.npz"
    if not folder or not oracle.is_file():
        pytest.skip("there are no arrays of the reference beside PTYCHOFLOW_DATA")
    with np.load(oracle) as arrays:
        patches, offsets, trim, image = (arrays[f"{case}_{name}"] for name in ("patches", "offsets_xy", "M", "image"))
    trim = int(trim)
    first = patches.shape[-1] // 2 - trim // 2
    patches = torch.from_numpy(patches[:, first : first + trim, first : first + trim])
    side = image.shape[-1]
    places = offsets[:, ::-1] - offsets[:, ::-1].mean(0) + side // 2
    canvas = Canvas(torch.zeros(side, side, dtype=torch.complex64), torch.zeros(side, side), (0.0, 0.0))
    canvas = canvas.add(patches, torch.ones(patches.shape), torch.from_numpy(places.copy()))
    mean = (canvas.total / canvas.weight.clamp_min(1e-12)).numpy()
    seen = canvas.weight.numpy() > 1e-2
    assert seen.sum() > trim**2
    image = np.squeeze(image)
    scale = np.abs(image[seen]).max()
    assert np.abs(mean - image)[seen].max() < 0.01 * scale
    assert np.median(np.abs(mean - image)[seen]) < 1e-4 * scale


def test_patches_of_another_scan_are_refused(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    patches = _write_patches(tmp_path / "patches", scan)
    np.save(patches / "members-00000.npy", np.arange(1000, 1000 + len(scan))[:, None])
    with pytest.raises(ValueError, match="run infer on this dataset"):
        stitch(tiny_dataset, patches, tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError, match="there are no patches"):
        stitch(tiny_dataset, tmp_path / "none", tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()
