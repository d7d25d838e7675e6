"""Summary text follows from the metrics: verdicts, comparison of initial objects, advice."""

from pathlib import Path

import pytest

from ptychoflow.reporting.results import Result, rows, seed_groups
from ptychoflow.reporting.summary_text import advise, caveats, compare_initial_objects, lead, verdict


def _stage(r_factor=0.0065, psnr=28.0, correlation=0.97, **more):
    curve = {"crossings": {"1/2": {"half_period_px": 1.0, "half_period_m": 1e-8, "beyond_nyquist": True}}}
    truth = {
        "phase_psnr_truth_range": psnr,
        "phase_mae_rad": 0.02,
        "phase_rms_rad": 0.03,
        "phase_low_frequency_rms_rad": 0.01,
        "correlation": correlation,
        "twin_correlation": 0.2,
        "frc": curve,
    }
    return {"r_factor": r_factor, "noise_floor": 0.006, "raster_artifact_ratio": 1.0, "against_truth": truth | more}


def _result(network=True, refined=None, psnr=(10.0, 20.0, 25.0, 25.1, 25.2), method="pinn", truth=True):
    stages = {"refined": refined or _stage(), "uniform": _stage(0.1, 8.0, 0.0)}
    if network:
        stages["network"] = _stage(0.02, 18.0, 0.9)
    if not truth:
        stages = {name: stage | {"against_truth": None} for name, stage in stages.items()}
    clock = [1.0 * k for k in range(len(psnr))]
    snapshots = {"epoch": clock, "seconds": clock, "cpu_seconds": clock, "phase_psnr": list(psnr) if truth else []}
    errors = [0.1 / (1 + k) for k in clock]
    progress = {"epoch": clock, "seconds": clock, "cpu_seconds": clock, "r_factor": errors, "snapshots": snapshots}
    scan = {"name": "star", "has_truth": truth, "nominal_geometry": True}
    provenance = {"refined": {"seconds": 4.0}}
    metrics = {"method": method, "scan": scan, "stages": stages, "split_half": {}, "progress": progress}
    return Result(metrics | {"reconstructions": provenance}, Path("arrays.npz"))


def _collapsed():
    """Return a result of a collapsed network whose object refinement recovered."""
    result = _result()
    result.metrics["stages"]["network"] = _stage(0.098, 9.0, 0.1)
    return result


@pytest.mark.parametrize(
    ("stage", "level"),
    [
        (_stage(0.0065), "good"),
        (_stage(0.012), "fair"),
        (_stage(0.095), "poor"),
        (_stage(0.0065, correlation=0.1), "poor"),  # explains the counts and is wrong
    ],
)
def test_verdicts(stage, level):
    assert verdict(_result(refined=stage))[0] == level


def test_a_uniform_image_is_never_called_good():
    uniform = _stage(0.0065, psnr=30.0, correlation=0.0)  # a weak object: small errors all the same
    assert verdict(_result(refined=uniform))[0] == "poor"


@pytest.mark.parametrize(
    ("refined", "uniform", "level"),
    [
        (0.0255, 0.031, "good"),  # few photons: most of the residual of a uniform object is noise
        (0.0302, 0.031, "poor"),
        (0.0248, 0.0249, "poor"),  # nothing to explain: no contrast was found
    ],
)
def test_few_photons_are_judged_by_what_can_be_explained(refined, uniform, level):
    result = _result(truth=False, refined=_stage(refined) | {"noise_floor": 0.025})
    result.metrics["stages"]["uniform"]["r_factor"] = uniform
    assert verdict(result)[0] == level


def test_the_first_sentences_say_what_was_done_and_whether_it_worked():
    results = [_result(), _result(network=False, method="rpie")]
    text = lead(results[:1], results, [{"seconds": 300.0}])
    assert text == (
        "star was reconstructed by a network (pinn, trained in 5 min) and refined against the counts, and by iterative "
        "refinement of a uniform initial object (rpie). The result explains the counts down to the noise floor."
    )
    results[1].metrics["scan"] = results[1].metrics["scan"] | {"name": "guess"}
    apart = lead(results, results, [])
    assert "star was reconstructed by a network (pinn) and refined against the counts. guess was" in apart
    baseline = lead(results[1:], results[1:], [])
    start = "guess was reconstructed by iterative refinement of a uniform initial object (rpie). The result"
    assert baseline.startswith(start)


def test_many_scans_are_counted_and_what_is_not_good_is_named():
    many = [_result() for _ in range(6)]
    for number, result in enumerate(many):
        result.metrics["scan"]["name"] = f"scan{number}"
    assert lead(many, many, []).startswith("6 scans (scan0, scan1, scan2, ...) were reconstructed")
    assert lead(many, many, []).endswith("Each result explains the counts down to the noise floor.")
    many[4].metrics["stages"]["refined"] = _stage(0.095)
    assert lead(many, many, []).endswith("5 of 6 explain the counts down to the noise floor; see scan4.")


