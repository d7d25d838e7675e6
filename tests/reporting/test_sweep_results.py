"""Metrics of a sweep are collected over seeds, for each scan, stage and combination of the other values."""

import csv
import io
import statistics
from pathlib import Path

import pytest

from ptychoflow.reporting.results import Result
from ptychoflow.reporting.sweep_figures import draw_sweep, setting_name, sweep_section
from ptychoflow.reporting.sweep_results import collect, read_sweep, sweep_table


def _result(method: str, scan: str, psnr: float, network: bool = True, truth: bool = True) -> Result:
    against = {"phase_psnr_truth_range": psnr, "frc": {"crossings": {"1/2": {"half_period_px": 40 / psnr}}}}
    stage = {
        "r_factor": 1 / psnr,
        "noise_floor": 0.01,
        "raster_artifact_ratio": 1.0,
        "against_truth": against if truth else None,
    }
    stages = {"refined": stage, "uniform": stage} | ({"network": stage} if network else {})
    return Result(
        {"method": method, "scan": {"name": scan}, "stages": stages, "split_half": {}, "reconstructions": {}}, Path()
    )


def _combination(base: str, method: str, scan: str, **values: str) -> dict:
    return {"base": base, "method": method, "scans": {"star": scan}, "values": values}


DOSES = {"1000": "star-photons1000", "1e5": "star"}
COMBINATIONS = [
    _combination(base, f"{base}{seed}" if base == "pinn" else base, scan, photons=dose, **{"training.seed": seed})
    for base in ("pinn", "rpie")
    for dose, scan in DOSES.items()
    for seed in "012"
]
RESULTS = [
    *(_result(f"pinn{seed}", scan, 20 + 5 * n + seed) for seed in range(3) for n, scan in enumerate(DOSES.values())),
    *(_result("rpie", scan, 18 + n, network=False) for n, scan in enumerate(DOSES.values())),
]


def test_a_point_is_the_mean_over_seeds_and_its_standard_deviation():
    points = collect(RESULTS, COMBINATIONS)
    [point] = [p for p in points if (p.method, p.stage, p.values["photons"]) == ("pinn", "refined", "1000")]
    assert point.values == {"photons": "1000"} and point.seeds == 3
    assert point.mean["phase_psnr"] == pytest.approx(21)
    assert point.std["phase_psnr"] == pytest.approx(statistics.stdev([20, 21, 22]))
    assert point.std["r_factor"] == pytest.approx(statistics.stdev([1 / 20, 1 / 21, 1 / 22]))


def test_one_result_that_seeds_share_counts_once():
    baseline = [p for p in collect(RESULTS, COMBINATIONS) if p.method == "rpie"]
    assert [p.seeds for p in baseline] == [1, 1]
    assert all(p.std["phase_psnr"] is None and p.stage == "refined" for p in baseline)


def test_the_table_has_a_row_for_each_point_and_a_column_for_each_setting_but_seeds():
    points = collect(RESULTS, COMBINATIONS)
    rows = list(csv.DictReader(io.StringIO(sweep_table(points))))
    assert len(rows) == len(points) == 6
    assert rows[0]["photons"] == "1000" and rows[0]["seeds"] == "3" and "training.seed" not in rows[0]
    assert float(rows[0]["phase_psnr"]) == points[0].mean["phase_psnr"]
    assert rows[-1]["phase_psnr_std"] == ""


def test_what_a_table_says_is_read_back(tmp_path):
    points = collect(RESULTS, COMBINATIONS)
    path = tmp_path / "dose.csv"
    path.write_text(sweep_table(points))
    assert read_sweep(path) == points


@pytest.mark.parametrize("text", ["", "method,scan\n", "method,scan,stage,seeds\npinn,star,network,3\n"])
def test_another_file_is_refused(tmp_path, text):
    with pytest.raises(FileNotFoundError, match="sweep table not found"):
        read_sweep(tmp_path / "dose.csv")
    (tmp_path / "dose.csv").write_text(text)
    with pytest.raises(ValueError, match=r"dose\.csv is not a sweep table: run `ptychoflow sweep` again"):
        read_sweep(tmp_path / "dose.csv")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("simulation.photons_per_pattern", "photons per pattern"),
        ("simulation.trajectory.overlap_percent", "overlap (%)"),
        ("simulation.probe.diameter_px", "diameter (px)"),
        ("network.base_channels", "base channels"),
        ("train_on", "training scans"),
    ],
)
def test_an_axis_names_a_setting_and_its_unit(key, name):
    assert setting_name(key) == name


def test_the_page_shows_a_chart_for_each_metric_and_the_numbers_with_their_standard_deviation():
    shown = sweep_section("dose", collect(RESULTS, COMBINATIONS))
    assert [chart.y_label for chart in shown["charts"]] == ["phase PSNR (dB)", "FRC resolution (px)", "R-factor"]
    chart = shown["charts"][0]
    assert chart.x_logarithmic and [each.name for each in chart.legend] == [
        "pinn, network",
        "pinn, refined",
        "rpie, refined",
    ]
    assert chart.series[1].std == [pytest.approx(1.0)] * 2 and chart.series[2].std == [None] * 2
    assert shown["rows"][0]["cells"][:2] == ["1000", "21.0 ± 1.0"] and shown["rows"][-1]["cells"][1] == "19.0"
    assert "over up to 3 seeds" in shown["caption"]


def test_a_number_goes_along_a_logarithmic_axis_where_it_spans_decades():
    figure = draw_sweep(collect(RESULTS, COMBINATIONS))
    axis = figure.axes[0]
    assert axis.get_xscale() == "log" and axis.get_xlabel() == "photons"
    assert axis.get_ylabel() == "phase PSNR (dB)"
    lines = {line.get_label() for line in axis.containers}
    assert lines == {"pinn, network", "pinn, refined", "rpie, refined"}


def test_metrics_that_span_decades_have_a_logarithmic_axis_but_decibels_do_not():
    results = [_result(f"pinn{n}", "star", psnr) for n, psnr in enumerate((2.0, 40.0))]
    combinations = [_combination("pinn", f"pinn{n}", "star", width=str(n + 1)) for n in range(2)]
    points = collect(results, combinations)
    found = {axis.get_ylabel(): axis.get_yscale() for axis in draw_sweep(points).axes}
    assert found == {"phase PSNR (dB)": "linear", "FRC resolution (px)": "log", "R-factor": "log"}
    assert [chart.logarithmic for chart in sweep_section("width", points)["charts"]] == [False, True, True]


def test_words_stand_side_by_side():
    combinations = [_combination("pinn", f"pinn{n}", "star", loss=name) for n, name in enumerate(("labels", "physics"))]
    axis = draw_sweep(collect(RESULTS, combinations)).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["labels", "physics"]


def test_without_a_truth_the_counts_are_what_is_drawn():
    results = [_result(f"pinn{n}", "star", 20.0 + n, truth=False) for n in range(2)]
    combinations = [_combination("pinn", f"pinn{n}", "star", width=str(32 * (n + 1))) for n in range(2)]
    figure = draw_sweep(collect(results, combinations))
    assert [axis.get_ylabel() for axis in figure.axes] == ["R-factor"]


def test_missing_metrics_are_named():
    with pytest.raises(ValueError, match="metrics of pinn2/star-photons1000 not found among the results"):
        collect([r for r in RESULTS if r.method != "pinn2"], COMBINATIONS)
