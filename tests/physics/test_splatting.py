"""Splatting in place is placing: the same numbers, whatever the dtype, the weights and the edge."""

import shutil

import pytest
import torch

from ptychoflow.physics.compiling import compiled
from ptychoflow.physics.patches import place_patches
from ptychoflow.physics.splatting import splat_, splat_points_

SHAPE, SIZE, COUNT = (37, 52), 9, 40  # not square, an odd patch
EVEN = torch.ones(SIZE, SIZE)


@pytest.fixture(autouse=True, params=["in C", "in torch"])
def way(request, monkeypatch, tmp_path):
    """Everything holds with a compiler, and without one where nothing was compiled before."""
    if request.param == "in torch":
        for name in ("PATH", "HOME", "XDG_CACHE_HOME"):
            monkeypatch.setenv(name, str(tmp_path))
    elif shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    compiled.cache_clear()
    assert (compiled("splatting.c", torch.float32) is None) == (request.param == "in torch")
    yield
    compiled.cache_clear()


def _patches(dtype: torch.dtype, count: int = COUNT) -> torch.Tensor:
    return torch.randn(count, SIZE, SIZE, dtype=dtype, generator=torch.Generator().manual_seed(2))


def _positions(count: int = COUNT) -> torch.Tensor:
    room = torch.tensor([side - SIZE for side in SHAPE], dtype=torch.float64)
    return SIZE // 2 + room * torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("whole", [False, True], ids=["fractional", "whole"])
def test_splatting_is_placing(dtype, whole):
    positions = _positions().round() if whole else _positions()
    weights = torch.rand(SIZE, SIZE, dtype=dtype.to_real())
    image = torch.zeros(SHAPE, dtype=dtype)
    splat_(image, _patches(dtype), positions, weights)
    torch.testing.assert_close(image, place_patches(_patches(dtype) * weights, positions, SHAPE))


def test_what_was_there_stays_and_one_weight_serves_all():
    positions, weights, patches = _positions(), torch.rand(SIZE, SIZE), _patches(torch.complex64)
    image = torch.ones(SHAPE, dtype=torch.complex64)
    for half in (slice(0, 13), slice(13, None)):
        splat_(image, patches[half], positions[half], weights)
    torch.testing.assert_close(image, 1 + place_patches(patches * weights, positions, SHAPE))


def test_a_patch_may_touch_the_far_corner():
    image, corner = torch.zeros(SHAPE), torch.tensor([[SHAPE[0] - 5.0, SHAPE[1] - 5.0]], dtype=torch.float64)
    above = corner - torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    splat_(image, torch.ones(2, SIZE, SIZE), torch.cat([corner, above]), EVEN)
    assert image.sum() == 2 * SIZE**2 and image[-1, -1] == 1.5


@pytest.mark.parametrize("position", [(3.9, 10), (33.001, 10), (10, 48.001)])
def test_a_patch_that_leaves_the_image_is_refused_and_changes_nothing(position):
    image = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match="enlarge the image"):
        splat_(image, torch.ones(1, SIZE, SIZE), torch.tensor([position], dtype=torch.float64), EVEN)
    assert not image.any()


def test_points_are_patches_of_one_pixel():
    positions = _positions() - SIZE // 2
    ours, theirs = torch.zeros(SHAPE, dtype=torch.float64), torch.zeros(SHAPE, dtype=torch.float64)
    splat_points_(ours, positions)
    splat_(theirs, torch.ones(COUNT, 1, 1, dtype=torch.float64), positions, torch.ones(1, 1))
    torch.testing.assert_close(ours, theirs)
    assert ours.sum().item() == pytest.approx(COUNT)
