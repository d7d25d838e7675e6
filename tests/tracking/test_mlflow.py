"""Runs and networks in MLflow stores: nothing lost on the way, nothing taken on trust."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ptychoflow.api import ConfigManager, InferenceEngine, PtychoModel, Trainer
from ptychoflow.config import Network
from ptychoflow.io.atomic import write_json
from ptychoflow.io.dataset import open_dataset
from ptychoflow.io.provenance import sha256
from ptychoflow.models.checkpoint import Model, content_of
from ptychoflow.models.model_folder import read_model_folder, write_model_folder
from ptychoflow.networks.group_network import GroupReconstructor
from ptychoflow.plugins.mlflow_pyfunc import PyfuncModel
from ptychoflow.tracking.logged_model import example, write_mlflow_model
from ptychoflow.tracking.run_store import artifacts, copy_run, open_store

QUICK = {
    "network": {"base_channels": 8, "depth": 2},
    "training": {"stages": [{"epochs": 1}], "batch_size": 8, "groups_per_epoch": 16},
    "runtime": {"accelerator": "cpu", "threads": 1},
}
CPU = ConfigManager(runtime=QUICK["runtime"])

pytestmark = pytest.mark.xdist_group("mlflow")  # one server serves them all
FRESH_PROCESS = """
import sys, json, numpy as np
from ptychoflow.api import ConfigManager, InferenceEngine, PtychoModel
uri, run, dataset, out = sys.argv[1:]
model = PtychoModel.load_from_mlflow(run, uri)
engine = InferenceEngine(model, ConfigManager(runtime={"accelerator": "cpu", "threads": 1}))
np.save(out, engine.predict_and_stitch(dataset).image)
print(json.dumps(ConfigManager.from_mlflow(run, uri).to_dict(), sort_keys=True))
"""


@pytest.fixture(scope="module")
def trained(tiny_dataset, tmp_path_factory) -> PtychoModel:
    """A network trained for two steps, its run in an SQLite store."""
    folder = tmp_path_factory.mktemp("trained")
    config = ConfigManager(**QUICK, tracking={"uri": f"sqlite:///{folder}/mlflow.db", "experiment": "tests"})
    return Trainer(tiny_dataset, config).train()


@contextmanager
def _service(folder: Path, *words: str) -> Iterator[str]:
    """The address of a real program of MLflow's that answers, until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", *words, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, start_new_session=True,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real MLflow server with a database and artifacts of its own."""
    folder = tmp_path_factory.mktemp("server")
    store = f"sqlite:///{folder}/mlflow.db"
    with _service(folder, "server", "--backend-store-uri", store, "--artifacts-destination", f"{folder}/kept") as uri:
        yield uri


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    """An SQLite store that is not there before something is saved to it."""
    return f"sqlite:///{tmp_path_factory.mktemp('database')}/new/mlflow.db"


@pytest.fixture(params=["sqlite", "file", "http"])
def store(request, tmp_path) -> str:
    """A store of each kind."""
    if request.param == "file":
        return (tmp_path / "mlruns").as_uri()
    return request.getfixturevalue("server" if request.param == "http" else "database")


def _histories(uri: str, run_id: str) -> dict:
    client = open_store(uri)
    return {
        name: sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, name))
        for name in client.get_run(run_id).data.metrics
    }


def _files(uri: str, run_id: str) -> dict[str, str]:
    """Checksum of every artifact but those that MLflow dates."""
    with artifacts(open_store(uri), uri, run_id) as folder:
        names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {str(name): sha256(folder / name) for name in names if name.name != "MLmodel"}


def _image(model: PtychoModel, dataset: Path) -> np.ndarray:
    return InferenceEngine(model, CPU).predict_and_stitch(dataset).image


# --- there and back --------------------------------------------------------------------------------------------------


def test_a_run_moves_whole_and_its_network_does_the_same_in_a_fresh_process(trained, store, tiny_dataset, tmp_path):
    here = (tmp_path / "here").as_uri()
    first = trained.save_mlflow(here)
    original, history, files = open_store(here).get_run(first.run[1]), _histories(*first.run), _files(*first.run)
    assert history["loss"] and "validation/patch_error" in history
    moved = first.save_mlflow(store)
    shutil.rmtree(tmp_path / "here")

    copy = open_store(store).get_run(moved.run[1])
    assert copy.data.params == original.data.params and copy.data.tags == original.data.tags
    assert copy.data.metrics == original.data.metrics and _histories(*moved.run) == history
    for attribute in ("run_name", "status", "start_time", "end_time"):
        assert getattr(copy.info, attribute) == getattr(original.info, attribute)
    assert _files(*moved.run) == files and "training.json" in files

    (tmp_path / "elsewhere").mkdir()
    words = [sys.executable, "-c", FRESH_PROCESS, *moved.run, str(tiny_dataset), str(tmp_path / "image.npy")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path / "elsewhere", timeout=300)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "image.npy"), _image(trained, tiny_dataset))
    assert json.loads(done.stdout.splitlines()[-1]) == trained.config.to_dict()
    assert not list((tmp_path / "elsewhere").iterdir())

    again = PtychoModel.load_from_mlflow(moved.run[1], store)
    assert _files(*again.save_mlflow(store).run) == files


