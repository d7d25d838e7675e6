"""A canvas is a sum: in any order and parts, on disk as in memory, and where the formula puts every pixel."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychoflow.stitching.canvas import Canvas, CanvasStorage

GRID = np.zeros(2)


@pytest.fixture
def room(tmp_path) -> CanvasStorage:
    return CanvasStorage(1e9, tmp_path)


def _weights(size: int) -> torch.Tensor:
    return torch.rand(size, size, generator=torch.Generator().manual_seed(3))


def _patches(count: int, size: int, dtype: torch.dtype = torch.complex64) -> torch.Tensor:
    return torch.randn(count, size, size, dtype=dtype, generator=torch.Generator().manual_seed(0))


def _filled(room: CanvasStorage, patches, weights, positions, parts=1) -> Canvas:
    canvas = Canvas.around(positions, weights, GRID, room)
    for part in range(parts):
        canvas.add(patches[part::parts], torch.from_numpy(positions[part::parts].copy()))
    return canvas


def _places(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform((6, 6), (14, 30), (count, 2))


def test_canvases_add_up_in_any_order(room):
    positions, patches, weights = _places(9), _patches(9, 8), _weights(8) + 0.5
    whole = _filled(room, patches, weights, positions).finish(room)
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = Canvas.around(positions, weights, GRID, room)
        for k in order:
            part = Canvas.around(positions, weights, GRID, room)
            part.add(patches[k::3], torch.from_numpy(positions[k::3].copy()))
            merged += part
        assert merged.patches == 9
        found = merged.finish(room)
        np.testing.assert_allclose(found.object, whole.object, atol=1e-5)
        np.testing.assert_allclose(found.weight, whole.weight, rtol=1e-5)


def test_canvases_of_different_areas_or_weights_do_not_add_up(room):
    canvas = _filled(room, _patches(9, 8), torch.ones(8, 8), _places(9))
    for other in (
        Canvas.around(_places(9) * 2, torch.ones(8, 8), GRID, room),
        Canvas.around(_places(9), _weights(8), GRID, room),
    ):
        with pytest.raises(ValueError, match="one area with the same weights"):
            canvas += other


@pytest.mark.parametrize("size", [7, 8])
def test_fractional_places_agree_with_a_loop_to_a_millionth(room, size):
    """An independent float64 loop over pixels, on an asymmetric, non-square set of places."""
    positions, patches = _places(12), _patches(12, size, torch.complex128)
    weights = _weights(size).double() + 0.1
    canvas = _filled(room, patches, weights, positions)
    assert canvas.total.shape[0] < canvas.total.shape[1]
    mean, weight = _loop(patches.numpy(), weights.numpy(), positions - canvas.origin, canvas.total.shape)
    found, known = canvas.finish(room), weight > 1e-2
    np.testing.assert_allclose(found.weight, weight, atol=1e-6)
    assert np.abs(found.object - mean)[known].max() < 1e-6


@pytest.mark.parametrize("wrong", ["sign", "axes"])
def test_a_flipped_sign_or_swapped_axes_do_not_pass_for_right(room, wrong):
    positions, patches, weights = _places(12), _patches(12, 8, torch.complex128), torch.ones(8, 8, dtype=torch.float64)
    turned = 2 * positions.mean(0) - positions if wrong == "sign" else positions[:, ::-1].copy()
    canvas = _filled(room, patches, weights, positions)
    shape = np.maximum(canvas.total.shape, canvas.total.shape[::-1])
    low = turned.min(0) - 4
    mean, weight = _loop(patches.numpy(), weights.numpy(), turned - np.floor(low), tuple(shape + 4))
    found = canvas.finish(room).object
    cut = np.s_[: found.shape[0], : found.shape[1]]
    assert np.abs(found - mean[cut])[weight[cut] > 1e-2].max() > 0.1


def test_without_a_compiler_the_canvas_is_the_same(room, monkeypatch):
    positions, patches, weights = _places(40), _patches(40, 8), _weights(8)
    ours = _filled(room, patches, weights, positions).finish(room)
    monkeypatch.setattr("ptychoflow.physics.kernels.accumulate.compiled", lambda *_: None)
    theirs = _filled(room, patches, weights, positions).finish(room)
    np.testing.assert_allclose(theirs.weight, ours.weight, atol=1e-5)
    np.testing.assert_allclose(theirs.object, ours.object, atol=1e-4)
    np.testing.assert_array_equal(theirs.coverage, ours.coverage)


def test_a_few_pixels_tell_the_floor(room, monkeypatch):
    positions, patches, weights = _places(40), _patches(40, 8), _weights(8)
    whole = _filled(room, patches, weights, positions).finish(room)
    monkeypatch.setattr("ptychoflow.stitching.canvas.SAMPLE", 60)
    few = _filled(room, patches, weights, positions).finish(room)
    np.testing.assert_array_equal(few.coverage, whole.coverage)


def test_a_canvas_in_files_is_the_one_in_memory(tmp_path, room):
    positions, patches, weights = _places(40), _patches(40, 8), _weights(8)
    small = CanvasStorage(0, tmp_path / "files")
    small.folder.mkdir()
    ours, theirs = (_filled(each, patches, weights, positions).finish(each) for each in (small, room))
    assert isinstance(ours.object, np.memmap) and not isinstance(theirs.object, np.memmap)
    for name in ("object", "weight", "coverage"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_bands_meet_without_a_seam(room, monkeypatch):
    positions, patches, weights = _places(40), _patches(40, 8), _weights(8)
    whole = _filled(room, patches, weights, positions).finish(room)
    monkeypatch.setattr("ptychoflow.stitching.canvas.BAND", 100)
    np.testing.assert_allclose(_filled(room, patches, weights, positions).finish(room).weight, whole.weight, atol=1e-6)


def test_a_canvas_that_fits_nowhere_is_refused(room):
    with pytest.raises(OSError, match="check the unit of the positions"):
        Canvas.around(np.array([[0, 0], [3e6, 3e6]]), torch.ones(8, 8), GRID, room)


def _loop(patches, weights, places, shape) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and weight, pixel by pixel."""
    total, weight = np.zeros((shape[0] + 40, shape[1] + 40), complex), np.zeros((shape[0] + 40, shape[1] + 40))
    size = patches.shape[-1]
    for patch, (y, x) in zip(patches, places, strict=True):
        for row in range(size):
            for column in range(size):
                v, u = y + row - size // 2, x + column - size // 2
                for dy in (0, 1):
                    for dx in (0, 1):
                        share = (1 - abs(v - np.floor(v) - dy)) * (1 - abs(u - np.floor(u) - dx)) * weights[row, column]
                        here = int(np.floor(v)) + dy, int(np.floor(u)) + dx
                        total[here] += share * patch[row, column]
                        weight[here] += share
    cut = np.s_[: shape[0], : shape[1]]
    return total[cut] / np.maximum(weight[cut], 1e-12), weight[cut]


