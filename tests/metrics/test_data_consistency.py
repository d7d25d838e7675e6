"""The R-factor is 0 for what made the counts, the noise's own for what was expected, and larger for all else."""

import numpy as np
import pytest

from ptychoflow.metrics.data_consistency import compare_counts, counting_noise, expected_patterns, raster_artifact_ratio

from .objects import disc, ramp, sample

SIZE = 16
ORIGIN = (-3.0, 5.0)


def _experiment(photons: float = 1e4):
    rng = np.random.default_rng(0)
    y, x = np.indices((SIZE, SIZE)) - SIZE // 2
    probe = np.exp(-(y**2 + x**2) / 8 + 0.05j * (y**2 - x**2))
    probe = (probe * np.sqrt(photons) / np.linalg.norm(probe))[None]
    positions = rng.uniform(SIZE // 2, 60 - SIZE, (50, 2)) + ORIGIN
    return sample(shape=(60, 60)), probe, positions


def _counts(image, probe, positions):
    return np.concatenate(list(expected_patterns(image, ORIGIN, probe, positions)))


def test_the_object_that_made_the_counts_explains_them():
    experiment = _experiment()
    found = compare_counts(expected_patterns(experiment[0], ORIGIN, *experiment[1:]), _counts(*experiment))
    assert found.r_factor < 1e-10
    assert found.per_pattern.shape == (50,)


def test_noise_leaves_its_own_r_factor():
    image, probe, positions = _experiment()
    counts = np.random.default_rng(1).poisson(_counts(image, probe, positions))
    found = compare_counts(expected_patterns(image, ORIGIN, probe, positions), counts)
    assert found.r_factor == pytest.approx(found.noise_floor, rel=0.03)
    assert found.r_factor == pytest.approx(np.average(found.per_pattern, weights=counts.sum((1, 2))))
    assert (
        found.r_factor
        < 0.2 * compare_counts(expected_patterns(np.ones_like(image), ORIGIN, probe, positions), counts).r_factor
    )


def test_global_phase_does_not_count_and_a_ramp_does_where_the_probe_stays():
    image, probe, positions = _experiment()
    counts = _counts(image, probe, positions)
    assert compare_counts(expected_patterns(1j * image, ORIGIN, probe, positions), counts).r_factor < 1e-10
    tilted = image * ramp((0.2, 0), image.shape)
    assert compare_counts(expected_patterns(tilted, ORIGIN, probe, positions), counts).r_factor > 0.01
    y = np.arange(SIZE) - SIZE // 2
    untilted = probe * np.exp(-0.2j * y)[:, None]
    assert compare_counts(expected_patterns(tilted, ORIGIN, untilted, positions), counts).r_factor < 1e-4


def test_masked_pixels_do_not_count():
    image, probe, positions = _experiment()
    counts = _counts(image, probe, positions)
    mask = np.ones((SIZE, SIZE), bool)
    mask[3, 4] = False
    counts[:, 3, 4] = 1e6
    assert compare_counts(expected_patterns(image, ORIGIN, probe, positions), counts, mask).r_factor < 1e-10


def test_windows_may_reach_beyond_the_object():
    _, probe, positions = _experiment()
    small = np.ones((20, 20), complex)
    assert len(np.concatenate(list(expected_patterns(small, (10.0, 10.0), probe, positions)))) == len(positions)


def test_counting_noise_is_that_of_poisson_counts():
    expected = np.array([0.0, 0.01, 0.5, 3.0, 50.0, 2e4])
    counts = np.random.default_rng(0).poisson(expected, (400_000, len(expected)))
    drawn = np.mean((np.sqrt(counts) - np.sqrt(expected)) ** 2, axis=0)
    assert counting_noise(expected) == pytest.approx(drawn, rel=0.02)


def test_raster_artefacts_show_where_patches_have_phases_of_their_own():
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 96, (60, 2))
    grid = np.stack(np.indices((96, 120)), -1) + 0.0
    nearest = np.linalg.norm(grid[:, :, None] - positions, axis=-1).argmin(-1)
    offsets = np.exp(1j * rng.normal(0, 0.3, 60))[nearest]
    image = sample(blur=3)
    assert raster_artifact_ratio(image, (0, 0), positions, disc()) == pytest.approx(1, abs=0.1)
    assert raster_artifact_ratio(image * offsets, (0, 0), positions, disc()) > 2
    assert raster_artifact_ratio(offsets + 1e-3 * image, (0, 0), positions, disc()) > 100
    assert raster_artifact_ratio(np.ones((96, 120)), (0, 0), positions, disc()) == 1


@pytest.mark.parametrize("fano", [0.5, 3.0])
def test_the_noise_floor_follows_the_fano_factor(fano):
    expected = np.array([0.5, 3.0, 50.0, 2e4])
    counts = fano * np.random.default_rng(0).poisson(expected / fano, (400_000, len(expected)))
    drawn = np.mean((np.sqrt(counts) - np.sqrt(expected)) ** 2, axis=0)
    assert counting_noise(expected, fano) == pytest.approx(drawn, rel=0.02)
    blocks = np.full((1, 1, 2, 2), 50.0, np.float32)
    floors = [compare_counts(iter(blocks), blocks[0], fano_factor=factor).noise_floor for factor in (1.0, fano)]
    assert floors[1] == pytest.approx(floors[0] * fano, rel=0.05)
