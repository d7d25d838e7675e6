"""Evaluation writes metrics of each stage beside those of a uniform object, with figures and arrays."""

import dataclasses
import json

import numpy as np
import pytest

from ptychoflow.commands.convert import convert
from ptychoflow.commands.evaluate import evaluate
from ptychoflow.commands.pack import pack
from ptychoflow.commands.refine import refine
from ptychoflow.config import Evaluation, Refinement, Source
from ptychoflow.core.scan import GroundTruth
from ptychoflow.io.dataset import write_dataset
from ptychoflow.io.provenance import record_provenance
from ptychoflow.io.reconstruction_h5 import read_reconstruction, write_reconstruction
from ptychoflow.io.scan_cxi import write_scan
from ptychoflow.metrics.data_consistency import expected_patterns
from ptychoflow.reporting.results import read_results
from ptychoflow.reporting.summary_text import verdict

from ..metrics.objects import sample
from ..products import SHAPE, blurred, make_reconstruction, make_scan, write_products

FIGURES = {"objects", "errors", "r_factor", "probe", "patterns", "frc", "progress"}


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    return write_products(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def measured(products, tmp_path_factory):
    output = tmp_path_factory.mktemp("metrics") / "pinn" / "star.json"
    evaluate(output=output, **products)
    return output


def _read(path):
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_each_stage_is_measured_and_the_better_one_scores_better(measured):
    stages = _read(measured)["stages"]
    assert list(stages) == ["network", "refined", "uniform"]
    psnr = [stages[name]["against_truth"]["phase_psnr_truth_range"] for name in ("uniform", "network", "refined")]
    assert psnr == sorted(psnr)
    r_factor = [stages[name]["r_factor"] for name in ("refined", "network", "uniform")]
    assert r_factor == sorted(r_factor)
    assert stages["refined"]["noise_floor"] < stages["refined"]["r_factor"]


def test_a_uniform_object_scores_nothing(measured):
    uniform = _read(measured)["stages"]["uniform"]
    assert uniform["spread"] == pytest.approx(0, abs=1e-6)
    assert uniform["against_truth"]["correlation"] == 0
    assert uniform["against_truth"]["frc"]["area"] < 0.1
    assert uniform["against_truth"]["phase_correlation"] == pytest.approx(0, abs=0.02)


def test_the_ground_truth_scores_perfectly_and_explains_the_counts(products, tmp_path):
    scan = make_scan()
    image = 3j * scan.truth.object  # the scale is free against the truth, not against the counts
    write_reconstruction(tmp_path / "r.h5", make_reconstruction(scan, image / 3))
    evaluate(products["dataset"], tmp_path / "m.json", refined=tmp_path / "r.h5")
    found = _read(tmp_path / "m.json")["stages"]["refined"]
    assert found["against_truth"]["phase_psnr_truth_range"] > 100
    assert found["against_truth"]["frc"]["crossings"]["1/2"]["beyond_nyquist"]
    assert found["r_factor"] == pytest.approx(found["noise_floor"], rel=0.05)
    assert found["raster_artifact_ratio"] == pytest.approx(1, abs=0.3)


def test_progress_of_refinement_is_timed(measured):
    progress = _read(measured)["progress"]
    assert progress["r_factor"] == [0.1, 0.05]
    assert progress["snapshots"]["seconds"] == [1, 2]
    first, last = progress["snapshots"]["phase_psnr"]
    assert last == pytest.approx(_read(measured)["stages"]["refined"]["against_truth"]["phase_psnr_truth_range"])
    assert first < last


def test_halves_agree_stage_by_stage_the_better_one_more(measured):
    halves = _read(measured)["split_half"]
    assert list(halves) == ["network", "refined"]
    assert halves["network"]["frc"]["area"] < halves["refined"]["frc"]["area"]
    assert halves["network"]["correlation"] < halves["refined"]["correlation"]
    assert [sum(found["patterns"]) for found in halves.values()] == [_read(measured)["scan"]["patterns"]] * 2


def test_figures_and_arrays_are_beside_the_metrics(measured):
    folder = measured.with_suffix("")
    assert {path.stem for path in folder.glob("*.png")} == FIGURES
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        assert arrays["refined"].shape == arrays["truth"].shape == arrays["network_mask"].shape == (44, 47)
        assert arrays["patterns_measured"].shape == arrays["patterns_expected"].shape == (5, 16, 16)


def test_phase_uncertainty_has_a_figure_and_an_array(tmp_path):
    paths = write_products(tmp_path)
    refined = read_reconstruction(paths["refined"])
    phase_std = np.add.outer(np.arange(SHAPE[0]), 0.01 * np.arange(SHAPE[1])).astype(np.float32)
    write_reconstruction(paths["refined"], dataclasses.replace(refined, phase_uncertainty=phase_std))
    evaluate(paths["dataset"], tmp_path / "m.json", refined=paths["refined"])
    assert (tmp_path / "m" / "uncertainty.png").is_file()
    with np.load(tmp_path / "m" / "arrays.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["phase_uncertainty"], phase_std[6:50, 7:54])  # where the coverage reaches


def test_evaluating_again_replaces_its_figures_and_nothing_else(tmp_path):
    paths = write_products(tmp_path)
    refined = read_reconstruction(paths["refined"])
    uncertain = dataclasses.replace(refined, phase_uncertainty=np.ones(SHAPE, np.float32))
    write_reconstruction(paths["refined"], uncertain)
    for _ in range(2):
        evaluate(output=tmp_path / "m.json", **paths)
    assert {path.stem for path in (tmp_path / "m").glob("*.png")} == FIGURES | {"uncertainty"}
    before = sorted(paths["dataset"].iterdir())
    with pytest.raises(ValueError, match=r"holds other files \(counts\.npy, .*\): name a new folder"):
        evaluate(output=paths["dataset"].with_suffix(".json"), **paths)
    assert sorted(paths["dataset"].iterdir()) == before and not paths["dataset"].with_suffix(".json").exists()


def test_each_pattern_has_its_r_factor(measured):
    metrics = _read(measured)
    per_pattern = metrics["stages"]["refined"]["r_factor_per_pattern"]
    assert len(per_pattern) == metrics["scan"]["patterns"]
    chosen = {pattern["which"]: pattern["r_factor"] for pattern in metrics["patterns"]}
    assert chosen["best"] == min(per_pattern)
    worst = [chosen[name] for name in ("worst", "second worst", "third worst")]
    assert worst == sorted(per_pattern)[:-4:-1]


def test_provenance_versions_and_method_are_recorded(measured):
    metrics = _read(measured)
    assert set(metrics["provenance"]["inputs"]) == {
        *("dataset", "network", "refined"),
        *("network_even", "network_odd", "refined_even", "refined_odd"),
    }
    assert metrics["provenance"]["config"] == Evaluation().model_dump(mode="json")
    assert {"numpy", "torch", "scikit-image"} <= set(metrics["versions"])
    assert metrics["method"] == "pinn"


def test_without_ground_truth_counts_and_halves_are_evaluated(tmp_path):
    paths = write_products(tmp_path, truth=False)
    evaluate(output=tmp_path / "m.json", **paths)
    metrics = _read(tmp_path / "m.json")
    assert all(stage["against_truth"] is None for stage in metrics["stages"].values())
    assert metrics["split_half"]["refined"]["frc"]["area"] > 0.5
    assert metrics["progress"]["snapshots"]["phase_psnr"] == []
    assert {path.stem for path in (tmp_path / "m").glob("*.png")} == FIGURES - {"errors"}


def test_the_baseline_has_no_network(products, tmp_path):
    evaluate(products["dataset"], tmp_path / "m.json", refined=products["refined"])
    metrics = _read(tmp_path / "m.json")
    assert list(metrics["stages"]) == ["refined", "uniform"]
    assert metrics["split_half"] == {}


@pytest.mark.parametrize("wrong", ["another object", "rotated", "its conjugate"])
def test_a_ground_truth_of_another_object_is_refused(products, tmp_path, wrong):
    scan, right = make_scan(), make_scan().truth.object
    other = {"another object": sample(seed=9, shape=SHAPE), "rotated": right[::-1, ::-1], "its conjugate": right.conj()}
    write_dataset(tmp_path / "star", dataclasses.replace(scan, truth=GroundTruth(other[wrong].astype(np.complex64))))
    with pytest.raises(
        ValueError, match=r"truth of star explains its counts worse .* uniform object .*without a ground truth"
    ):
        evaluate(tmp_path / "star", tmp_path / "m.json", refined=products["refined"])
    assert not (tmp_path / "m.json").exists()


def test_a_poor_probe_does_not_refuse_the_ground_truth(tmp_path):
    scan = make_scan()
    blunt = np.ones_like(scan.probe) * np.abs(scan.probe).max() / 3
    write_dataset(tmp_path / "star", dataclasses.replace(scan, probe=blunt))
    write_reconstruction(tmp_path / "r.h5", make_reconstruction(scan, scan.truth.object, probe=blunt))
    evaluate(tmp_path / "star", tmp_path / "m.json", refined=tmp_path / "r.h5")
    assert _read(tmp_path / "m.json")["stages"]["refined"]["r_factor"] > 0.3


def test_a_ground_truth_without_contrast_has_no_psnr(tmp_path):
    uniform, scan = np.ones(SHAPE, np.complex64), make_scan()
    expected = np.concatenate(list(expected_patterns(uniform, (0, 0), scan.probe, scan.positions)))
    counts = np.random.default_rng(0).poisson(expected).astype(np.uint16)
    write_dataset(tmp_path / "star", dataclasses.replace(scan, counts=counts, truth=GroundTruth(uniform)))
    write_reconstruction(tmp_path / "r.h5", make_reconstruction(scan, uniform))
    evaluate(tmp_path / "star", tmp_path / "m.json", refined=tmp_path / "r.h5")
    refined = _read(tmp_path / "m.json")["stages"]["refined"]
    assert refined["against_truth"]["phase_psnr_truth_range"] is None
    assert refined["r_factor"] == pytest.approx(refined["noise_floor"], rel=0.05)


def test_registration_is_a_setting(products, tmp_path):
    scan = make_scan()
    shifted = np.roll(scan.truth.object, 1, axis=1)
    write_reconstruction(tmp_path / "r.h5", make_reconstruction(scan, shifted))
    psnr = {}
    for max_shift in (0.0, 2.0):
        evaluation = Evaluation(max_shift_px=max_shift)
        evaluate(products["dataset"], tmp_path / "m.json", refined=tmp_path / "r.h5", evaluation=evaluation)
        against = _read(tmp_path / "m.json")["stages"]["refined"]["against_truth"]
        psnr[max_shift] = against["phase_psnr_truth_range"]
    assert against["shift_px"] == pytest.approx([0, 1], abs=0.02)
    assert psnr[2.0] > psnr[0.0] + 10


def test_evaluating_again_gives_identical_metrics(products, measured, tmp_path):
    output = tmp_path / "star.json"
    evaluate(output=output, **products)
    assert output.read_text() == measured.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": make_scan().positions[:-1]}, "give the reconstruction of this scan"),
        ({"coverage": np.zeros(SHAPE, bool)}, r"coverage of .* is empty"),
        ({"origin": (100.0, 0.0)}, "outside its ground truth"),
    ],
)
def test_mismatched_inputs_are_refused_and_leave_nothing(products, tmp_path, change, message):
    write_reconstruction(tmp_path / "r.h5", make_reconstruction(make_scan(), blurred(), **change))
    with pytest.raises(ValueError, match=message):
        evaluate(products["dataset"], tmp_path / "out" / "m.json", refined=tmp_path / "r.h5")
    assert not (tmp_path / "out").exists()


