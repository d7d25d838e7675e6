"""Simulated counts follow the forward model, however they are computed, and their labels stitch to the truth."""

import numpy as np
import pytest
import torch

from ptychoflow.config import Detector, ObjectRecipe, ProbeRecipe, Trajectory
from ptychoflow.core.scan import Geometry, Scan
from ptychoflow.io.scan_cxi import read_scan
from ptychoflow.physics.patches import place_patches
from ptychoflow.simulation import acquisition as experiments
from ptychoflow.simulation.acquisition import Experiment, cut_labels, from_simulation, simulate_multiple_experiments
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.rng import seeded_rng
from ptychoflow.simulation.scan_paths import make_trajectory

from ..physics import oracle

SIZE, SHAPE = 32, (80, 110)
NEAR_FIELD = Geometry(1e-7, 1e-10, 1e-3, "near_field")


def _object(**settings) -> np.ndarray:
    return make_object(ObjectRecipe(**({"size": SHAPE} | settings)), seeded_rng(1, "object"))


def _probe(photons: float = 1e5, **settings) -> np.ndarray:
    return make_probe(ProbeRecipe(**({"diameter_px": 14} | settings)), SIZE, photons, seeded_rng(1, "probe"))


def _positions(step: float = 5.0, **settings) -> np.ndarray:
    return make_trajectory(Trajectory(step_px=step, **settings), SHAPE, SIZE, 14.0, seeded_rng(1, "trajectory"))[1]


def _phase_object() -> np.ndarray:
    return _object(amplitude=(1, 1), phase_rad=(-2, 2))


def _expected(experiment: Experiment) -> np.ndarray:
    return torch.cat(list(experiment.expected())).numpy()


def test_expected_counts_are_those_of_slow_sums():
    image, probe, positions = _object(), _probe(modes=(0.7, 0.3)), _positions()[:9]
    slow = oracle.expected_counts(image.astype(complex), probe.astype(complex), positions)
    assert abs(_expected(Experiment(image, probe, positions)) - slow).max() < 1e-5 * slow.max()


