"""The report is one self-contained page with verdicts, advice and caveats; it escapes every name."""

import base64
import csv
import html
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from ptychoflow.commands.evaluate import evaluate
from ptychoflow.commands.report import report
from ptychoflow.io.provenance import sha256
from ptychoflow.reporting.results import COLUMNS

from ..products import write_products

TRICK = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Metrics of a network on a scan with ground truth and on one without, and of the baseline on both."""
    folder = tmp_path_factory.mktemp("results")
    for scan, truth in (("star", True), ("real", False)):
        paths = write_products(folder, truth, scan=scan)
        output = folder / "metrics" / "pinn" / f"{scan}.json"
        evaluate(output=output, **paths)
        baseline = folder / "metrics" / "rpie" / f"{scan}.json"
        evaluate(paths["dataset"], baseline, refined=paths["refined"])
        _rename(baseline, method="rpie")
    return folder


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The training log beside a checkpoint."""
    path = tmp_path_factory.mktemp("networks") / "pinn.json"
    epochs = [0.5, 1.0, 1.5, 2.0]
    curves = {"epoch": epochs, "loss": [0.3, 0.2, 0.02, 0.01], "stage": [0.0, 0.0, 1.0, 1.0]}
    data = {
        "method": "pinn",
        "seconds": 70.0,
        "parameters": 640_000,
        "steps": 4,
        "patterns_per_second": 100.0,
        "device": "cpu",
        "groups": {"leaves": {"training": 100, "validation": 5, "patterns": 105}},
        "curves": curves | {"supervised": [0.3, 0.2, None, None], "physics": [None, None, 0.02, 0.01]},
        "validation": {"epoch": [1, 2], "patch_error": [0.2, 0.1], "data_error": [0.02, 0.01]},
        "config": {"network": {"base_channels": 32}, "training": {"seed": 0}},
        "provenance": {"ptychoflow": "0.1", "inputs": {}},
        "versions": {"torch": "2.13"},
    }
    path.write_text(json.dumps(data))
    return path


def _rename(path, **names):
    metrics = json.loads(path.read_text())
    metrics["method"] = names.get("method", metrics["method"])
    metrics["scan"]["name"] = names.get("scan", metrics["scan"]["name"])
    path.write_text(json.dumps(metrics))


def _report(folder, metrics, networks=(), **more) -> str:
    report(folder / "report.html", metrics, csv=folder / "metrics.csv", networks=networks, **more)
    return (folder / "report.html").read_text()


def _all(folder):
    return sorted((folder / "metrics").glob("*/*.json"))


@pytest.fixture
def page(measured, record, tmp_path):
    return _report(tmp_path, _all(measured), [record], title="A try")


def test_the_page_needs_no_other_file(page):
    markup = page.partition("<script>")[0]
    for place in re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")\s>]+)', markup):
        assert place.startswith(("#", "data:image/webp;base64,")), place
    assert "@import" not in page


def test_summary_holds_methods_verdicts_advice_and_caveats(page):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "A try" in text
    assert "real and star were reconstructed by a network (pinn, trained in 70 s) and refined" in text
    assert "and by iterative refinement of a uniform initial object (rpie). Each result explains" in text
    assert "phase PSNR" in text and "R-factor" in text and "half-set FRC resolution" in text
    assert "What to do next" in text and "Caveats" in text
    assert "Lengths of real are nominal" in text
    assert "s of refinement, pinn (initial object from the network) has phase PSNR" in text


def test_every_stage_has_a_row_beside_the_uniform_object(page):
    rows = re.findall(r'<tr class="(\w+)', page.partition('id="metrics"')[2].partition("</table>")[0])
    assert rows == ["network", "refined", "refined", "uniform"] * 2


def test_losses_patterns_probe_times_settings_and_versions_are_there(page):
    for words in ("Losses", "stage 2", "worst fit", "mode 1", "It is narrowest"):
        assert words in page, words
    for words in ("wall clock", "max_shift_px", "torch 2.13"):
        assert words in page, words