def test_a_reconstruction_of_another_dataset_is_warned_of(products, tmp_path, caplog):
    write_dataset(tmp_path / "sun", make_scan("sun"))
    for dataset, warns in ((products["dataset"], False), (tmp_path / "sun", True)):
        metadata = {"provenance": record_provenance(dataset=dataset)}
        write_reconstruction(tmp_path / "r.h5", make_reconstruction(make_scan(), blurred(), metadata=metadata))
        evaluate(products["dataset"], tmp_path / "m.json", refined=tmp_path / "r.h5")
        assert (f"r.h5 was made from another dataset than {products['dataset']} (sun)" in caplog.text) == warns


def test_a_missing_file_is_named(products, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.h5"):
        evaluate(products["dataset"], tmp_path / "m.json", refined=tmp_path / "nowhere.h5")


def test_counts_that_are_amplitudes_are_told_of_by_every_step_and_never_end_good(tmp_path, caplog):
    """The R-factor of amplitudes lies below the noise floor, so that it alone would call the picture good."""
    whole = make_scan(photons=1e5)
    amplitudes = np.sqrt(whole.counts).astype(np.float32)
    write_scan(tmp_path / "star.cxi", dataclasses.replace(whole, counts=amplitudes, truth=None))
    logs = {}
    convert(tmp_path / "again.cxi", Source(file=str(tmp_path / "star.cxi"), domain="counts"))
    logs["convert"], _ = caplog.text, caplog.clear()
    pack(tmp_path / "again.cxi", tmp_path / "star")
    logs["pack"], _ = caplog.text, caplog.clear()
    refine(tmp_path / "star", tmp_path / "refined.h5", Refinement(epochs=3))
    logs["refine"], _ = caplog.text, caplog.clear()
    evaluate(tmp_path / "star", tmp_path / "m.json", refined=tmp_path / "refined.h5")
    logs["evaluate"] = caplog.text
    for step, text in logs.items():
        assert "all amplitudes of integers: set source.domain to amplitude" in text, step
    doubts = _read(tmp_path / "m.json")["doubts"]
    assert doubts[0]["kind"] == "counts"
    assert doubts[0]["serious"]
    assert verdict(read_results([tmp_path / "m.json"])[0])[0] != "good"


def test_an_order_that_refinement_doubted_is_still_doubted_in_the_metrics(tmp_path):
    scan = make_scan(photons=1e6)
    moved = dataclasses.replace(scan, positions=np.roll(scan.positions, 3, axis=0), truth=None)
    write_dataset(tmp_path / "star", moved)
    refine(tmp_path / "star", tmp_path / "refined.h5", Refinement(epochs=3))
    evaluate(tmp_path / "star", tmp_path / "m.json", refined=tmp_path / "refined.h5")
    assert "order" in [doubt["kind"] for doubt in _read(tmp_path / "m.json")["doubts"]]


def test_the_same_half_twice_is_refused(products, tmp_path):
    even, odd = products["halves"]
    (tmp_path / "copy.h5").write_bytes(even.read_bytes())
    with pytest.raises(ValueError, match="made from the same patterns, expected the even and the odd ones"):
        evaluate(output=tmp_path / "m.json", **(products | {"halves": (even, tmp_path / "copy.h5")}))
    same = {"provenance": {"inputs": {"dataset": {"name": "star.even", "sha256": "0" * 64}}}}
    for path, name in ((even, "a.h5"), (odd, "b.h5")):
        write_reconstruction(tmp_path / name, dataclasses.replace(read_reconstruction(path), metadata=same))
    with pytest.raises(ValueError, match="give the reconstruction of each half"):
        evaluate(output=tmp_path / "m.json", **(products | {"halves": (tmp_path / "a.h5", tmp_path / "b.h5")}))