def test_initial_objects_are_compared_at_equal_time():
    fast, slow = _result(), _result(network=False, psnr=(5.0, 10.0, 15.0), method="rpie")
    text = compare_initial_objects(fast, slow)
    assert "After 2 s of refinement, pinn (initial object from the network) has phase PSNR 25.0 dB" in text
    assert "rpie (uniform initial object) 15.0 dB: pinn is ahead." in text
    assert "needs 0.5 s for the value that the other has after 2 s" in text


def test_a_baseline_that_is_ahead_is_reported_as_ahead():
    text = compare_initial_objects(_result(psnr=(10.0, 12.0, 14.0)), _result(network=False, method="rpie"))
    assert "rpie is ahead" in text
    assert "needs 0.4 s for the value that the other has after 2 s" in text
    assert "the two are equal" in compare_initial_objects(_result(), _result(network=False, method="rpie"))


def test_without_a_truth_the_r_factor_is_compared():
    text = compare_initial_objects(_result(truth=False), _result(network=False, truth=False, method="rpie"))
    assert "R-factor 0.0200" in text


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (_result(psnr=(10.0, 15.0, 20.0, 25.0)), "Increase refinement.epochs"),
        (_result(refined=_stage(0.02)), "above twice the noise floor"),
        (_result(refined=_stage(correlation=0.6, twin_correlation=0.9)), "twin image"),
        (_result(refined=_stage(phase_rms_rad=0.1, phase_low_frequency_rms_rad=0.09)), "low spatial frequency"),
        (_result(truth=False), "split_half"),
        (_collapsed(), "explains the counts hardly better than a uniform object"),
        (_result(), "No problem found"),
    ],
)
def test_advice_follows_from_the_metrics(result, words):
    advice = advise([result], [])
    assert any(words in " ".join(pair) for pair in advice), advice


def test_only_fixed_quantities_are_named():
    result = _result(refined=_stage(0.02))
    assert "Kept fixed: the probe (refinement.probe_start_epoch), additional probe modes" in str(advise([result], []))
    config = {"probe_start_epoch": 2, "probe_modes": 3, "position_start_epoch": None}
    result.metrics["reconstructions"]["refined"]["provenance"] = {"config": config}
    assert "Kept fixed: the scan positions (refinement.position_start_epoch). Check" in str(advise([result], []))


def test_the_same_advice_is_given_once():
    results = [_result(psnr=(10.0, 15.0, 20.0, 25.0)) for _ in range(2)]
    assert len(advise(results, [])) == 1


def test_a_network_that_still_learns_is_to_learn_longer():
    record = {"method": "pinn", "validation": {"patch_error": [0.2, 0.1]}}
    assert advise([_result()], [record])[0][0] == "pinn"
    assert "fell by 50%" in advise([_result()], [record])[0][1]


def test_nominal_lengths_of_measurements_are_a_caveat():
    assert any("nominal" in note for note in caveats([_result(truth=False)]))
    assert not any("nominal" in note for note in caveats([_result()]))


def test_seeds_are_summarised_by_mean_and_standard_deviation():
    records = [
        {"method": f"pinn{seed}", "config": {"network": {}, "training": {"seed": seed, "loss": loss}}}
        for seed, loss in ((0, "poisson"), (1, "poisson"), (0, "mae"))
    ]
    records[2]["method"] = "other"
    assert seed_groups(records) == [["pinn0", "pinn1"]]
    results = [_result(method="pinn0"), _result(method="pinn1", refined=_stage(0.0085)), _result(method="other")]
    summed = [row for row in rows(results, records) if "seeds" in row["method"]]
    assert [row["stage"] for row in summed] == ["network", "refined"]
    assert summed[1]["r_factor"] == pytest.approx(0.0075)
    assert summed[1]["r_factor_std"] == pytest.approx(0.002 / 2**0.5)


def _doubted(**more):
    result = _result(refined=_stage(0.0065))
    doubt = {"kind": "mask", "finding": "the mask leaves out 99 % of the pixels", "advice": "it may be inverted"}
    result.metrics["doubts"] = [doubt | more]
    return result


def test_no_reconstruction_is_good_while_a_serious_doubt_stands():
    assert verdict(_doubted()) == ("fair", "is in doubt: the mask leaves out 99 % of the pixels")
    assert verdict(_doubted(serious=False))[0] == "good"


def test_the_page_advises_first_what_a_doubt_advises():
    assert advise([_doubted()], [])[0] == ("star", "The mask leaves out 99 % of the pixels: it may be inverted.")
