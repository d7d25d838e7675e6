"""Steps are shortened where the patterns of a batch overlap: dense scans end alike whatever the order of patterns."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ptychoflow.config import Refinement
from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.metrics.data_consistency import expected_patterns
from ptychoflow.physics.kernels import build
from ptychoflow.refinement.batch_overlap import PAIRS_AT_ONCE, gain_autocorrelation, overlap_in_batches
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.loop import RefinementLoop

SIZE = 32


def _probe() -> np.ndarray:
    y, x = np.indices((SIZE, SIZE)) - SIZE // 2
    probe = np.exp(-(y**2 + x**2) / 40 + 0.05j * (y**2 + x**2))
    return (probe * np.sqrt(2e4) / np.linalg.norm(probe))[None].astype(np.complex64)


def _dense_scan(rows: int, step: float, exposures: int = 1) -> Scan:
    """Patterns of a phase object on a raster whose step is a small fraction of the beam's diameter."""
    rng = np.random.default_rng(1)
    axis = SIZE // 2 + 2 + step * np.arange(rows)
    positions = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2).repeat(exposures, 0)
    side = int(positions.max()) + SIZE
    phase = gaussian_filter(rng.normal(size=(side, side)), 2)
    image = np.exp(0.4j * phase / phase.std()).astype(np.complex64)
    counts = rng.poisson(np.concatenate(list(expected_patterns(image, (0, 0), _probe(), positions))))
    return Scan(counts.astype(np.uint16), positions, _probe(), Geometry(5e-8, 1.4e-10, 2.0))


def _final_r_factor(scan: Scan, **settings) -> float:
    loop = RefinementLoop(RefinementEngine(scan, Refinement(epochs=12, **settings)))
    loop.run("dense")
    return loop.history["error"][-1]


@pytest.mark.parametrize("scan", [_dense_scan(12, 1.0), _dense_scan(6, 3.0, exposures=4)], ids=["dense", "repeats"])
@pytest.mark.parametrize("with_c_kernels", [True, False], ids=["C", "torch"])
def test_every_seed_of_a_dense_scan_with_a_refined_probe_ends_with_the_same_r_factor(scan, with_c_kernels, monkeypatch):
    if not with_c_kernels:
        monkeypatch.setattr("ptychoflow.physics.kernels.pie.compiled", lambda *_: None)
    elif build.compiled("pie.c", torch.float32) is None:
        pytest.skip("no C compiler")
    ends = [_final_r_factor(scan, probe_start_epoch=2, seed=seed) for seed in range(4)]
    fixed = _final_r_factor(scan)
    assert max(ends) < 1.02 * min(ends)
    assert max(ends) < 1.1 * fixed


def test_the_object_alone_converges_where_every_pattern_overlaps_every_other():
    assert _final_r_factor(_dense_scan(12, 1.0)) < 0.01


def test_the_overlap_of_a_batch_is_the_number_of_its_patterns_at_one_place():
    table = gain_autocorrelation(torch.from_numpy(np.abs(_probe()[0]) ** 2), 0.1)
    places = torch.tensor([[0, 0], [0, 0], [0, 0], [500, 0], [500, 0], [0, -500]])
    order = torch.tensor([5, 0, 3, 1, 2, 4])
    overlap = overlap_in_batches(table, places, order, batch_size=3)  # batches of 5, 0, 3 and of 1, 2, 4
    assert overlap.tolist() == pytest.approx([1, 2, 2, 1, 1, 1], abs=1e-5)
    assert overlap_in_batches(table, places, order, batch_size=6).tolist() == pytest.approx(
        [3, 3, 3, 2, 2, 1], abs=1e-5
    )


def test_the_overlap_of_two_patterns_falls_with_their_distance_as_that_of_their_updates():
    intensity = torch.from_numpy(np.abs(_probe()[0]) ** 2)
    gain = (intensity / (0.9 * intensity + 0.1 * intensity.max())).numpy()
    places = torch.tensor([[0, 0], [3, -2]])
    overlap = overlap_in_batches(gain_autocorrelation(intensity, 0.1), places, torch.arange(2), 2)
    shared = np.sum(gain[3:, :-2] * gain[:-3, 2:]) / np.sum(gain**2)
    assert overlap.tolist() == pytest.approx([1 + shared, 1 + shared], rel=1e-5)


def test_the_overlap_of_many_patterns_is_that_of_each_batch_by_itself():
    table = gain_autocorrelation(torch.from_numpy(np.abs(_probe()[0]) ** 2), 0.1)
    generator = torch.Generator().manual_seed(2)
    count, size = 2 * PAIRS_AT_ONCE // 1024**2 * 1024 + 70, 1024
    places = torch.randint(0, 200, (count, 2), generator=generator)
    order = torch.randperm(count, generator=generator)
    overlap = overlap_in_batches(table, places, order, size)
    for batch in order.split(size):
        alone = overlap_in_batches(table, places[batch], torch.arange(len(batch)), size)
        assert torch.allclose(overlap[batch], alone, rtol=1e-4)
