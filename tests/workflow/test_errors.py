"""A mistake of a user ends in one clear line, a non-zero exit status and no partial product."""

import numpy as np
import pytest

RPIE = {"methods": {"rpie": {"initial_object": "uniform", "reconstruct": ["measured"]}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"learning_rat": 1e-3}}, "training.learning_rat: unknown key; did you mean learning_rate?"),
        ({"refinement": {"epochs": "many"}}, "refinement.epochs: input should be a valid integer"),
        ({"methods": {"tiny": {"reconstruct": ["sun"]}}}, "methods.tiny.reconstruct: no such scan: sun"),
        ({"methods": {"tiny": {"train_on": []}}}, "methods.tiny.train_on is empty"),
    ],
    ids=["unknown key", "wrong type", "missing scan", "empty train_on"],
)
def test_a_wrong_config_stops_the_workflow_before_it_starts(workflow, changes, message):
    done = workflow.run("--dry-run", **changes)
    output = (done.stdout + done.stderr).strip()
    assert done.returncode != 0
    assert output.startswith("ptychoflow: config: ") and message in output and "\n" not in output
    assert not (workflow.folder / "results").exists()


def _measured(**source) -> dict:
    geometry = {"energy_ev": 8800.0, "detector_distance_m": 2.0, "detector_pixel_m": 75e-6}
    return {"scans": {"measured": {"source": {"format": "tike_npz", "geometry": geometry, **source}}}, **RPIE}


def _corrupt(folder):
    (folder / "a.npz").write_bytes(b"PK\x03\x04 and then nothing")


def _negative(folder):
    data = np.ones((1, 9, 32, 32), np.float32)
    data[0, 1, 2, 3] = -1
    probe = np.ones((1, 1, 1, 1, 32, 32), np.complex64)
    np.savez(folder / "a.npz", data=data, scan=np.random.rand(1, 9, 2).astype(np.float32), probe=probe)


@pytest.mark.parametrize(
    ("make", "step", "message"),
    [
        (lambda folder: None, "convert", "nor in the data cache"),
        (_corrupt, "convert", "a.npz"),
        (_negative, "pack", "negative"),  # convert keeps them, so that packing.invalid_counts acts
    ],
    ids=["missing", "corrupt", "negative"],
)
def test_a_bad_measurement_stops_the_workflow_and_leaves_no_product(workflow, make, step, message):
    make(workflow.folder)
    done = workflow.run(config=_measured(file="a.npz"))
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ptychoflow: a step failed")]
    assert done.returncode != 0
    assert len(lines) == 1
    assert f"results/logs/{step}/measured.log ends with: ptychoflow {step}: " in lines[0] and message in lines[0]
    products = workflow.folder / "results"
    made = {path.suffix for path in products.rglob("*") if path.is_file()} - {".log", ".tsv"}
    assert made == ({".cxi"} if step == "pack" else set())
