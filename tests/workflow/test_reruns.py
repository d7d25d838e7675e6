"""The table of reruns says what happens, for every setting."""

import os
import time

import pytest

from ptychoflow.config import READS, load_config

from .reruns import ROOT, SECTIONS, STEPS_OF, leaves, page

CONFIG = {
    "scans": {"leaves": {"simulation": {}}, "measured": {"source": {"file": "a.npz"}}},
    "methods": {"pinn": {"train_on": ["leaves"], "reconstruct": ["measured"]}},
}
KEYS = [(section, path) for section, schema in SECTIONS.items() for path, _ in leaves(schema)]


def test_the_page_in_the_docs_is_what_the_rules_do():
    written = (ROOT / "docs/reference/reruns.md").read_text()
    assert written == page(), "run: python tests/workflow/reruns.py > docs/reference/reruns.md"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(("section", "path"), KEYS, ids=[".".join((section, *path)) for section, path in KEYS])
def test_a_setting_is_passed_only_to_the_steps_that_read_it(section, path):
    config = load_config(CONFIG)
    if section == "source":
        entry = config.scans["measured"]
        varied = entry.model_copy(update={"source": _changed(entry.source, path)})
        changed = config.model_copy(update={"scans": config.scans | {"measured": varied}})
    else:
        changed = config.model_copy(update={section: _changed(getattr(config, section), path)})
    assert {step for step in READS if _parameter(config, step) != _parameter(changed, step)} == set(STEPS_OF[section])


def _changed(section, path: tuple[str, ...]):
    """Return a section with another value at a key, without validation."""
    name, *deeper = path
    value = _changed(getattr(section, name), tuple(deeper)) if deeper else "another"
    return section.model_copy(update={name: value})


def _parameter(config, step: str) -> str:
    """Return the parameter of a step's rule."""
    return config.settings(step, scan="measured" if step == "convert" else None)


def test_a_newer_file_that_a_setting_names_makes_its_scan_again(workflow):
    geometry = {"energy_ev": 8800.0, "detector_distance_m": 2.0, "detector_pixel_m": 75e-6}
    config = {
        "scans": {"measured": {"source": {"file": "a.npz", "geometry": geometry}}},
        "methods": {"rpie": {"initial_object": "uniform", "reconstruct": ["measured"]}},
    }
    measurement, scan = workflow.folder / "a.npz", workflow.folder / "results/scans/measured.cxi"
    scan.parent.mkdir(parents=True)
    now = time.time()
    for path, made in ((measurement, now - 7200), (scan, now - 3600)):
        path.write_bytes(b"something")
        os.utime(path, (made, made))
    words = ["--dry-run", "results/scans/measured.cxi"]
    done = workflow.run(*words, config=config)
    assert "Nothing to be done" in done.stdout + done.stderr
    os.utime(measurement, (now - 60, now - 60))
    done = workflow.run(*words, config=config)
    assert "Updated input files: a.npz" in done.stdout + done.stderr


@pytest.mark.parametrize("corrected", ["pos.npy", "s_para.hdf5", "frames/2.tif"])
def test_a_corrected_file_that_belongs_to_a_measurement_makes_its_scan_again(workflow, corrected):
    """Positions found beside the measurement, the other one of a pair, an image of a folder."""
    sources = {
        "stack": {"file": "data/p.npy", "positions": "pos.npy"},
        "pair": {"file": "data/s_dp.hdf5"},
        "folder": {"file": "data/frames", "positions": "pos.npy"},
    }
    config = {
        "scans": {name: {"source": source} for name, source in sources.items()},
        "methods": {"rpie": {"initial_object": "uniform", "reconstruct": list(sources)}},
    }
    made = [f"results/scans/{name}.cxi" for name in sources]
    names = ("p.npy", "pos.npy", "s_dp.hdf5", "s_para.hdf5", "frames/1.tif", "frames/2.tif")
    now = time.time()
    for path, age in [*((f"data/{name}", 7200) for name in names), *((scan, 3600) for scan in made)]:
        (workflow.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (workflow.folder / path).write_bytes(b"something")
        os.utime(workflow.folder / path, (now - age, now - age))
    done = workflow.run("--dry-run", *made, config=config)
    assert "Nothing to be done" in done.stdout + done.stderr
    os.utime(workflow.folder / "data" / corrected, (now - 60, now - 60))
    done = workflow.run("--dry-run", *made, config=config)
    assert f"Updated input files: data/{corrected}" in done.stdout + done.stderr
