"""Splatting in place is placing: the same numbers, whatever the dtype, the weights and the edge; and the mean of it."""

import pytest
import torch

from ptychoflow.physics.kernels.accumulate import convolve_points, divide_, splat_
from ptychoflow.physics.patches import place_patches

SHAPE, SIZE, COUNT = (37, 52), 9, 40  # not square, an odd patch
EVEN = torch.ones(SIZE, SIZE)


pytestmark = pytest.mark.usefixtures("with_and_without_compiler")


def _patches(dtype: torch.dtype, count: int = COUNT) -> torch.Tensor:
    return torch.randn(count, SIZE, SIZE, dtype=dtype, generator=torch.Generator().manual_seed(2))


def _positions(count: int = COUNT) -> torch.Tensor:
    room = torch.tensor([side - SIZE for side in SHAPE], dtype=torch.float64)
    return SIZE // 2 + room * torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _hits(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(SHAPE, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("whole", [False, True], ids=["fractional", "whole"])
def test_splatting_is_placing(dtype, whole):
    positions = _positions().round() if whole else _positions()
    weights = torch.rand(SIZE, SIZE, dtype=dtype.to_real())
    image = torch.zeros(SHAPE, dtype=dtype)
    splat_(image, _patches(dtype), positions, weights, _hits(dtype.to_real()))
    torch.testing.assert_close(image, place_patches(_patches(dtype) * weights, positions, SHAPE))


def test_what_was_there_stays_and_one_weight_serves_all():
    positions, weights, patches = _positions(), torch.rand(SIZE, SIZE), _patches(torch.complex64)
    image = torch.ones(SHAPE, dtype=torch.complex64)
    for half in (slice(0, 13), slice(13, None)):
        splat_(image, patches[half], positions[half], weights, _hits())
    torch.testing.assert_close(image, 1 + place_patches(patches * weights, positions, SHAPE))


def test_a_patch_may_touch_the_far_corner():
    image, corner = torch.zeros(SHAPE), torch.tensor([[SHAPE[0] - 5.0, SHAPE[1] - 5.0]], dtype=torch.float64)
    above = corner - torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    splat_(image, torch.ones(2, SIZE, SIZE), torch.cat([corner, above]), EVEN, _hits())
    assert image.sum() == 2 * SIZE**2 and image[-1, -1] == 1.5


@pytest.mark.parametrize("position", [(3.9, 10), (33.001, 10), (10, 48.001), (10, -1e9)])
def test_a_patch_that_leaves_the_image_is_refused_and_changes_nothing(position):
    image, hits = torch.zeros(SHAPE), _hits()
    positions = torch.tensor([(10, 10), position], dtype=torch.float64)
    with pytest.raises(ValueError, match="enlarge the image"):
        splat_(image, torch.ones(2, SIZE, SIZE), positions, EVEN, hits)
    assert not image.any() and not hits.any()


def test_hits_are_patches_of_one_pixel():
    hits, positions = _hits(torch.float64), _positions()
    splat_(torch.zeros(SHAPE, dtype=torch.float64), _patches(torch.float64), positions, EVEN, hits)
    ones = torch.ones(COUNT, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(hits, place_patches(ones, positions, SHAPE))
    assert hits.sum().item() == pytest.approx(COUNT)


@pytest.mark.parametrize("size", [1, 8, 9])
def test_hits_convolve_to_the_sum_of_weights_for_any_division_into_rows(size):
    room = torch.tensor([side - 2 * size for side in SHAPE], dtype=torch.float64)
    positions = size + room * torch.rand(COUNT, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weights, hits = torch.rand(size, size, dtype=torch.float64), _hits(torch.float64)
    every = weights.repeat(COUNT, 1, 1)
    splat_(_hits(torch.float64), every, positions, weights, hits)
    expected = place_patches(every, positions, SHAPE)
    for step in (4, 37):
        bands = [slice(first, min(first + step, SHAPE[0])) for first in range(0, SHAPE[0], step)]
        found = torch.cat([convolve_points(hits, weights, rows) for rows in bands])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_points_at_the_edge_are_cut_to_the_image():
    points, weights = torch.zeros(3, 4), 1 + torch.arange(25.0).view(5, 5)
    points[0, 0], points[2, 3] = 1, 2
    expected = torch.zeros(3, 4)
    expected[:3, :3] += weights[2:, 2:]
    expected[:, 1:] += 2 * weights[:3, :3]
    torch.testing.assert_close(convolve_points(points, weights, slice(0, 3)), expected)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_sum_is_divided_where_its_weight_is_above_the_floor_and_1_elsewhere(dtype):
    total = torch.tensor([[2 + 4j, 3j, 5, complex("nan"), 1]], dtype=dtype)
    known = divide_(total, torch.tensor([[2.0, 0.5, 0.1, 0, float("nan")]]), 0.1)
    assert known.tolist() == [[True, True, False, False, False]]
    assert total.tolist() == [[1 + 2j, 6j, 1, 1, 1]]


def test_a_gpu_finds_the_same_mean(gpu):
    def mean(device: str) -> list[torch.Tensor]:
        image, hits = torch.zeros(SHAPE, dtype=torch.complex64, device=device), _hits().to(device)
        splat_(image, _patches(torch.complex64).to(device), _positions().to(device), EVEN.to(device), hits)
        weight = convolve_points(hits, EVEN.to(device), slice(0, SHAPE[0]))
        known = divide_(image, weight, 0.5)
        return [part.cpu() for part in (image, weight, known)]

    for here, there in zip(mean("cpu"), mean("cuda"), strict=True):
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)
