"""A measured scan with labels: the counts stay, the reconstruction becomes the ground truth, a network learns it."""

import dataclasses
import json

import numpy as np
import pytest

from ptychoflow.cli.main import main
from ptychoflow.commands.label import label
from ptychoflow.commands.train import train
from ptychoflow.config import Network, Runtime, Stage, Tracking, Training
from ptychoflow.io.dataset import open_dataset, verify_dataset, write_dataset
from ptychoflow.io.reconstruction_h5 import read_reconstruction, write_reconstruction

from ..products import SHAPE, make_reconstruction, make_scan, write_products


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A scan without a truth and what was made of it."""
    return write_products(tmp_path_factory.mktemp("results"), truth=False, scan="real")


@pytest.fixture(scope="module")
def labelled(measured, tmp_path_factory):
    output = tmp_path_factory.mktemp("labelled") / "real"
    label(measured["dataset"], measured["refined"], output)
    return output


def test_the_object_becomes_the_truth_and_the_counts_stay(measured, labelled):
    scan, before = open_dataset(labelled), open_dataset(measured["dataset"])
    reconstruction = read_reconstruction(measured["refined"])
    assert np.array_equal(scan.truth.object, reconstruction.object) and scan.truth.origin == reconstruction.origin
    kept = np.isin(before.positions, scan.positions).all(1)
    assert kept.sum() == 79 and np.array_equal(scan.counts, before.counts[kept])  # two centres are not covered
    assert np.array_equal(scan.probe, reconstruction.probe)
    assert verify_dataset(labelled)


def test_where_the_labels_come_from_is_on_record(labelled):
    manifest = json.loads((labelled / "manifest.json").read_text())
    assert manifest["metadata"]["ground_truth_source"] == "pinn/real"
    assert set(manifest["provenance"]["inputs"]) == {"dataset", "reconstruction"}


def test_patterns_beyond_the_known_object_are_left_out(measured, tmp_path):
    coverage = np.zeros(SHAPE, bool)
    coverage[:, 30:] = True
    scan = make_scan(truth=False)
    write_reconstruction(tmp_path / "r.h5", make_reconstruction(scan, np.ones(SHAPE), coverage=coverage))
    label(measured["dataset"], tmp_path / "r.h5", tmp_path / "out")
    kept = open_dataset(tmp_path / "out")
    expected = [n for n, (_, x) in enumerate(scan.positions) if np.rint(x) >= 30]
    assert 0 < len(kept) < len(scan)
    assert np.array_equal(kept.counts, scan.counts[expected])
    assert np.array_equal(kept.positions, scan.positions[expected])


def test_a_network_trains_on_it_as_on_a_simulated_one(tiny_dataset, tmp_path):
    scan = open_dataset(tiny_dataset)
    truth = scan.truth.object
    whole = {"weight": np.ones(truth.shape, np.float32), "coverage": np.ones(truth.shape, bool)}
    write_reconstruction(tmp_path / "r.h5", make_reconstruction(scan, truth, geometry=scan.geometry, **whole))
    unlabelled = type(scan)(scan.counts, scan.positions, scan.probe, scan.geometry, name="blobs")
    write_dataset(tmp_path / "measured", unlabelled)
    label(tmp_path / "measured", tmp_path / "r.h5", tmp_path / "labelled")
    training = Training(supervision="ground_truth", stages=[Stage(epochs=1)])
    settings = {"network": Network(base_channels=8, depth=2), "training": training, "tracking": Tracking(uri=None)}
    settings["runtime"] = Runtime(accelerator="cpu", threads=1)
    with pytest.raises(ValueError, match=r"training\.supervision is ground_truth, but no ground truth in blobs"):
        train([tmp_path / "measured"], tmp_path / "networks" / "m.ckpt", **settings)
    losses = []
    for folder in (tmp_path / "labelled", tiny_dataset):
        model = tmp_path / folder.name / "m.ckpt"
        train([folder], model, **settings)
        losses.append(json.loads(model.with_suffix(".json").read_text())["curves"]["loss"])
    assert losses[0] == pytest.approx(losses[1]), "the truth as a label teaches what the truth does"


@pytest.mark.parametrize(
    ("reconstruction", "message"),
    [
        ("nowhere.h5", "reconstruction not found"),
        ("other.h5", "give the reconstruction of "),
        ("empty.h5", "covers no pattern"),
    ],
)
def test_what_is_no_label_ends_in_one_line(measured, tmp_path, capsys, reconstruction, message):
    scan = make_scan()
    ones = np.ones(SHAPE)
    write_reconstruction(tmp_path / "other.h5", make_reconstruction(scan, ones, positions=scan.positions[1:]))
    write_reconstruction(tmp_path / "empty.h5", make_reconstruction(scan, ones, coverage=np.zeros(SHAPE, bool)))
    words = ["dataset", "label", str(measured["dataset"]), str(tmp_path / reconstruction), str(tmp_path / "out")]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_labels_of_another_dataset_are_told_of(measured, tmp_path, caplog):
    other = {"provenance": {"inputs": {"dataset": {"name": "other", "sha256": "0" * 64}}}}
    found = read_reconstruction(measured["refined"])
    write_reconstruction(tmp_path / "other.h5", dataclasses.replace(found, metadata=found.metadata | other))
    label(measured["dataset"], tmp_path / "other.h5", tmp_path / "labelled")
    assert "was made from another dataset than" in caplog.text