@pytest.mark.parametrize("photons", [10.0, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("modes", [None, (0.6, 0.3, 0.1)])
def test_the_photons_measured_are_the_photons_requested_for(photons, modes):
    scan = from_simulation(_positions(), _probe(modes=modes), _phase_object(), photons=photons)
    totals = scan.counts.sum((1, 2), dtype=np.float64)
    assert totals.mean() == pytest.approx(photons, abs=3 * np.sqrt(photons / len(scan)))
    assert scan.photons == pytest.approx(photons, rel=1e-5)
    assert scan.metadata["photons_requested"] == pytest.approx(photons, rel=1e-5)
    assert scan.metadata["photons_measured"] == pytest.approx(totals.mean())


@pytest.mark.parametrize("photons", [1e3, 1e5])
def test_chi_square_against_the_expectation_is_one_per_degree_of_freedom(photons):
    image, probe, positions = _object(), _probe(photons), _positions(4.0)
    counts = from_simulation(positions, probe, image, seed=5).counts.astype(float)
    expected = _expected(Experiment(image, probe, positions)).astype(float)
    bright = expected > 0.5
    chi_square = ((counts - expected)[bright] ** 2 / expected[bright]).mean()
    spread = np.sqrt((2 + (1 / expected[bright]).mean()) / bright.sum())
    assert chi_square == pytest.approx(1, abs=4 * spread)


def test_one_flux_goes_through_the_whole_scan():
    scan = from_simulation(_positions(), _probe(), _phase_object(), photons=1e6)
    totals = scan.counts.sum((1, 2), dtype=np.float64)
    assert totals.std() == pytest.approx(1e3, rel=0.25)  # Poisson, nothing else


def test_counts_do_not_depend_on_the_block_or_on_threads(monkeypatch):
    arguments = _positions(), _probe(modes=(0.7, 0.3)), _object()
    detector = Detector(point_spread_px=0.7, read_noise=1.0, dark_counts=0.1)
    usual = from_simulation(*arguments, detector=detector).counts
    for values in (1, 3 * 2 * SIZE**2, 1 << 24):
        monkeypatch.setitem(experiments.BLOCK_VALUES, "cpu", values)
        assert np.array_equal(from_simulation(*arguments, detector=detector).counts, usual)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert np.array_equal(from_simulation(*arguments, detector=detector).counts, usual)
    finally:
        torch.set_num_threads(threads)


def test_a_pattern_does_not_depend_on_the_patterns_after_it():
    positions, probe, image = _positions(), _probe(), _object()
    whole, part = from_simulation(positions, probe, image), from_simulation(positions[:5], probe, image)
    assert np.array_equal(whole.counts[:5], part.counts)


def test_another_seed_gives_other_noise_of_the_same_expectation():
    one, other = (from_simulation(_positions(), _probe(), _object(), seed=seed).counts.astype(float) for seed in (1, 2))
    assert not np.array_equal(one, other)
    assert one.sum() == pytest.approx(other.sum(), rel=1e-3)


def test_counts_have_the_smallest_dtype_that_holds_them():
    dtypes = [
        from_simulation(_positions(), _probe(), _object(), photons=photons).counts.dtype for photons in (1e3, 1e6, 1e9)
    ]
    assert dtypes == [np.uint8, np.uint16, np.uint32]


def test_a_fly_scan_is_the_mean_over_its_exposures():
    image, probe, positions = _object(), _probe(), _positions(12.0)
    positions = np.clip(positions, 20, np.array(SHAPE) - 20)
    points = np.array([[0, -2.2], [0, 0], [0, 2.2]])
    blurred = _expected(Experiment(image, probe, positions, points))
    sharp = np.mean([_expected(Experiment(image, probe, positions + point)) for point in points], axis=0)
    np.testing.assert_allclose(blurred, sharp, rtol=1e-4, atol=1e-3)


def test_the_near_field_can_be_simulated_too():
    expected = _expected(Experiment(_phase_object(), _probe(), _positions()[:4], geometry=NEAR_FIELD))
    assert expected.sum((1, 2)) == pytest.approx(1e5, rel=1e-5)


def test_dark_counts_and_point_spread_act_before_the_noise():
    image, probe, positions = _object(amplitude=(1, 1)), _probe(defocus=0.7), _positions()[:4]
    plain = _expected(Experiment(image, probe, positions))
    dark = _expected(Experiment(image, probe, positions, detector=Detector(dark_counts=2.5)))
    np.testing.assert_allclose(dark, plain + 2.5, rtol=1e-5)
    spread = _expected(Experiment(image, probe, positions, detector=Detector(point_spread_px=1.0)))
    assert spread.max() < 0.95 * plain.max()
    assert spread.sum() == pytest.approx(plain.sum(), rel=1e-2)


def _stitch(labels: np.ndarray, scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    positions = torch.from_numpy(scan.positions if scan.truth.positions is None else scan.truth.positions)
    total = place_patches(torch.from_numpy(labels).to(torch.complex128), positions, SHAPE)
    weight = place_patches(torch.ones(labels.shape, dtype=torch.float64), positions, SHAPE)
    covered = weight > 1e-9
    return (total / weight.clamp_min(1e-9)).numpy(), covered.numpy()


def test_stitched_labels_are_the_truth_at_whole_pixels():
    scan = from_simulation(np.round(_positions()), _probe(), _object())
    stitched, covered = _stitch(cut_labels(scan), scan)
    assert covered[SIZE // 2 : -SIZE // 2, SIZE // 2 : -SIZE // 2].all()
    assert abs(stitched - scan.truth.object)[covered].max() < 1e-6


def test_stitched_labels_stay_within_the_bilinear_bound_elsewhere():
    """Cutting and placing are a mean over at most 3 x 3 neighbours, at most a pixel away along each axis."""
    scan = from_simulation(_positions(), _probe(), _object(name="gaussian_random_field", spectral_exponent=2.5))
    stitched, covered = _stitch(cut_labels(scan), scan)
    padded = np.pad(scan.truth.object, 1, mode="edge")
    around = np.stack([padded[dy : dy + SHAPE[0], dx : dx + SHAPE[1]] for dy in range(3) for dx in range(3)])
    bound = abs(around - scan.truth.object).max(0)
    error = abs(stitched - scan.truth.object)
    assert (error <= bound + 1e-6)[covered].all()
    assert error[covered].mean() < 0.25 * bound[covered].mean()


def test_a_label_is_the_ground_truth_at_the_true_position():
    positions = np.round(_positions())
    scan = from_simulation(positions, _probe(), _object(), nominal_positions=positions + 0.4)
    assert np.array_equal(scan.positions, positions + 0.4)
    assert np.array_equal(scan.truth.positions, positions)
    top, left = (positions[3] - SIZE // 2).astype(int)
    np.testing.assert_allclose(cut_labels(scan)[3], scan.truth.object[top : top + SIZE, left : left + SIZE])


def test_many_experiments_pair_objects_with_probes_in_turn(tmp_path):
    objects = [_object(name=name) for name in ("points", "lines", "white_noise")]
    probes = [_probe(1e3), _probe(1e4, name="disc")[0]]
    scans = simulate_multiple_experiments(objects, probes, Trajectory(step_px=12), seed=4, folder=tmp_path)
    assert [round(scan.photons) for scan in scans] == [1000, 10000, 1000]
    assert [scan.name for scan in scans] == ["synthetic_0", "synthetic_1", "synthetic_2"]
    for scan, image in zip(scans, objects):
        assert np.array_equal(scan.truth.object, image)
        written = read_scan(tmp_path / f"{scan.name}.cxi")
        assert np.array_equal(written.counts, scan.counts)
        assert np.array_equal(written.positions, scan.positions)
    alone = simulate_multiple_experiments(objects[1:2], probes[1:2], Trajectory(step_px=12), seed=5)[0]
    assert np.array_equal(alone.counts, scans[1].counts)


def test_bad_requests_are_errors():
    probe, image = _probe(), _object()
    with pytest.raises(ValueError, match=r"positions: 1 of 2 lie outside, the first is number 1 at \(15\.0, 40\.0\)"):
        from_simulation([[16, 40], [15, 40]], probe, image)
    with pytest.raises(ValueError, match="the probe is 32 px wide, larger than the object of"):
        from_simulation([[16, 16]], probe, image[:30])
    with pytest.raises(ValueError, match="photons is 0, expected more than 0"):
        from_simulation([[16, 16]], probe, image, photons=0)
    with pytest.raises(ValueError, match="got 0 objects and 1 probes"):
        simulate_multiple_experiments([], [probe])
    scan = from_simulation([[16, 40]], probe, image)
    with pytest.raises(ValueError, match="has no ground truth to cut labels from"):
        cut_labels(Scan(scan.counts, scan.positions, scan.probe, scan.geometry))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"geometry": NEAR_FIELD},
        {"exposures": np.array([[-0.4, 0.2], [0.4, -0.2]]), "detector": Detector(point_spread_px=1.0, dark_counts=0.5)},
    ],
    ids=["far field", "near field", "fly scan on a real detector"],
)
def test_a_gpu_expects_the_same_counts(gpu, settings):
    experiment = Experiment(_object(), _probe(modes=(0.7, 0.3)), _positions(), **settings)
    expected = torch.cat(list(experiment.expected("cuda"))).cpu().numpy()
    assert abs(expected - _expected(experiment)).max() < 1e-5 * expected.max()


def test_a_block_waits_for_the_gpu_where_it_begins_and_ends(simulated_gpu, monkeypatch):
    monkeypatch.setitem(experiments.BLOCK_VALUES, "cuda", 20 * SIZE**2)
    experiment = Experiment(_object(), _probe(), _positions())
    list(experiment.counts("cuda"))
    blocks = -(-len(experiment) // 20)
    assert blocks > 3 and len(simulated_gpu.waits) == 3 + 3 * blocks, (
        "positions are copied to the GPU and checked, counts are copied back"
    )