@pytest.mark.parametrize("case", ["fractional", "integer", "wide"])
def test_uniform_stitching_agrees_with_the_reference(room, case):
    folder = os.environ.get("PTYCHOFLOW_DATA")
    oracle = Path(folder or ".").parent / "oracles" / "reassemble_position.npz"
    if not folder or not oracle.is_file():
        pytest.skip("there are no arrays of the reference beside PTYCHOFLOW_DATA")
    with np.load(oracle) as arrays:
        patches, offsets, trim, image = (arrays[f"{case}_{name}"] for name in ("patches", "offsets_xy", "M", "image"))
    trim, image = int(trim), np.squeeze(image)
    first, side = patches.shape[-1] // 2 - trim // 2, image.shape[-1]
    patches = torch.from_numpy(patches[:, first : first + trim, first : first + trim]).to(torch.complex128)
    places = (offsets[:, ::-1] - offsets[:, ::-1].mean(0) + side // 2).astype(np.float64)
    weights = torch.ones(trim, trim, dtype=torch.float64)
    canvas = Canvas(np.zeros((side, side), complex), np.zeros((side, side)), weights, (0.0, 0.0))
    canvas.add(patches, torch.from_numpy(places.copy()))
    found = canvas.finish(room)
    seen = found.weight > 1e-2
    assert seen.sum() > trim**2
    assert np.abs(found.object - image)[seen].max() < 2e-5 * np.abs(image[seen]).max()