def test_parts_of_inference_have_their_times_where_measured(measured, page, tmp_path):
    assert "by part" not in page
    shutil.copytree(measured, tmp_path / "run")
    path = tmp_path / "run" / "metrics" / "pinn" / "star.json"
    metrics = json.loads(path.read_text())
    timing = {"device": "cuda", "processes": 2, "patterns": 100, "groups": 33}
    timing |= {"seconds": {"load": 0.5, "total": 4.0}, "patterns_per_second": {"load": 200.0, "end_to_end": 25.0}}
    metrics["reconstructions"]["network"] |= {"inference": timing, "seconds": {"assembly": 0.25}}
    path.write_text(json.dumps(metrics))
    section = _report(tmp_path / "by_part", [path]).partition("by part")[2].partition("</table>")[0]
    for words in ("pinn/star, 100 patterns in 33 groups on 2 cuda", "0.5 · 200/s", "0.25 · 400/s", "25/s"):
        assert words in section, words
    assert "host to device" not in section


def test_names_from_files_are_text_not_markup(measured, record, tmp_path):
    path = tmp_path / "metrics" / "m" / "s.json"
    shutil.copytree(measured / "metrics" / "pinn", path.parent)
    (path.parent / "star.json").rename(path)
    (path.parent / "star").rename(path.with_suffix(""))
    _rename(path, method=TRICK, scan=TRICK)
    hostile = json.loads(record.read_text()) | {"method": TRICK, "device": TRICK}
    (tmp_path / "r.json").write_text(json.dumps(hostile))
    page = _report(tmp_path, [path], [tmp_path / "r.json"], title=TRICK)
    assert TRICK not in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page


def test_the_table_holds_every_metric_of_every_stage(measured, page, tmp_path):
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["scan"], row["method"], row["stage"]) for row in rows} == {
        (scan, method, stage)
        for scan in ("star", "real")
        for method, stages in {"pinn": ("network", "refined", "uniform"), "rpie": ("refined", "uniform")}.items()
        for stage in stages
    }
    star = next(row for row in rows if (row["scan"], row["method"], row["stage"]) == ("star", "pinn", "refined"))
    refined = json.loads((measured / "metrics/pinn/star.json").read_text())["stages"]["refined"]
    assert float(star["r_factor"]) == refined["r_factor"]
    assert float(star["phase_psnr_truth_range"]) == refined["against_truth"]["phase_psnr_truth_range"]
    assert float(star["frc_truth_1_2_half_period_px"]) > 0


def test_the_same_results_make_the_same_page(measured, record, page, tmp_path):
    (tmp_path / "again").mkdir()
    assert _report(tmp_path / "again", _all(measured), [record], title="A try") == page


def test_one_result_of_the_baseline_alone_is_enough(measured, tmp_path):
    page = _report(tmp_path, [measured / "metrics" / "rpie" / "real.json"])
    assert "by iterative refinement of a uniform initial object (rpie)" in page


def test_times_come_from_benchmarks_where_there_are_any(measured, record, tmp_path):
    shutil.copytree(measured / "metrics", tmp_path / "metrics")
    folder = tmp_path / "benchmarks"
    for name, seconds in {
        "train/pinn": 71.25,
        "refine/pinn/star.even": 3.5,
        "pack/leaves": 0.5,
        "pack/other": 9,
    }.items():
        path = folder / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{seconds}\t0:00:01\t512.5\t-\n")
    (folder / "infer" / "pinn").mkdir(parents=True)
    (folder / "infer" / "pinn" / "star.tsv").write_text("damaged")
    page = _report(tmp_path, _all(tmp_path), [record])
    times = page.partition('id="times"')[2].partition("</section>")[0]
    assert "71.2" in times and "pinn/star.even" in times and "512" in times
    assert "<td>other" not in times, "another run's benchmark"


