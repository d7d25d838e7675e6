"""Merging: patches of one object give that object, moved the right way, and the truth beats an empty one."""

import pytest
import torch

from ptychoflow.networks.patch_merging import merge, translate
from ptychoflow.physics.forward_model import intensity, shift_probe
from ptychoflow.physics.patches import extract_patches
from ptychoflow.training.losses import diffract, physics_loss

SIZE, MIDDLE = 32, 40


def _scene(relative: torch.Tensor):
    """An object of 80 px, its patches at ``relative`` from the middle, and the probe moved there."""
    rng = torch.Generator().manual_seed(3)
    image = torch.polar(0.7 + 0.3 * torch.rand(80, 80, generator=rng), torch.rand(80, 80, generator=rng))
    axis = torch.arange(SIZE) - SIZE // 2
    r2 = (axis[:, None] ** 2 + 1.4 * axis**2).float()
    probes = shift_probe((30 * torch.exp(-r2 / 30 + 0.05j * r2))[None], relative)
    patches = extract_patches(image, MIDDLE + relative[0], SIZE)[None]
    canvas = extract_patches(image, torch.full((1, 2), float(MIDDLE), dtype=torch.float64), SIZE)
    return canvas, patches, probes


WHOLE = torch.tensor([[[-3.0, 5.0], [4.0, 2.0], [0.0, -6.0]]], dtype=torch.float64)


def test_content_moves_by_plus_shift_along_y_and_x():
    spot = torch.zeros(1, 2, 8, 8, dtype=torch.complex64)
    spot[..., 4, 4] = 1j
    moved, _ = translate(spot, torch.tensor([[[2.0, -1.0], [-3.5, 0.0]]]))
    assert moved[0, 0, 6, 3].imag == pytest.approx(1, abs=1e-5)
    assert moved[0, 1, 0, 4].imag == pytest.approx(0.5, abs=1e-5) == moved[0, 1, 1, 4].imag


def test_translation_is_the_bilinear_cut_of_physics():
    patches = torch.randn(1, 3, SIZE, SIZE, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([[[1.25, -2.5], [0.0, 0.75], [-3.3, 4.1]]], dtype=torch.float64)
    moved, inside = translate(patches, shift)
    for patch, by, here in zip(patches[0], shift[0], moved[0], strict=True):
        padded = torch.nn.functional.pad(patch, (8, 8, 8, 8))
        cut = extract_patches(padded, (8 + SIZE // 2 - by)[None], SIZE)[0]
        torch.testing.assert_close(here, cut, rtol=0, atol=2e-5)
    assert inside.min() == 0 and inside.max() == pytest.approx(1, abs=1e-5)


def test_patches_of_one_object_merge_to_it_wherever_light_falls():
    canvas, patches, probes = _scene(WHOLE)
    light = intensity(probes).sum(2)
    merged = merge(patches, light, WHOLE)
    lit = light.sum(1) > 1e-4 * light.sum(1).max()
    torch.testing.assert_close(merged[lit], canvas[lit], rtol=0, atol=1e-3)


def test_what_lies_there_already_is_not_moved():
    canvas, _, probes = _scene(WHOLE)
    light = intensity(probes).sum(2)
    merged = merge(canvas[:, None].expand(-1, 3, -1, -1), light)
    lit = light.sum(1) > 1e-4 * light.sum(1).max()
    torch.testing.assert_close(merged[lit], canvas[lit], rtol=0, atol=1e-4)


def test_a_patch_has_a_say_in_proportion_to_its_light():
    patches = torch.stack([torch.full((4, 4), 2 + 0j), torch.full((4, 4), 1j)])[None]
    light = torch.stack([torch.full((4, 4), 3.0), torch.full((4, 4), 1.0)])[None]
    torch.testing.assert_close(merge(patches, light), torch.full((1, 4, 4), 1.5 + 0.25j))


def test_where_no_light_falls_there_is_nothing():
    light = torch.zeros(1, 2, 4, 4)
    light[..., :2] = 1
    merged = merge(torch.full((1, 2, 4, 4), 5j), light)
    assert (merged[..., :2] == 5j).all() and (merged[..., 2:] == 1).all()


@pytest.mark.parametrize("loss", ["poisson", "amplitude"])
def test_the_truth_explains_the_counts_and_an_empty_object_does_not(loss):
    canvas, patches, probes = _scene(WHOLE)
    counts, light = diffract(canvas, probes), intensity(probes).sum(2)
    true, empty = (
        physics_loss(loss, counts, diffract(merge(p, light, WHOLE), probes), None)
        for p in (patches, torch.ones_like(patches))
    )
    assert true < 1e-3 * empty