def test_a_network_without_a_run_gets_one(trained, store):
    kept = dataclasses.replace(trained, run=None).save_mlflow(store, experiment="alone")
    run = open_store(store).get_run(kept.run[1])
    assert run.data.params["network.base_channels"] == "8" and run.info.status == "FINISHED"
    assert PtychoModel.load_from_mlflow(kept.run[1], store).config == trained.config


def test_a_long_history_is_copied_to_the_last_value(tmp_path):
    from mlflow.entities import Metric

    here, there = ((tmp_path / name).as_uri() for name in ("a", "b"))
    client = open_store(here, make=True)
    run_id = client.create_run(client.create_experiment("long", (tmp_path / "a" / "kept").as_uri())).info.run_id
    for first in range(0, 2500, 500):
        client.log_batch(run_id, [Metric("loss", 1 / (n + 1), 1000 + n, n) for n in range(first, first + 500)])
    client.set_tag(run_id, "colour", "red")
    copy = copy_run(here, run_id, there, experiment="copies")
    assert len(_histories(there, copy)["loss"]) == 2500 and _histories(there, copy) == _histories(here, run_id)
    assert open_store(there).get_run(copy).data.tags["colour"] == "red"
    assert open_store(there).get_experiment_by_name("copies") is not None


@pytest.mark.parametrize("store", ["sqlite", "http"], indirect=True)
def test_the_registry_leads_to_the_network(trained, store, tiny_dataset):
    kept = trained.save_mlflow(store, register="pinn")
    version = open_store(store).search_model_versions("name = 'pinn'")[0].version
    found = PtychoModel.load_from_registry("pinn", version, store)
    assert found.run == kept.run
    np.testing.assert_array_equal(_image(found, tiny_dataset), _image(trained, tiny_dataset))
    with pytest.raises(FileNotFoundError, match="model pinn version 999 not found"):
        PtychoModel.load_from_registry("pinn", 999, store)


def test_the_workflow_s_own_runs_keep_their_network(trained, tiny_dataset):
    assert trained.run is not None
    found = PtychoModel.load_from_mlflow(trained.run[1], trained.run[0])
    np.testing.assert_array_equal(_image(found, tiny_dataset), _image(trained, tiny_dataset))
    assert ConfigManager.from_mlflow(trained.run[1], trained.run[0]) == trained.config


def test_a_store_of_files_has_no_registry_of_its_own(trained, tmp_path):
    with pytest.raises(ValueError, match="name a database or a server"):
        trained.save_mlflow((tmp_path / "a").as_uri(), register="pinn")


def test_the_global_tracking_uri_is_left_alone(trained, database, tmp_path, monkeypatch):
    import mlflow

    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()
    for uri, name in ((database, "pinn"), ((tmp_path / "x").as_uri(), None)):
        kept = trained.save_mlflow(uri, register=name)
    PtychoModel.load_from_mlflow(kept.run[1], kept.run[0])
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# --- as MLflow's own models ------------------------------------------------------------------------------------------


