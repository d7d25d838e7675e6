"""Orthogonal probe relaxation: the decomposition is a singular value decomposition, the fit finds what varied."""

import dataclasses

import numpy as np
import pytest
import torch

from ptychoflow.commands.refine import refine
from ptychoflow.config import BeamStability, ObjectRecipe, ProbeRecipe, Refinement, Simulation, Trajectory
from ptychoflow.core.instrument import IDEAL, Instrument
from ptychoflow.core.scan import Scan
from ptychoflow.io.dataset import write_dataset
from ptychoflow.io.ptychodus_product import write_product
from ptychoflow.io.reconstruction_h5 import product_of, read_reconstruction, write_reconstruction
from ptychoflow.metrics.data_consistency import compare_counts, expected_by
from ptychoflow.physics.probe_variations import StreamedSVD, orthonormal_rows, vary_probe
from ptychoflow.readers.formats.ptychodus_product import read_product, reconstruction_of
from ptychoflow.refinement.engine import RefinementEngine
from ptychoflow.refinement.run import refine_scan
from ptychoflow.runtime.distributed import DistributedContext
from ptychoflow.simulation.acquisition import Experiment, as_scan, nominal_geometry
from ptychoflow.simulation.beam_stability import draw_beam_variation
from ptychoflow.simulation.objects import make_object
from ptychoflow.simulation.probes import make_probe
from ptychoflow.simulation.scan_paths import make_trajectory

SIZE = 32


@pytest.fixture(scope="module")
def drifting() -> Scan:
    """A scan whose focus drifts by up to 0.5 waves."""
    return _scan(BeamStability(defocus_drift_waves=0.5, correlation_patterns=5))


def _scan(beam: BeamStability) -> Scan:
    rng = np.random.default_rng(2)
    image = make_object(ObjectRecipe(size=(100, 100)), rng)
    probe = make_probe(ProbeRecipe(diameter_px=14), SIZE, 1e5, rng)
    _, positions = make_trajectory(Trajectory(step_px=5), image.shape, SIZE, 14, rng)
    experiment = Experiment(image, probe, positions, beam=draw_beam_variation(beam, len(positions), rng))
    counts = np.concatenate(list(experiment.counts()))
    geometry = nominal_geometry(Simulation().geometry, SIZE)
    return as_scan(experiment, counts, positions, geometry, "drifting", {})


def _refined(scan: Scan, **settings):
    settings = {"epochs": 30, "batch_size": 8, "probe_start_epoch": 1, "convergence_tolerance": 0} | settings
    return refine_scan(scan, Refinement(**settings), None, DistributedContext(), None, lambda row: True)


def test_the_streamed_decomposition_is_that_of_the_centred_matrix():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(60, 3, generator=generator), torch.randn(3, 200, generator=generator)
    matrix = left * torch.tensor([9.0, 4.0, 2.0]) @ right + 5 * torch.randn(200, generator=generator)
    svd = StreamedSVD(60, orthonormal_rows(torch.randn(5, 200, generator=generator)))
    for rows in torch.randperm(60, generator=generator).split(7):
        svd.add(rows, matrix[rows])
    weights, vectors = svd.solve()
    centred = (matrix - matrix.mean(0)).double()
    torch.testing.assert_close((weights @ vectors).double(), centred, atol=1e-3, rtol=0)
    values = torch.linalg.svdvals(centred)[:3]
    torch.testing.assert_close(weights.norm(dim=0)[:3].double(), values, rtol=1e-4, atol=0)
    assert weights[:, 3:].norm() < 1e-3 * values[0]
    torch.testing.assert_close(vectors[:3] @ vectors[:3].T, torch.eye(3), atol=1e-5, rtol=0)


def test_only_the_first_mode_varies():
    generator = torch.Generator().manual_seed(1)
    probe, variations = (torch.randn(2, 4, 4, dtype=torch.complex64, generator=generator) for _ in range(2))
    weights = torch.tensor([[0.0, 0.0], [0.5, -1.0]])
    varied = vary_probe(probe, variations, weights)
    assert torch.equal(varied[0], probe)
    torch.testing.assert_close(varied[1, 0], probe[0] + 0.5 * variations[0] - variations[1])
    assert torch.equal(varied[1, 1], probe[1])


def test_variations_explain_a_drifting_focus(drifting):
    """By 3 modes; the constant probe is far above the noise floor."""
    found = {count: _refined(drifting, probe_variations=count) for count in (0, 3)}
    r_factor = {n: compare_counts(expected_by(result), drifting.counts) for n, result in found.items()}
    assert r_factor[0].r_factor > 1.5 * r_factor[0].noise_floor
    assert r_factor[3].r_factor < 1.3 * r_factor[3].noise_floor
    assert found[0].instrument.is_ideal


