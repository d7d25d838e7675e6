"""MLflow keeps what a training tells it, and a store that is down costs one warning."""

import logging
import sys

import numpy as np
import pytest
from PIL import Image

from ptychoflow.config import Tracking
from ptychoflow.tracking.logger import Tracker, flatten


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
