"""Merging: patches of one object give that object, moved the right way, and the ground truth beats a uniform one."""

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
    for patch, by, actual in zip(patches[0], shift[0], moved[0], strict=True):
        padded = torch.nn.functional.pad(patch, (8, 8, 8, 8))
        cut = extract_patches(padded, (8 + SIZE // 2 - by)[None], SIZE)[0]
        torch.testing.assert_close(actual, cut, rtol=0, atol=2e-5)
    assert inside.min() == 0 and inside.max() == pytest.approx(1, abs=1e-5)


def test_patches_of_one_object_merge_to_it_wherever_it_is_illuminated():
    canvas, patches, probes = _scene(WHOLE)
    probe_intensity = intensity(probes).sum(2)
    merged = merge(patches, probe_intensity, WHOLE)
    illuminated = probe_intensity.sum(1) > 1e-4 * probe_intensity.sum(1).max()
    torch.testing.assert_close(merged[illuminated], canvas[illuminated], rtol=0, atol=1e-3)


def test_what_lies_there_already_is_not_moved():
    canvas, _, probes = _scene(WHOLE)
    probe_intensity = intensity(probes).sum(2)
    merged = merge(canvas[:, None].expand(-1, 3, -1, -1), probe_intensity)
    illuminated = probe_intensity.sum(1) > 1e-4 * probe_intensity.sum(1).max()
    torch.testing.assert_close(merged[illuminated], canvas[illuminated], rtol=0, atol=1e-4)


def test_patches_are_weighed_by_probe_intensity():
    patches = torch.stack([torch.full((4, 4), 2 + 0j), torch.full((4, 4), 1j)])[None]
    probe_intensity = torch.stack([torch.full((4, 4), 3.0), torch.full((4, 4), 1.0)])[None]
    torch.testing.assert_close(merge(patches, probe_intensity), torch.full((1, 4, 4), 1.5 + 0.25j))


def test_pixels_without_illumination_are_one():
    probe_intensity = torch.zeros(1, 2, 4, 4)
    probe_intensity[..., :2] = 1
    merged = merge(torch.full((1, 2, 4, 4), 5j), probe_intensity)
    assert (merged[..., :2] == 5j).all() and (merged[..., 2:] == 1).all()


@pytest.mark.parametrize("loss", ["poisson", "amplitude"])
def test_the_truth_explains_the_counts_and_a_uniform_object_does_not(loss):
    canvas, patches, probes = _scene(WHOLE)
    counts, probe_intensity = diffract(canvas, probes), intensity(probes).sum(2)
    true, uniform = (
        physics_loss(loss, counts, diffract(merge(p, probe_intensity, WHOLE), probes), None)
        for p in (patches, torch.ones_like(patches))
    )
    assert true < 1e-3 * uniform