def test_a_product_with_variations_is_ptychoduss_and_read_back(drifting, tmp_path):
    found = _refined(drifting, epochs=5, probe_variations=2)
    write_reconstruction(tmp_path / "a.h5", found)
    again = read_reconstruction(tmp_path / "a.h5")
    for name in ("probe_variations", "variation_weights"):
        np.testing.assert_array_equal(getattr(again.instrument, name), getattr(found.instrument, name))
    product = read_product(tmp_path / "a.h5")
    assert product.probe.shape == (3, 1, SIZE, SIZE)
    assert product.opr_weights.shape == (len(drifting), 3)
    assert (product.opr_weights[:, 0] == 1).all()
    probes = np.einsum("jk,kyx->jyx", product.opr_weights, product.probe[:, 0])
    expected = vary_probe(
        torch.from_numpy(found.probe),
        torch.from_numpy(found.instrument.probe_variations),
        torch.from_numpy(found.instrument.variation_weights),
    )
    np.testing.assert_allclose(probes, expected[:, 0].numpy(), rtol=1e-5, atol=1e-4)


def test_a_start_brings_its_variations(drifting):
    found = _refined(drifting, epochs=8, probe_variations=2)
    again = refine_scan(drifting, Refinement(epochs=1), found, DistributedContext(), None, lambda row: True)
    np.testing.assert_array_equal(again.instrument.variation_weights, found.instrument.variation_weights)
    assert again.history["error"][0] < 1.5 * found.history["error"][-1]


def test_a_product_of_another_program_is_a_start_with_its_variations(drifting, tmp_path):
    """The same product without our arrays, patterns in another order."""
    found = _refined(drifting, epochs=8, probe_variations=2)
    ours, order = product_of(found), np.random.default_rng(0).permutation(len(drifting))
    write_product(
        tmp_path / "theirs.h5",
        dataclasses.replace(
            ours,
            **{name: getattr(ours, name)[order] for name in ("indexes", "y_m", "x_m", "opr_weights")},
        ),
    )
    start = reconstruction_of(read_product(tmp_path / "theirs.h5"))
    np.testing.assert_allclose(start.positions, found.positions, atol=1e-6)
    np.testing.assert_allclose(start.origin, found.origin, atol=1e-6)
    assert start.instrument.probe_variations.shape == (2, SIZE, SIZE)
    expected = [np.concatenate(list(expected_by(each, slice(0, 5)))) for each in (start, found)]
    np.testing.assert_allclose(*expected, rtol=1e-3, atol=1e-2)
    write_dataset(tmp_path / "scan", drifting)
    refine(tmp_path / "scan", tmp_path / "again.h5", Refinement(epochs=1), start=tmp_path / "theirs.h5")
    again = read_reconstruction(tmp_path / "again.h5")
    np.testing.assert_allclose(again.instrument.variation_weights, found.instrument.variation_weights, atol=1e-6)


def test_smooth_weights_change_slowly_along_the_scan(drifting):
    free, smooth = (
        _refined(drifting, epochs=8, probe_variations=1, probe_variation_smoothing=width).instrument for width in (0, 4)
    )
    steps = [np.abs(np.diff(found.variation_weights, axis=0)).mean() for found in (free, smooth)]
    assert steps[1] < 0.6 * steps[0]


def test_more_variations_than_patterns_are_refused(drifting):
    few = dataclasses.replace(drifting, counts=drifting.counts[:3], positions=drifting.positions[:3])
    with pytest.raises(ValueError, match="probe_variations is 3, but the scan has 3 patterns: set fewer"):
        RefinementEngine(few, Refinement(probe_variations=3, probe_start_epoch=1))
    RefinementEngine(few, Refinement(probe_variations=2, probe_start_epoch=1)).epoch()


def test_variations_without_probe_refinement_are_refused():
    with pytest.raises(ValueError, match="set probe_start_epoch"):
        Refinement(probe_variations=1)


def test_an_instrument_is_cut_to_patterns():
    found = Instrument(np.zeros((2, 4, 4), np.complex64), np.arange(10.0).reshape(5, 2))
    assert found.at_patterns([1, 3]).variation_weights.tolist() == [[2, 3], [6, 7]]
    assert IDEAL.at_patterns([0]) is IDEAL
