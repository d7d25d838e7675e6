"""Cutting and placing are adjoint, exact at whole pixels, and refuse what does not fit."""

import pytest
import torch

from ptychoflow.physics.patches import add_windows, cut_windows, extract_patches, place_patches, split_positions

SHAPE, SIZE = (37, 52), 9  # not square, an odd patch


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(sum(shape)))


def _positions(count: int, size: int = SIZE) -> torch.Tensor:
    room = torch.tensor([side - size - 1 for side in SHAPE], dtype=torch.float64)
    return size // 2 + room * torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.conj() * b).sum()


@pytest.mark.parametrize("size", [8, 9])
def test_place_is_the_adjoint_of_extract(size):
    positions, image, patches = _positions(20, size), _random(*SHAPE), _random(20, size, size)
    cut, placed = extract_patches(image, positions, size), place_patches(patches, positions, SHAPE)
    left, right = _inner(cut, patches), _inner(image, placed)
    assert abs(left - right) <= 1e-12 * cut.norm() * patches.norm()


def test_adding_windows_is_the_adjoint_of_cutting_them():
    corners = torch.tensor([[0, 0], [28, 43], [5, 17], [5, 18]])
    image, windows = _random(*SHAPE), _random(4, SIZE, SIZE)
    cut = cut_windows(image, corners, SIZE)
    left, right = _inner(cut, windows), _inner(image, add_windows(windows, corners, SHAPE))
    assert abs(left - right) <= 1e-12 * cut.norm() * windows.norm()


def test_autograd_of_extract_is_place():
    positions, patches = _positions(6), _random(6, SIZE, SIZE)
    image = _random(*SHAPE).requires_grad_()
    (gradient,) = torch.autograd.grad(extract_patches(image, positions, SIZE), image, patches)
    torch.testing.assert_close(gradient, place_patches(patches, positions, SHAPE))


def test_a_patch_at_a_whole_pixel_is_the_image_itself():
    image = _random(*SHAPE)
    patch = extract_patches(image, torch.tensor([[10.0, 20.0]]), 8)[0]
    assert torch.equal(patch, image[6:14, 16:24])


def test_between_pixels_a_patch_of_a_plane_is_the_plane():
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in SHAPE), indexing="ij")
    patch = extract_patches(3 * y - 2 * x, torch.tensor([[10.25, 20.75]], dtype=torch.float64), 8)[0]
    torch.testing.assert_close(patch, (3 * y - 2 * x)[6:14, 16:24] + 3 * 0.25 - 2 * 0.75)


def test_a_placed_pixel_moves_with_its_position():
    patch = torch.zeros(1, 8, 8)
    patch[0, 4, 4] = 1
    image = place_patches(patch, torch.tensor([[10.25, 20.5]], dtype=torch.float64), SHAPE)
    centre = [(image.sum(1 - axis) * torch.arange(SHAPE[axis])).sum().item() for axis in (0, 1)]
    assert centre == pytest.approx([10.25, 20.5])
    assert image.sum() == 1


@pytest.mark.parametrize("position", [(4, 4), (33, 48)])
def test_a_patch_may_touch_the_edge(position):
    patches = extract_patches(_random(*SHAPE), torch.tensor([position], dtype=torch.float64), 8)
    assert place_patches(patches, torch.tensor([position], dtype=torch.float64), SHAPE).shape == SHAPE


@pytest.mark.parametrize("position", [(3.999, 10), (33.001, 10), (10, 48.001), (10, 3.999), (-5, 10), (10, 70)])
def test_a_patch_that_leaves_the_image_by_any_part_of_a_pixel_is_refused(position):
    position = torch.tensor([position], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"the image is \(37, 52\): enlarge"):
        extract_patches(_random(*SHAPE), position, 8)
    with pytest.raises(ValueError, match=r"the image is \(37, 52\): enlarge"):
        place_patches(_random(1, 8, 8), position, SHAPE)


def test_a_window_outside_is_refused():
    with pytest.raises(ValueError, match="enlarge the image"):
        cut_windows(_random(*SHAPE), torch.tensor([[30, 0]]), 8)


def test_a_fraction_is_as_exact_far_from_the_origin_as_near_it():
    image = torch.rand(20, 20)
    near = extract_patches(image, torch.tensor([[10.3, 10.7]], dtype=torch.float64), 8)
    far_image = torch.zeros(20, 100_020)
    far_image[:, -20:] = image
    far = extract_patches(far_image, torch.tensor([[10.3, 100_010.7]], dtype=torch.float64), 8)
    torch.testing.assert_close(near, far, rtol=0, atol=1e-7)


def test_positions_split_into_whole_pixels_and_a_subpixel_shift():
    positions = torch.tensor([[3.7, -2.2], [0.4, 12.0]], dtype=torch.float64)
    whole, subpixel_shift = split_positions(positions)
    assert whole.tolist() == [[4, -2], [0, 12]]
    assert subpixel_shift.abs().max() <= 0.5
    torch.testing.assert_close(whole + subpixel_shift, positions)


def test_a_gpu_cuts_and_places_the_same(gpu):
    image, patches, positions = _random(*SHAPE), _random(6, SIZE, SIZE), _positions(6)
    there = extract_patches(image.cuda(), positions.cuda(), SIZE)
    torch.testing.assert_close(there.cpu(), extract_patches(image, positions, SIZE))
    there = place_patches(patches.cuda(), positions.cuda(), SHAPE)
    torch.testing.assert_close(there.cpu(), place_patches(patches, positions, SHAPE))
    with pytest.raises(ValueError, match="enlarge the image"):
        place_patches(patches.cuda(), positions.cuda() + 40, SHAPE)
