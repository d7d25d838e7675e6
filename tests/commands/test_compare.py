"""Two runs side by side: what was set differently, and what got better or worse."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ptychoflow.cli.main import main
from ptychoflow.commands.compare import better, compare
from ptychoflow.commands.evaluate import evaluate
from ptychoflow.commands.report import report
from ptychoflow.config import Evaluation, Refinement
from ptychoflow.io.provenance import record_provenance
from ptychoflow.io.reconstruction_h5 import write_reconstruction
from ptychoflow.reporting.results import Column

from ..products import make_reconstruction, make_scan, write_products


def _made_with(paths, image, epochs):
    """Write a refined object as so many epochs would have made it."""
    provenance = record_provenance(Refinement(epochs=epochs), dataset=paths["dataset"])
    metadata = {"provenance": provenance, "seconds": 1.0 * epochs}
    write_reconstruction(paths["refined"], make_reconstruction(make_scan(), image, metadata=metadata))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Results of two runs of one model on one scan: B refined for longer and is nearer to the truth."""
    folders = []
    truth = make_scan().truth.object
    for name, epochs, error in (("a", 3, 0.2), ("b", 9, 0.02)):
        folder = tmp_path_factory.mktemp("runs") / name
        paths = write_products(folder)
        rng = np.random.default_rng(1)
        _made_with(paths, truth * np.exp(1j * rng.normal(0, error, truth.shape)), epochs)
        evaluation = Evaluation(taper_px=epochs)
        metrics = folder / "metrics" / "pinn" / "star.json"
        evaluate(paths["dataset"], metrics, refined=paths["refined"], stitched=paths["stitched"], evaluation=evaluation)
        report(folder / "report.html", [metrics], csv=folder / "metrics.csv")
        folders.append(folder)
    return folders


def test_changed_settings_and_what_they_did_are_named(runs):
    said = compare(*runs)
    assert "refinement.epochs: 3 -> 9   (pinn/star)" in said
    assert "evaluation.taper_px: 3.0 -> 9.0" in said
    refined = said.partition("pinn/star, refined")[2]
    assert re.search(r"phase PSNR \(dB\).*->.*\+\d+\.\d  better", refined)
    assert re.search(r"R-factor .*->.*-\d+\.\d%  better", refined)
    assert re.search(r"time \(s\)\s+3.0 -> 9.0", refined)


def test_the_other_way_round_is_worse(runs):
    assert re.search(r"phase PSNR \(dB\).*  worse", compare(*reversed(runs)))
    tally = [int(n) for n in re.search(r"measures: (\d+) better, (\d+) worse", compare(*runs)).groups()]
    turned = [int(n) for n in re.search(r"measures: (\d+) better, (\d+) worse", compare(*reversed(runs))).groups()]
    assert turned == tally[::-1] and tally[0] > tally[1]


def test_what_is_the_same_is_said_to_be(runs):
    said = compare(runs[0], runs[0])
    assert "all the same" in said and "Data" not in said
    assert "measures: 0 better, 0 worse" in said


def test_folders_reports_and_files_say_the_same(runs):
    def body(text):
        return text.splitlines()[2:]

    folders = compare(*runs)
    assert body(compare(*(folder / "report.html" for folder in runs))) == body(folders)
    assert body(compare(*(folder / "metrics/pinn/star.json" for folder in runs))) == body(folders)


def test_a_report_is_enough_when_nothing_else_is_left(runs, tmp_path):
    shutil.copy(runs[1] / "report.html", tmp_path / "sent_by_mail.html")
    assert "refinement.epochs: 3 -> 9" in compare(runs[0], tmp_path / "sent_by_mail.html")


def test_two_files_are_compared_whatever_their_names(runs, tmp_path):
    other = tmp_path / "flat" / "sun.json"
    other.parent.mkdir()
    metrics = json.loads((runs[1] / "metrics/pinn/star.json").read_text())
    metrics["method"] = "flat"
    metrics["provenance"]["inputs"]["dataset"]["sha256"] = "another"
    other.write_text(json.dumps(metrics))
    said = compare(runs[0] / "metrics/pinn/star.json", other)
    assert "pinn/star and flat/star, refined" in said
    assert "not the same patterns: star" in said


def test_measures_may_lie_near_the_root(runs):
    with tempfile.NamedTemporaryFile(dir="/tmp", suffix=".json") as file:
        Path(file.name).write_bytes((runs[1] / "metrics/pinn/star.json").read_bytes())
        assert "measures: 7 better" in compare(runs[0] / "metrics/pinn/star.json", Path(file.name))


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


def test_a_change_beside_the_noise_is_none():
    column = Column("x", "x", "x", ".3f", "low")
    assert [better(column, 1.0, value) for value in (1.0005, 1.1, 0.9)] == ["same", "worse", "better"]
    assert better(Column("x", "x", "x", ".3f"), 1.0, 2.0) == ""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "give a folder of results"),
        (lambda path: path.mkdir(), "holds no measures"),
        (lambda path: path.write_text("{}"), "evaluate again"),
    ],
    ids=["missing", "uniform", "not measures"],
)
def test_what_cannot_be_compared_ends_in_one_line(runs, tmp_path, capsys, make, message):
    path = tmp_path / "other"
    make(path)
    assert main(["compare", str(runs[0]), str(path)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_page_that_is_no_report_is_refused(runs, tmp_path):
    (tmp_path / "page.html").write_text("<html></html>")
    with pytest.raises(ValueError, match="no report of this version"):
        compare(runs[0], tmp_path / "page.html")
