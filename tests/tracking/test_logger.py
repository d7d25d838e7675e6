"""MLflow keeps what a training tells it, and a store that is down costs one warning."""

import logging
import subprocess
import sys

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from ptychoflow.config import Tracking
from ptychoflow.tracking.logger import Tracker, check_artifact_place, flatten


def test_nested_settings_get_dotted_names():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_without_a_store_mlflow_is_not_even_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # an import of it fails
    tracker = Tracker(Tracking(uri=None), "pinn")
    monkeypatch.setattr(tracker, "SEND_INTERVAL_S", 0.0)
    tracker.log_metrics({"loss": 1.0}, step=1)
    tracker.finalize("success")
    tracker.close()


def test_a_run_keeps_settings_metrics_and_records(tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    tracker = Tracker(Tracking(uri=uri, experiment="tests"), "pinn")
    tracker.log_hyperparams({"network": {"base_channels": 8}})
    tracker.log_metrics({"loss": 0.5}, step=1)
    tracker.log_metrics({"loss": 0.25}, step=2)
    tracker.log_record({"seconds": 3}, "training.json")
    tracker.log_picture(np.zeros((4, 6), np.uint8), "validation/epoch_0001.png")
    tracker.finalize("success")
    tracker.close()
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "pinn"
    assert run.data.params == {"network.base_channels": "8"} and run.data.metrics["loss"] == 0.25
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [0.5, 0.25]
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["training.json", "validation"]
    assert Image.open(client.download_artifacts(run.info.run_id, "validation/epoch_0001.png")).size == (6, 4)
    assert (tmp_path / "new" / "mlflow_artifacts").is_dir()


def test_a_server_that_is_down_costs_one_warning(caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker(Tracking(uri="http://127.0.0.1:9"), "pinn")
    with caplog.at_level(logging.WARNING, "ptychoflow"):
        tracker.log_hyperparams({"seed": 0})
        tracker.log_metrics({"loss": 1.0}, step=1)
        tracker.finalize("success")
        tracker.close()
    (warning,) = [r for r in caplog.records if r.name.startswith("ptychoflow")]
    assert "http://127.0.0.1:9 does not answer, training continues without it" in warning.getMessage()


def test_a_store_that_dies_during_training_costs_one_warning_and_the_rest_of_its_metrics(tmp_path, caplog, monkeypatch):
    tracker = Tracker(Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db"), "pinn")
    tracker.log_metrics({"loss": 1.0}, step=1)
    tracker.log_record({}, "training.json")
    monkeypatch.setattr(tracker, "SEND_INTERVAL_S", 0.0)

    def gone(*_, **__):
        raise ConnectionError("the server\nwent away")

    monkeypatch.setattr(tracker._client, "log_batch", gone)
    with caplog.at_level(logging.WARNING, "ptychoflow"):
        for step in range(2, 5):
            tracker.log_metrics({"loss": 0.5}, step=step)
        tracker.close()
    (warning,) = [r for r in caplog.records if r.name.startswith("ptychoflow")]
    assert "does not answer, training continues without it: the server went away" in warning.getMessage()


def test_tracking_can_be_off(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = Tracker(Tracking(uri=None), "pinn")
    tracker.log_hyperparams({"seed": 0})
    tracker.log_metrics({"loss": 1.0}, step=1)
    tracker.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "kept"), [("failed", "FAILED")])
def test_a_failed_training_is_marked_so(tmp_path, status, kept):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tracker = Tracker(Tracking(uri=uri), "pinn")
    tracker.log_hyperparams({"seed": 0})
    tracker.finalize(status)
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("ptychoflow").experiment_id])
    assert run.info.status == kept


FIRST_TRAINING = """
import sys, time
import mlflow
from ptychoflow.config import Tracking
from ptychoflow.tracking.logger import Tracker
print(flush=True)
sys.stdin.readline()
tracker = Tracker(Tracking(uri=sys.argv[1], experiment="tests"), "pinn")
tracker.log_hyperparams({"seed": 1})
tracker.close()
print(tracker.version)
"""