def test_mlflow_loads_the_network_as_a_model_of_its_own(trained, tmp_path, tiny_dataset):
    import mlflow.pyfunc

    write_mlflow_model(tmp_path / "model", trained.model)
    names = {path.name for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert {"MLmodel", "weights.pt", "config.yaml", "checksums.json", "input_example.json"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pth"))]
    weights = torch.load(tmp_path / "model/data/network/weights.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())

    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    scan = open_dataset(tiny_dataset)
    pairs = np.stack([scan.probe.real, scan.probe.imag], -1).astype(np.float32)
    given = {"counts": np.asarray(scan.counts, np.float32), "positions": scan.positions, "probe": pairs}
    found = served.predict(given)
    np.testing.assert_allclose(found["object"].view(np.complex64)[..., 0], _image(trained, tiny_dataset), atol=2e-3)
    assert found["coverage"].dtype == bool and found["origin"].shape == (2,)
    with pytest.raises(Exception, match="positions"):
        served.predict({"counts": given["counts"], "probe": pairs})
    assert set(served.predict(example(32))) == {"object", "coverage", "origin"}


def test_mlflow_finds_the_network_by_run_and_by_name(trained, server, tmp_path):
    kept = trained.save_mlflow(server, register="served")
    code = """
import sys, mlflow.pyfunc
from ptychoflow.tracking.logged_model import example
for uri in sys.argv[1:]:
    print(mlflow.pyfunc.load_model(uri).predict(example(32))["object"].shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, f"runs:/{kept.run[1]}/model", "models:/served/1"],
        capture_output=True, text=True, cwd=tmp_path, timeout=300, env=os.environ | {"MLFLOW_TRACKING_URI": server},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.splitlines())) == 1


def test_mlflow_serves_the_network_over_http(trained, tmp_path):
    write_mlflow_model(tmp_path / "model", trained.model)
    asked = json.dumps({"inputs": {name: array.tolist() for name, array in example(32).items()}}).encode()
    with _service(tmp_path, "models", "serve", "-m", "model", "--env-manager", "local") as uri:
        request = urllib.request.Request(f"{uri}/invocations", asked, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)["predictions"]
    expected = PyfuncModel(read_model_folder(tmp_path / "model/data/network")).predict(example(32))
    np.testing.assert_allclose(found["object"], expected["object"], atol=1e-6)


# --- errors that say so ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
def test_a_store_that_is_not_there_is_not_made_by_reading(tmp_path, scheme):
    uri = f"sqlite:///{tmp_path}/none.db" if scheme == "sqlite" else (tmp_path / "none").as_uri()
    for read in (PtychoModel.load_from_mlflow, ConfigManager.from_mlflow):
        with pytest.raises(FileNotFoundError, match="tracking store not found"):
            read("0" * 32, uri)
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_down_is_told_in_seconds():
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9 does not answer"):
        PtychoModel.load_from_mlflow("0" * 32, "http://127.0.0.1:9")
    assert time.monotonic() - began < 20


def test_a_run_that_is_not_there_is_told(trained):
    for read in (PtychoModel.load_from_mlflow, ConfigManager.from_mlflow):
        with pytest.raises(FileNotFoundError, match="run 0000"):
            read("0" * 32, trained.run[0])


def test_a_run_of_another_program_is_told(tmp_path):
    uri = (tmp_path / "a").as_uri()
    client = open_store(uri, make=True)
    run_id = client.create_run(client.create_experiment("other", (tmp_path / "a" / "kept").as_uri())).info.run_id
    for read in (PtychoModel.load_from_mlflow, ConfigManager.from_mlflow):
        with pytest.raises(FileNotFoundError, match="ptychoflow model not found in run"):
            read(run_id, uri)


def test_a_run_that_is_gone_cannot_be_saved(trained, tmp_path):
    lost = dataclasses.replace(trained, run=(f"sqlite:///{tmp_path}/lost.db", trained.run[1]))
    with pytest.raises(FileNotFoundError, match="tracking store not found"):
        lost.save_mlflow((tmp_path / "new").as_uri())


def _altered(folder: Path, name: str, content: bytes, honest: bool) -> None:
    (folder / name).write_bytes(content)
    if honest:
        write_json(folder / "checksums.json", {n: sha256(folder / n) for n in ("weights.pt", "config.yaml")})


def _config_with(folder: Path, **changes) -> bytes:
    return yaml.safe_dump(yaml.safe_load((folder / "config.yaml").read_text()) | changes).encode()


def _weights_of_another(folder: Path) -> bytes:
    other = GroupReconstructor(Network(base_channels=16, depth=2), 24)
    torch.save(content_of(Model(other, 32, {}))["weights"], folder / "other")
    return (folder / "other").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "honest", "message"),
    [
        ("weights.pt", lambda folder: b"\0" + (folder / "weights.pt").read_bytes()[1:], False, "was altered"),
        ("config.yaml", lambda folder: _config_with(folder, size=64), False, "was altered"),
        ("config.yaml", lambda folder: _config_with(folder, format=99), True, "in format 99.*upgrade ptychoflow"),
        ("config.yaml", lambda folder: _config_with(folder, network={"colour": 1}), True, "network|colour"),
        ("config.yaml", lambda folder: b"- 1", True, "is not a ptychoflow checkpoint"),
        ("config.yaml", lambda folder: b"a: [", True, "does not hold a readable model"),
        ("weights.pt", _weights_of_another, True, "does not hold the network it names"),
        ("weights.pt", lambda folder: b"not tensors", True, "does not hold a readable model"),
    ],
)
def test_an_altered_network_is_refused(trained, tmp_path, name, content, honest, message):
    folder = tmp_path / "network"
    write_model_folder(folder, trained.model)
    read_model_folder(folder)
    _altered(folder, name, content(folder), honest)
    with pytest.raises(ValueError, match=message):
        read_model_folder(folder)


def test_an_artifact_altered_in_the_store_is_refused(trained, tmp_path):
    uri = (tmp_path / "a").as_uri()
    kept = trained.save_mlflow(uri)
    (weights,) = (tmp_path / "a").rglob("weights.pt")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ValueError, match=r"weights\.pt was altered since it was saved"):
        PtychoModel.load_from_mlflow(kept.run[1], uri)
    weights.unlink()
    with pytest.raises(ValueError, match=r"weights\.pt is missing"):
        PtychoModel.load_from_mlflow(kept.run[1], uri)


def test_a_folder_without_a_network_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="model not found"):
        read_model_folder(tmp_path)
