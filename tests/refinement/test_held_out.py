"""Tests of held-out pixels, and of the stop and the kept epoch that they decide."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from ptychoflow.config import ObjectRecipe, ProbeRecipe, Refinement, Trajectory
from ptychoflow.metrics.alignment import align
from ptychoflow.metrics.data_consistency import expected_patterns
from ptychoflow.metrics.image import image_metrics
from ptychoflow.refinement.annealing import cycle_lengths, position_in_cycle
from ptychoflow.refinement.engine import RefinedVariables, RefinementEngine
from ptychoflow.refinement.held_out import FRACTION, SETS, TOLERANCE, HeldOutPixels, KeptEpoch
from ptychoflow.refinement.loop import RefinementLoop
from ptychoflow.refinement.resume import ResumableState
from ptychoflow.runtime.distributed import DistributedContext
from ptychoflow.simulation.acquisition import from_simulation
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.scan_paths import make_trajectory

SIZE = 32


def _scan(photons):
    rng = np.random.default_rng(3)
    image = make_object(ObjectRecipe(name="siemens_star", size=(96, 96)), rng)
    probe = make_probe(ProbeRecipe(diameter_px=14, defocus=1.0), SIZE, 1.0, rng)
    positions = make_trajectory(Trajectory(step_px=4.5, jitter_px=0), image.shape, SIZE, 14.0, rng)[1]
    return from_simulation(positions, probe, image, photons=photons, seed=1)


@pytest.fixture(scope="module")
def dim():
    """A raster scan of 1000 photons a pattern."""
    return _scan(1e3)


@pytest.fixture(scope="module")
def bright():
    return _scan(1e6)


def _refined(scan, resumable=None, **settings):
    loop = RefinementLoop(RefinementEngine(scan, Refinement.model_validate(settings)), resumable)
    loop.run(scan.name)
    return loop


def _phase_psnr(scan, loop):
    engine, truth = loop.engine, scan.truth
    pair = align(engine.object.numpy(), engine.origin, engine.coverage(), np.asarray(truth.object), truth.origin)
    return image_metrics(pair.object, pair.truth, pair.mask, 3.0)["phase_psnr_truth_range"]


def _held_out_mask(scan, seed=0):
    """True at the held-out pixels of each pattern, zero frequency at the centre, as the counts."""
    pixels = HeldOutPixels(None, SIZE, seed, DistributedContext())._pixels
    mask = np.zeros((SETS, SIZE * SIZE), bool)
    mask[np.arange(SETS)[:, None], pixels.numpy()] = True
    corner = mask.reshape(SETS, SIZE, SIZE)[np.arange(len(scan)) % SETS]
    return np.fft.fftshift(corner, axes=(1, 2))


def test_no_update_sees_the_counts_of_held_out_pixels(dim):
    counts = np.where(_held_out_mask(dim), 999, dim.counts).astype(np.uint16)
    engines = [RefinementEngine(scan, Refinement()) for scan in (dim, dataclasses.replace(dim, counts=counts))]
    for engine in engines:
        engine.hold_out_pixels()
    refined = RefinedVariables(probe=True, positions=True, probe_scale=True)
    stats = [[engine.epoch(refined, with_low_order_phase=True) for _ in range(3)] for engine in engines]
    for name, tensor in engines[0].state().items():
        assert torch.equal(engines[1].state()[name], tensor), name
    assert stats[1][-1].held_out > stats[0][-1].held_out + 0.1
    assert stats[1][-1].error == pytest.approx(stats[0][-1].error, rel=1e-6)


def test_the_held_out_residual_is_that_of_the_forward_model(dim):
    engine = RefinementEngine(dim, Refinement())
    engine.hold_out_pixels()
    engine.epoch()
    arrays = (engine.probe, engine.positions, engine.probe_scale)
    expected = np.concatenate([*expected_patterns(engine.object.numpy(), engine.origin, *(a.numpy() for a in arrays))])
    held_out = _held_out_mask(dim)
    squares = (np.sqrt(dim.counts.astype(float)) - np.sqrt(expected))[held_out] ** 2
    assert engine.held_out_error() == pytest.approx(squares.sum() / dim.counts[held_out].sum(), rel=1e-4)
    assert held_out.mean() == pytest.approx(FRACTION, abs=0.5 / SIZE**2)


def test_pixels_that_are_not_valid_are_not_held_out():
    mask = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0)) > 0.3
    pixels = HeldOutPixels(mask, SIZE, 0, DistributedContext())._pixels
    assert mask.flatten()[pixels].all()


def test_many_epochs_at_few_photons_end_near_the_best_of_all_numbers_of_epochs(dim):
    best = max(_phase_psnr(dim, _refined(dim, epochs=epochs, stop="epochs")) for epochs in (6, 10, 20, 40))
    most = _phase_psnr(dim, _refined(dim, epochs=150, stop="epochs", convergence_tolerance=0))
    kept = _refined(dim, epochs=150, stop="held_out")
    assert _phase_psnr(dim, kept) > best - 0.5
    assert _phase_psnr(dim, kept) > most + 1
    assert len(kept.history["epoch"]) < 150 or kept.kept_epoch < 150


@pytest.mark.parametrize(
    ("photons", "epochs", "holds_out"), [("dim", 30, True), ("dim", 29, False), ("bright", 30, False)]
)
def test_by_default_pixels_are_held_out_where_photons_are_few_and_epochs_many(photons, epochs, holds_out, request):
    loop = RefinementLoop(RefinementEngine(request.getfixturevalue(photons), Refinement(epochs=epochs)))
    assert ("held_out" in loop.history) == holds_out


def _interrupted_in(epoch):
    def on_epoch_end(row):
        if row["epoch"] == epoch:
            raise KeyboardInterrupt
        return True

    return on_epoch_end


@pytest.mark.parametrize("epoch", [4, 10, 27])
def test_an_interrupted_refinement_resumes_with_the_epoch_it_kept(dim, tmp_path, epoch):
    settings = {"epochs": 70, "stop": "held_out", "probe_start_epoch": 2, "position_start_epoch": 5}
    whole = _refined(dim, **settings)
    assert whole.kept_epoch < len(whole.history["epoch"])  # else it would show less

    def resumable():
        return ResumableState(tmp_path / "out.h5", {"a": 1})

    loop = RefinementLoop(RefinementEngine(dim, Refinement.model_validate(settings)), resumable())
    with pytest.raises(KeyboardInterrupt):
        loop.run("scan", _interrupted_in(epoch))
    resumed = _refined(dim, resumable(), **settings)
    assert resumed.kept_epoch == whole.kept_epoch
    assert resumed.history["held_out"] == whole.history["held_out"]
    for name, tensor in whole.engine.state().items():
        assert torch.equal(resumed.engine.state()[name], tensor), name


def test_the_kept_epoch_is_the_latest_about_as_good_as_the_best():
    kept = KeptEpoch()
    for epoch, error in enumerate((3.0, 1.0, 1.0 + 0.9 * TOLERANCE, 1.0 + 1.1 * TOLERANCE, 2.0), 1):
        kept.add(epoch, error, {"end of": torch.tensor(epoch - 1)})
    assert kept.epoch == 3
    assert int(kept.state["end of"]) == 3
    kept.add(6, 0.5, {"end of": torch.tensor(5)})
    assert kept.epoch == 6
    assert kept.state is None  # it is that of the engine


@pytest.mark.parametrize("last_start", [0, 3, 40])
@pytest.mark.parametrize("epochs", [1, 5, 19, 29, 30, 64, 100, 333])
def test_cycles_double_and_each_ends_with_the_last_step(epochs, last_start):
    lengths = cycle_lengths(epochs, last_start)
    assert sum(lengths) == epochs
    assert all(after >= 2 * before for before, after in itertools.pairwise(lengths))
    positions = [position_in_cycle(epoch, lengths) for epoch in range(1, epochs + 1)]
    ends = [position for position in positions if position.ends_cycle]
    assert [end.length for end in ends] == lengths
    assert all(end.progress == 1 for end in ends if end.length > 1)
    assert [end.ends_refinement for end in ends] == [False] * (len(lengths) - 1) + [True]
    if len(lengths) > 1:
        assert lengths[0] >= 2 * last_start
