"""The uncertainty of a refined phase: as large as the error is, on objects that it was not calibrated on."""

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


def _ratios(found: Reconstruction, scan: Scan) -> np.ndarray:
    """Error of the phase over its uncertainty, at every known pixel."""
    truth = scan.truth
    aligned = align(found.object, found.origin, found.coverage, np.asarray(truth.object), truth.origin)
    spread = found.phase_uncertainty[: aligned.mask.shape[0], : aligned.mask.shape[1]]
    error = np.angle(aligned.object * aligned.truth.conj())
    return np.abs(error - error[aligned.mask].mean())[aligned.mask] / spread[aligned.mask]


@pytest.mark.parametrize("photons", [1e4, 1e6])
def test_two_thirds_lie_within_one_and_most_within_two_standard_deviations(photons, tmp_path):
    """On each object within 5 points, at each number of photons; docs/results/coverage.md has other objects."""
    shares = []
    for kind in ("siemens_star", "gaussian_random_field"):
        recipe = {"object": {"name": kind, "size": 176}, "photons": photons, "seed": 5}
        simulate(tmp_path / "scan.cxi", Simulation.model_validate(recipe))
        write_dataset(tmp_path / kind, read_scan(tmp_path / "scan.cxi"))
        settings = Refinement(epochs=25, low_order_phase_epochs=12, uncertainty=True)
        refine(tmp_path / kind, tmp_path / "a.h5", settings)
        ratios = _ratios(read_reconstruction(tmp_path / "a.h5"), open_dataset(tmp_path / kind))
        shares.append([np.mean(ratios < 1), np.mean(ratios < 1.96)])
    np.testing.assert_allclose(shares, [[0.68, 0.95]] * 2, atol=0.05)


def test_told_to_stop_while_it_is_estimated_the_fit_is_kept_without(tiny_dataset, tmp_path):
    rows = []

    def go_on(row: dict) -> bool:
        rows.append(row)
        return row.get("repetition") != 2

    refine(
        tiny_dataset, tmp_path / "a.h5", Refinement(epochs=3, convergence_tolerance=0, uncertainty=True), go_on=go_on
    )
    assert [(row.get("repetition"), row["epoch"]) for row in rows] == [
        *((None, epoch) for epoch in (1, 2, 3)),
        *((1, epoch) for epoch in (1, 2, 3)),
        (2, 1),
    ]
    found = read_reconstruction(tmp_path / "a.h5")
    assert found.phase_uncertainty is None and len(found.history["epoch"]) == 3
    assert found.metadata["partial"] == "stopped before it was known how certain the phase is"


def test_it_is_made_only_where_it_is_asked_for_and_unknown_outside(tiny_dataset, tmp_path, caplog):
    caplog.set_level("INFO", "ptychoflow")
    for asked in (False, True):
        refine(tiny_dataset, tmp_path / f"{asked}.h5", Refinement(epochs=2, uncertainty=asked))
        assert ("phases are certain to" in caplog.text) == asked
    without, found = (read_reconstruction(tmp_path / f"{asked}.h5") for asked in (False, True))
    assert f"certain to {np.median(found.phase_uncertainty[found.coverage]):.2g} rad" in caplog.text
    assert without.phase_uncertainty is None
    np.testing.assert_array_equal(found.object, without.object)
    assert np.all(found.phase_uncertainty[~found.coverage] == np.float32(np.pi / np.sqrt(3)))
    assert np.all(found.phase_uncertainty[found.coverage] > 0)
