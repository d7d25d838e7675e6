"""The phase uncertainty of a refinement: as large as the error is, on objects that it was not calibrated on."""

import numpy as np
import pytest

from ptychoflow.commands.refine import refine
from ptychoflow.commands.simulate import simulate
from ptychoflow.config import Refinement, Simulation
from ptychoflow.core.reconstruction import Reconstruction
from ptychoflow.core.scan import Scan
from ptychoflow.io.dataset import open_dataset, write_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction
from ptychoflow.io.scan_cxi import read_scan
from ptychoflow.metrics.alignment import align


def _ratios(refined: Reconstruction, scan: Scan) -> np.ndarray:
    """Error of the phase over its uncertainty, at every known pixel."""
    truth = scan.truth
    aligned = align(refined.object, refined.origin, refined.coverage, np.asarray(truth.object), truth.origin)
    phase_std = refined.phase_uncertainty[: aligned.mask.shape[0], : aligned.mask.shape[1]]
    error = np.angle(aligned.object * aligned.truth.conj())
    return np.abs(error - error[aligned.mask].mean())[aligned.mask] / phase_std[aligned.mask]


@pytest.mark.parametrize("photons", [1e4, 1e6])
def test_two_thirds_lie_within_one_and_most_within_two_standard_deviations(photons, tmp_path):
    """On each object within 5 points, at each number of photons; docs/results/coverage.md has other objects."""
    shares = []
    for kind in ("siemens_star", "gaussian_random_field"):
        recipe = {"object": {"name": kind, "size": 176}, "photons_per_pattern": photons, "seed": 5}
        simulate(tmp_path / "scan.cxi", Simulation.model_validate(recipe))
        write_dataset(tmp_path / kind, read_scan(tmp_path / "scan.cxi"))
        settings = Refinement(epochs=25, low_order_phase_epochs=12, uncertainty=True)
        refine(tmp_path / kind, tmp_path / "a.h5", settings)
        ratios = _ratios(read_reconstruction(tmp_path / "a.h5"), open_dataset(tmp_path / kind))
        shares.append([np.mean(ratios < 1), np.mean(ratios < 1.96)])
    np.testing.assert_allclose(shares, [[0.68, 0.95]] * 2, atol=0.05)


def test_a_refinement_cancelled_while_its_uncertainty_is_estimated_is_kept_without(tiny_dataset, tmp_path):
    rows = []

    def on_epoch_end(row: dict) -> bool:
        rows.append(row)
        return row.get("repetition") != 2

    settings = Refinement(epochs=3, convergence_tolerance=0, uncertainty=True)
    refine(tiny_dataset, tmp_path / "a.h5", settings, on_epoch_end=on_epoch_end)
    assert [(row.get("repetition"), row["epoch"]) for row in rows] == [
        *((None, epoch) for epoch in (1, 2, 3)),
        *((1, epoch) for epoch in (1, 2, 3)),
        (2, 1),
    ]
    refined = read_reconstruction(tmp_path / "a.h5")
    assert refined.phase_uncertainty is None and len(refined.history["epoch"]) == 3
    assert refined.metadata["partial"] == "stopped before the phase uncertainty was estimated"


def test_the_uncertainty_is_estimated_on_request_and_unknown_outside_the_coverage(tiny_dataset, tmp_path, caplog):
    caplog.set_level("INFO", "ptychoflow")
    for requested in (False, True):
        refine(tiny_dataset, tmp_path / f"{requested}.h5", Refinement(epochs=2, uncertainty=requested))
        assert ("estimated phase uncertainty" in caplog.text) == requested
    without, refined = (read_reconstruction(tmp_path / f"{requested}.h5") for requested in (False, True))
    assert f"median σ = {np.median(refined.phase_uncertainty[refined.coverage]):.2g} rad" in caplog.text
    assert without.phase_uncertainty is None
    np.testing.assert_array_equal(refined.object, without.object)
    assert np.all(refined.phase_uncertainty[~refined.coverage] == np.float32(np.pi / np.sqrt(3)))
    assert np.all(refined.phase_uncertainty[refined.coverage] > 0)
