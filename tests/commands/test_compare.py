"""Comparison of two runs: changed settings, and metrics that got better or worse."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ptychoflow.cli.main import main
from ptychoflow.commands.compare import compare
from ptychoflow.commands.evaluate import evaluate
from ptychoflow.commands.report import report
from ptychoflow.config import Evaluation, Refinement
from ptychoflow.io.provenance import record_provenance
from ptychoflow.io.reconstruction_h5 import write_reconstruction
from ptychoflow.reporting.comparison import verdict
from ptychoflow.reporting.results import Column

from ..products import make_reconstruction, make_scan, write_products

TALLY = re.compile(r"Metrics of B against A: (\d+) better, (\d+) worse")


def _write_refined(paths, image, epochs):
    """Write a refined object with the provenance of a refinement of so many epochs."""
    provenance = record_provenance(Refinement(epochs=epochs), dataset=paths["dataset"])
    metadata = {"provenance": provenance, "seconds": 1.0 * epochs}
    write_reconstruction(paths["refined"], make_reconstruction(make_scan(), image, metadata=metadata))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Results of two runs of one method on one scan: B refined for longer and is nearer to the ground truth."""
    folders = []
    truth = make_scan().truth.object
    for name, epochs, error in (("a", 3, 0.2), ("b", 9, 0.02)):
        folder = tmp_path_factory.mktemp("runs") / name
        paths = write_products(folder)
        rng = np.random.default_rng(1)
        _write_refined(paths, truth * np.exp(1j * rng.normal(0, error, truth.shape)), epochs)
        evaluation = Evaluation(taper_px=epochs)
        metrics = folder / "metrics" / "pinn" / "star.json"
        evaluate(paths["dataset"], metrics, refined=paths["refined"], stitched=paths["stitched"], evaluation=evaluation)
        report(folder / "report.html", [metrics], csv=folder / "metrics.csv")
        folders.append(folder)
    return folders


def test_changed_settings_and_what_they_did_are_named(runs):
    text = compare(*runs)
    assert "refinement.epochs: 3 -> 9   (pinn/star)" in text
    assert "evaluation.taper_px: 3.0 -> 9.0" in text
    refined = text.partition("pinn/star, refined")[2]
    assert re.search(r"phase PSNR \(dB\).*->.*\+\d+\.\d  better", refined)
    assert re.search(r"R-factor .*->.*-\d+\.\d%  better", refined)
    assert re.search(r"time \(s\)\s+3.0 -> 9.0", refined)


def test_the_other_way_round_is_worse(runs):
    assert re.search(r"phase PSNR \(dB\).*  worse", compare(*reversed(runs)))
    tally = [int(n) for n in TALLY.search(compare(*runs)).groups()]
    reversed_tally = [int(n) for n in TALLY.search(compare(*reversed(runs))).groups()]
    assert reversed_tally == tally[::-1] and tally[0] > tally[1]


def test_equal_runs_have_no_changes(runs):
    text = compare(runs[0], runs[0])
    assert "all the same" in text and "Data" not in text
    assert "Metrics of B against A: 0 better, 0 worse" in text


def test_folders_reports_and_files_compare_alike(runs):
    def body(text):
        return text.splitlines()[2:]

    folders = compare(*runs)
    assert body(compare(*(folder / "report.html" for folder in runs))) == body(folders)
    assert body(compare(*(folder / "metrics/pinn/star.json" for folder in runs))) == body(folders)


def test_a_report_is_enough_when_nothing_else_is_left(runs, tmp_path):
    shutil.copy(runs[1] / "report.html", tmp_path / "sent_by_mail.html")
    assert "refinement.epochs: 3 -> 9" in compare(runs[0], tmp_path / "sent_by_mail.html")


def test_two_files_are_compared_whatever_their_names(runs, tmp_path):
    other = tmp_path / "rpie" / "sun.json"
    other.parent.mkdir()
    metrics = json.loads((runs[1] / "metrics/pinn/star.json").read_text())
    metrics["method"] = "rpie"
    metrics["provenance"]["inputs"]["dataset"]["sha256"] = "another"
    other.write_text(json.dumps(metrics))
    text = compare(runs[0] / "metrics/pinn/star.json", other)
    assert "pinn/star and rpie/star, refined" in text
    assert "different datasets: star" in text


def test_metrics_file_may_lie_near_the_root(runs):
    with tempfile.NamedTemporaryFile(dir="/tmp", suffix=".json") as file:
        Path(file.name).write_bytes((runs[1] / "metrics/pinn/star.json").read_bytes())
        assert "Metrics of B against A: 7 better" in compare(runs[0] / "metrics/pinn/star.json", Path(file.name))


def test_what_only_one_run_has_is_listed(runs, tmp_path):
    shutil.copytree(runs[0] / "metrics", tmp_path / "metrics")
    shutil.copytree(tmp_path / "metrics/pinn", tmp_path / "metrics/more")
    path = tmp_path / "metrics/more/star.json"
    path.write_text(path.read_text().replace('"method": "pinn"', '"method": "more"'))
    assert "In A only: more/star" in compare(tmp_path, runs[1])
    shutil.rmtree(tmp_path / "metrics/pinn")
    shutil.copytree(tmp_path / "metrics/more", tmp_path / "metrics/another")
    with pytest.raises(ValueError, match="no reconstruction in common"):
        compare(tmp_path, runs[1])


def test_a_change_within_the_noise_is_the_same():
    column = Column("x", "x", "x", ".3f", "low")
    assert [verdict(column, 1.0, value) for value in (1.0005, 1.1, 0.9)] == ["same", "worse", "better"]
    assert verdict(Column("x", "x", "x", ".3f"), 1.0, 2.0) == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "give a folder of results"),
        (lambda path: path.mkdir(), "no metrics found"),
        (lambda path: path.write_text("{}"), "not a metrics file"),
    ],
    ids=["missing", "empty folder", "not metrics"],
)
def test_what_cannot_be_compared_ends_in_one_line(runs, tmp_path, capsys, make, message):
    path = tmp_path / "other"
    make(path)
    assert main(["compare", str(runs[0]), str(path)]) == 2
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1


def test_a_page_that_is_no_report_is_refused(runs, tmp_path):
    (tmp_path / "page.html").write_text("<html></html>")
    with pytest.raises(ValueError, match="not a report of this version"):
        compare(runs[0], tmp_path / "page.html")