@pytest.mark.slow
def test_first_trainings_at_once_share_one_new_store(tmp_path):
    """Without a lock the migrations of four processes break a new database for good."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    command = [sys.executable, "-c", FIRST_TRAINING, uri]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for process in processes:
        process.stdout.readline()  # each has imported MLflow
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    runs = {process.communicate(timeout=120)[0].strip() for process in processes}
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert len(runs) == 3 and {run.info.run_id for run in found} == runs


@pytest.mark.parametrize("store", ["sqlite:///{}/new/mlflow.db", "{}/new"])
def test_a_store_is_opened_under_its_lock(tmp_path, caplog, monkeypatch, store):
    monkeypatch.setattr("ptychoflow.tracking.logger.LOCK_WAIT_S", 0.1)
    (tmp_path / "new").mkdir()
    lock = tmp_path / "new" / (".mlflow.db.lock" if store.startswith("sqlite") else ".lock")
    tracker = Tracker(Tracking(uri=store.format(tmp_path)), "pinn")
    with FileLock(lock), caplog.at_level(logging.WARNING, "ptychoflow"):
        tracker.log_record({"seconds": 3}, "training.json")
    assert f"{lock} is locked by another process" in caplog.text
    assert [path.name for path in (tmp_path / "new").iterdir()] == [lock.name]


def test_artifacts_stay_in_the_folder_of_their_store(tmp_path):
    store = f"sqlite:///{tmp_path}/results/mlflow.db"
    inside = tmp_path / "results" / "mlflow_artifacts" / "1"
    inside.mkdir(parents=True)
    (inside / "model.pt").write_text("weights")
    check_artifact_place(inside.as_uri(), store)
    check_artifact_place("mlflow-artifacts:/1", "http://server")
    check_artifact_place("s3://bucket/1", store)
    for place, home in [
        ("file:///etc", store),
        (str(tmp_path), store),
        ((tmp_path / "results" / ".." / "home").as_uri(), store),
        (inside.as_uri(), "http://server"),
        (inside.as_uri(), (tmp_path / "other").as_uri()),
    ]:
        with pytest.raises(ValueError, match="outside its folder, which is refused"):
            check_artifact_place(place, home)
    (tmp_path / "id_rsa").write_text("private")
    (inside / "model" / "deep").mkdir(parents=True)
    (inside / "model" / "deep" / "weights.pt").symlink_to(tmp_path / "id_rsa")
    with pytest.raises(ValueError, match=r"weights\.pt is a link out of the store"):
        check_artifact_place(inside.as_uri(), store)


def test_a_run_whose_artifacts_lie_elsewhere_is_neither_read_nor_written(tmp_path, caplog):
    """The database comes from other people; what it names must not be copied to a store that is shared."""
    from mlflow import MlflowClient

    from ptychoflow.tracking.run_store import copy_run

    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "id_rsa").write_text("private")
    (tmp_path / "results").mkdir()
    uri = f"sqlite:///{tmp_path}/results/mlflow.db"
    client = MlflowClient(uri)
    client.create_experiment("tests", artifact_location=(tmp_path / "home").as_uri())
    run = client.create_run(client.get_experiment_by_name("tests").experiment_id)
    with pytest.raises(ValueError, match="outside its folder"):
        copy_run(uri, run.info.run_id, (tmp_path / "copy").as_uri())
    tracker = Tracker(Tracking(uri=uri, experiment="tests"), "pinn")
    with caplog.at_level(logging.WARNING, "ptychoflow"):
        tracker.log_record({"seconds": 3}, "training.json")
    assert "mlflow.db keeps artifacts in " in caplog.text and [path.name for path in (tmp_path / "home").iterdir()] == [
        "id_rsa"
    ]


def test_a_training_that_resumes_continues_its_run(tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for attempt, step in enumerate((1, 2)):
        tracker = Tracker(Tracking(uri=uri, experiment="tests"), "pinn")
        tracker.remember_in(tmp_path / "checkpoints" / "mlflow_run.json")
        tracker.log_hyperparams({"seed": attempt})
        tracker.log_metrics({"loss": 1.0 / step}, step=step)
        tracker.finalize("failed" if attempt == 0 else "success")
    tracker.close()
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params == {"seed": "0"}
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [1.0, 0.5]


@pytest.mark.parametrize("memory", ["", "[]", '{"uri": "sqlite:///elsewhere.db", "run": "a"}', '{"run": 1}'])
def test_a_run_that_cannot_be_continued_is_begun_anew(tmp_path, memory):
    (tmp_path / "mlflow_run.json").write_text(memory)
    tracker = Tracker(Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db"), "pinn")
    tracker.remember_in(tmp_path / "mlflow_run.json")
    tracker.log_hyperparams({"seed": 0})
    tracker.close()
    assert tracker.version is not None and tracker.version in (tmp_path / "mlflow_run.json").read_text()