def test_it_imports_neither_torch_nor_lightning():
    code = "import sys, ptychoflow.commands.report; print({'torch', 'lightning', 'mlflow', 'h5py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda m: m["stages"]["refined"].update(r_factor="0.1"),
            "stages.refined.r_factor: input should be",
        ),
        (lambda m: m["stages"]["refined"].update(r_factor=None), "stages.refined.r_factor"),
        (lambda m: m["stages"].update(network=[]), "stages.network"),
        (lambda m: m["scan"].update(pixel_size_m=-1), "scan.pixel_size_m"),
        (lambda m: m["scan"].update(has_truth=not m["scan"]["has_truth"]), "has_truth does not agree"),
        (lambda m: m["progress"].update(cpu_seconds=[1e300]), "progress.cpu_seconds.0"),
        (lambda m: m.update(patterns={}), "patterns"),
        (lambda m: m.update(split_half={"refined": {"frc": {}}}), "split_half.refined.frc.area: field required"),
        (lambda m: m["reconstructions"]["refined"].update(seconds="long"), "reconstructions.refined.seconds"),
        (lambda m: m["provenance"]["inputs"].clear(), "provenance.inputs.dataset is missing"),
        (lambda m: m.update(method={}), "method: input should be a valid string"),
    ],
)
def test_any_metrics_file_that_does_not_hold_together_is_named(measured, tmp_path, change, reason):
    shutil.copytree(measured / "metrics/pinn", tmp_path / "pinn")
    metrics = json.loads((tmp_path / "pinn/star.json").read_text())
    change(metrics)
    (tmp_path / "pinn/star.json").write_text(json.dumps(metrics))
    with pytest.raises(ValueError, match=rf"star\.json is damaged or of another version: .*{reason}.*evaluate` again"):
        _report(tmp_path, [tmp_path / "pinn/star.json"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda arrays: arrays.pop("probe"), "lacks probe"),
        (lambda arrays: arrays.update(refined=arrays["refined"][1:]), "refined.* does not belong to the other arrays"),
        (lambda arrays: arrays.update(refined=arrays["refined"] * np.nan), "refined holds NaN or infinity"),
        (lambda arrays: arrays.update(browse_indices=arrays["browse_indices"] + 10**6), "not among the"),
        (lambda arrays: arrays.update(weight=arrays["weight"].astype(str)), "weight is <U"),
    ],
)
def test_arrays_that_do_not_hold_together_are_named(measured, tmp_path, change, reason):
    shutil.copytree(measured / "metrics/pinn", tmp_path / "pinn")
    path = tmp_path / "pinn/star/arrays.npz"
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(path, **arrays)
    metrics = json.loads((tmp_path / "pinn/star.json").read_text())
    (tmp_path / "pinn/star.json").write_text(json.dumps(metrics | {"arrays_sha256": sha256(path)}))
    with pytest.raises(ValueError, match=rf"arrays\.npz is damaged \(.*{reason}.*evaluate` again"):
        _report(tmp_path, [tmp_path / "pinn/star.json"])


def test_what_cannot_be_read_is_named_and_leaves_no_page(measured, tmp_path):
    metrics = tmp_path / "star.json"
    shutil.copy(measured / "metrics/pinn/star.json", metrics)
    with pytest.raises(FileNotFoundError, match=r"arrays\.npz not found, which belongs to .*star\.json"):
        _report(tmp_path, [metrics])
    metrics.with_suffix("").mkdir()
    (metrics.with_suffix("") / "arrays.npz").write_bytes(b"PK but not really")
    with pytest.raises(ValueError, match="is damaged"):
        _report(tmp_path, [metrics])
    metrics.write_text("{}")
    with pytest.raises(ValueError, match=r"not a metrics file of format .* evaluate` again"):
        _report(tmp_path, [metrics])
    with pytest.raises(FileNotFoundError, match=r"metrics file not found: .*nowhere\.json"):
        _report(tmp_path, [tmp_path / "nowhere.json"])
    repeated = [measured / "metrics/pinn/star.json"] * 2
    with pytest.raises(ValueError, match="got several metrics files of pinn/star, expected one"):
        _report(tmp_path, repeated)
    with pytest.raises(ValueError, match="not a training log"):
        _report(tmp_path, repeated[:1], repeated[:1])
    assert not (tmp_path / "report.html").exists()


