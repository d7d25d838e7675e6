"""The whole Snakefile on the tiny configuration: it ends well, and reruns exactly what a change touches."""

import csv
import json
import os
from html.parser import HTMLParser

import h5py
import pytest

from ptychoflow.io.dataset import verify_dataset
from ptychoflow.io.provenance import code_version
from ptychoflow.orchestration.resources import memory_mb, minutes

pytestmark = pytest.mark.xdist_group("finished run")

AFTER_TRAINING = {"train", "infer", "stitch", "refine", "evaluate", "report"}


def test_every_product_is_there(finished):
    results = finished.folder / "results"
    for name in ("leaves", "star", "star.even", "star.odd"):
        verify_dataset(results / "datasets" / name)
    for path in ("reconstructions/tiny/star.h5", "refined/tiny/star.h5", "refined/rpie/star.odd.h5"):
        with h5py.File(results / path) as file:
            assert file["object"].shape[0] == 1 and file["probe_position_y_m"].size > 0
    for path in ("metrics/tiny/star.json", "metrics/rpie/star.json", "networks/tiny.json"):
        json.loads((results / path).read_text())
    assert (results / "metrics.csv").read_text().count("\n") >= 3


def test_the_report_needs_no_other_file(finished):
    page = (finished.folder / "results" / "report.html").read_text()
    sources = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: sources.extend(v for k, v in attributes if k in ("src", "srcset"))
    parser.feed(page)
    assert sources and all(source.startswith("data:") for source in sources)
    assert "star" in page and code_version().split("+")[0] in page


def test_logs_and_benchmarks_tell_of_every_job(finished):
    results = finished.folder / "results"
    logs = {path.relative_to(results / "logs").with_suffix("") for path in (results / "logs").rglob("*.log")}
    timed = {
        path.relative_to(results / "benchmarks").with_suffix("") for path in (results / "benchmarks").rglob("*.tsv")
    }
    assert logs == timed and len(logs) > 12
    assert not [path for path in (results / "logs").rglob("*.log") if "Traceback" in path.read_text()]


def test_what_a_step_is_estimated_to_need_covers_what_it_took(finished):
    results = finished.folder / "results"
    for path in (results / "benchmarks").rglob("*.tsv"):
        step = path.relative_to(results / "benchmarks").parts[0].removesuffix(".tsv")
        took = next(csv.DictReader(path.open(), delimiter="\t"))
        used = [float(took[name]) for name in ("max_rss", "s") if took[name] not in ("-", "NA")]
        assert used[0] < memory_mb(step, []), f"{path.name}: {used[0]} MB"
        assert used[-1] < 60 * minutes(step, [])


def test_nothing_half_made_is_left(finished):
    results = finished.folder / "results"
    hidden = [path for path in results.rglob(".*") if path.name != ".snakemake_timestamp"]
    assert not hidden


def test_a_second_run_does_nothing(finished):
    done = finished.run()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": {"accelerator": "cpu", "inference_batch_size": 3}},
        {"tracking": {"experiment": "another"}},
        {"simulation": {"photons_per_pattern": 100000}},
        {"stitching": {"weighting": "illumination"}},
    ],
    ids=["runtime", "tracking", "the same number in other words", "a default written out"],
)
def test_what_changes_no_result_reruns_nothing(finished, change):
    assert finished.would_run(**change) == {}


def test_another_number_of_cores_reruns_nothing(finished):
    assert finished.would_run("--cores", "7") == {}


def test_a_comment_reruns_nothing(finished):
    assert finished.would_run() == {}
    path = finished.folder / "config.yaml"
    text = "# a comment\n" + path.read_text()
    assert finished.would_run() == {}
    path.write_text(text)
    done = finished.run("--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "rerun"),
    [
        ({"training": {"learning_rate": 1e-3}}, AFTER_TRAINING),
        ({"network": {"base_channels": 16}}, AFTER_TRAINING),
        ({"stitching": {"weighting": "uniform"}}, {"stitch", "refine", "evaluate", "report"}),
        ({"methods": {"tiny": {"stitching": {"weighting": "uniform"}}}}, {"stitch", "refine", "evaluate", "report"}),
        ({"inference": {"patch_crop_px": 16}}, {"infer", "stitch", "refine", "evaluate", "report"}),
        ({"refinement": {"epochs": 3}}, {"refine", "evaluate", "report"}),
        ({"evaluation": {"split_half": True}}, {"pack", "infer", "stitch", "refine", "evaluate", "report"}),
        ({"packing": {"crop": 16}}, {"pack", *AFTER_TRAINING}),
        ({"simulation": {"photons_per_pattern": 1e4}}, {"simulate", "pack", *AFTER_TRAINING}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_change_reruns_its_step_and_what_follows(finished, change, rerun):
    if "evaluation" in change:
        rerun = rerun - {"pack"}  # the halves are packed already, for the method rpie
    assert set(finished.would_run(**change)) == rerun


def test_a_change_for_one_scan_or_model_leaves_the_others(finished):
    counts = finished.would_run(methods={"rpie": {"refinement": {"epochs": 3}}})
    assert counts == {"refine": 3, "evaluate": 1, "report": 1}
    counts = finished.would_run(scans={"star": {"simulation": {"seed": 3}}})
    assert counts["simulate"] == 1 and "train" not in counts


def test_products_of_other_code_are_told_of_and_rerun_nothing_by_themselves(finished):
    done = finished.run("--dry-run")
    assert "outdated products" not in done.stdout + done.stderr or code_version().endswith(".dirty")
    record = finished.folder / "results" / "networks" / "tiny.json"
    text, times = record.read_text(), record.stat()
    try:
        record.write_text(text.replace(json.loads(text)["provenance"]["ptychoflow"], "0.0.1"))
        os.utime(record, ns=(times.st_atime_ns, times.st_mtime_ns))
        done = finished.run("--dry-run")
        output = done.stdout + done.stderr
        assert (
            "ptychoflow: outdated products (made by version 0.0.1): train 1; to make them again: --forcerun train"
            in output
        )
        assert "Nothing to be done" in output
    finally:
        record.write_text(text)
        os.utime(record, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_the_graphs_and_snakemakes_own_report_can_be_made(finished):
    for graph in ("--dag", "--rulegraph"):
        assert finished.run(graph).stdout.startswith("digraph")
    done = finished.run("--report", "report.zip")
    assert done.returncode == 0, done.stderr
    assert (finished.folder / "report.zip").stat().st_size > 10_000


def test_exports_are_made_where_a_model_asks_for_them_and_on_request(finished):
    asked = {"tiny": {"exports": ["directory", "cxi"]}, "rpie": {"exports": ["tif"]}}
    assert finished.would_run(methods=asked) == {"export": 1, "export_file": 2}
    wanted = [f"results/exports/{name}" for name in ("tiny/star", "rpie/star.ptychopinn.npz")]
    done = finished.run("--cores", "2", "--", *wanted)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    made = {path.name for path in (finished.folder / wanted[0]).iterdir()} - {".snakemake_timestamp"}
    assert made == {"diffraction.h5", "product.h5", "settings.ini", "model.ckpt"}
    assert (finished.folder / wanted[1]).is_file()