def test_sweeps_are_on_the_page_beside_the_single_results(measured, tmp_path):
    header = ["method", "scan", "stage", "simulation.photons_per_pattern", "seeds"]
    header += [name for column in COLUMNS for name in (column.key, f"{column.key}_std")]
    point = {
        "method": "pinn",
        "scan": "star",
        "stage": "refined",
        "seeds": 5,
        "r_factor": 0.02,
        "r_factor_std": 0.003,
    }
    with open(tmp_path / "dose.csv", "w", newline="") as file:
        table = csv.DictWriter(file, header)
        table.writeheader()
        table.writerows(point | {"simulation.photons_per_pattern": dose} for dose in ("1000", "1e5"))
    page = _report(tmp_path, _all(measured), sweeps=[tmp_path / "dose.csv"])
    assert 'href="#sweeps"' in page and "photons per pattern" in page
    assert page.count("0.0200 ± 0.0030") == 2 and "Mean over 5 seeds; error bars are one standard deviation." in page
    assert 'href="#sweeps"' not in _report(tmp_path, _all(measured))


@pytest.fixture
def browse(tmp_path):
    """Return a function that opens a page in a browser and returns its standard output."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is not installed")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--hide-scrollbars", "--allow-file-access-from-files", "--virtual-time-budget=2000"]

    def open_page(path, *more):
        command = [chromium, *options, *more, path.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return open_page


def test_a_browser_makes_a_slider_of_the_pictures(page, browse, tmp_path):
    dom = browse(tmp_path / "report.html", "--dump-dom")
    assert dom.count('class="viewer ready"') == 2
    assert len(re.findall(r'class="over" alt="" src="data:image/webp', dom)) == 2
    assert len(re.findall(r'class="scale" style="width: [12]\d\.\d%">\d+ nm<', dom)) == 2


def test_nothing_is_wider_than_a_phone(page, browse, tmp_path):
    phone = tmp_path / "phone.html"
    script = "document.title = frames[0].document.scrollingElement.scrollWidth"
    phone.write_text(f'<iframe src="report.html" width="360" height="800" onload="{script}"></iframe>')
    assert "<title>360</title>" in browse(phone, "--dump-dom")


def test_a_browser_explores_values(measured, page, browse, tmp_path):
    """Two panes, keys, reading a value, a pattern by a click, a profile, the colour wheel, files of values."""
    script = (Path(__file__).parent / "explore.js").read_text()
    frame = '<iframe src="report.html" width="1000" height="6000" onload="explore(frames[0])"></iframe>'
    (tmp_path / "explore.html").write_text(f'<script>{script}</script>{frame}<pre id="seen"></pre>')
    dom = browse(tmp_path / "explore.html", "--dump-dom", "--virtual-time-budget=20000", "--window-size=1100,6100")
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)[1]))
    assert "error" not in seen, seen
    assert seen["panes"] == 2 and seen["profile"] == 2 and seen["wheel"] and seen["colours"] > 50
    assert seen["zoomed"] == pytest.approx(1.25)
    place, _, values = seen["readout"].partition(": ")
    assert re.fullmatch(r"x [\d.]+ (nm|µm), y [\d.]+ (nm|µm) \(pixel \d+, \d+\)", place)
    assert len(re.findall(r"phase -?[\d.]+ rad, amplitude [\d.]+", values)) == 2
    assert re.match(r"pattern \d+, measured, log counts\s*expected, R-factor", seen["browsed"])
    with np.load(measured / "metrics/pinn/real/arrays.npz") as arrays:
        expected = np.where(arrays["refined_mask"], np.abs(arrays["refined"]), np.nan)
    npy, tiff = (io.BytesIO(base64.b64decode(seen[name])) for name in ("npy", "tiff"))
    for values in (np.load(npy), tifffile.imread(tiff)):
        assert np.allclose(values, expected, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("scheme", "background"), [(1, (255, 255, 255)), (0, (20, 23, 27))], ids=["light", "dark"])
def test_colours_follow_the_colour_scheme(page, browse, tmp_path, scheme, background):
    shot = tmp_path / "shot.png"
    browse(
        tmp_path / "report.html",
        f"--screenshot={shot}",
        "--window-size=1280,1600",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    with Image.open(shot) as picture:
        assert picture.size == (1280, 1600)
        assert picture.convert("RGB").getpixel((5, 800)) == background
        assert len(picture.convert("RGB").resize((160, 200)).getcolors(32_000)) > 500, "pictures are drawn"
