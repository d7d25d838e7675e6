"""MLflow, as a witness that training never waits for: a server that is down costs one warning."""

import logging
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from ..config import Tracking

logger = logging.getLogger(__name__)


class Tracker(Logger):
    """Sends parameters, metrics and records of one training to an MLflow run.

    Metrics are gathered and sent every ``PATIENCE_S``, so that a slow store does not slow the steps.

    Args:
        tracking: store and experiment.
        run: what to call the run.
    """

    PATIENCE_S = 10.0

    def __init__(self, tracking: Tracking, run: str) -> None:
        super().__init__()
        self._tracking, self._run = tracking, run
        self._client = self._run_id = self._system = None
        self._dead = tracking.uri is None
        self._waiting: list[tuple[str, float, int, int]] = []
        self._sent = time.monotonic()

    @property
    def name(self) -> str:
        return self._tracking.experiment

    @property
    def version(self) -> str | None:
        return self._run_id

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Send settings, nested ones under dotted names."""
        params = vars(params) if isinstance(params, Namespace) else params
        self._try(lambda client, run: [client.log_param(run, k, v) for k, v in flatten(params).items()])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Gather metrics; they are sent when enough time has passed."""
        if self._dead:
            return
        now = int(time.time() * 1000)
        self._waiting += [(name, float(value), now, step or 0) for name, value in metrics.items()]
        if time.monotonic() - self._sent > self.PATIENCE_S:
            self._send()

    @rank_zero_only
    def log_record(self, record: dict, name: str) -> None:
        """Keep plain data as an artifact of the run."""
        self._try(lambda client, run: client.log_dict(run, record, name))

    @rank_zero_only
    def log_picture(self, pixels: np.ndarray, name: str) -> None:
        """Keep a picture, ``(H, W)`` of 8 bits, as an artifact of the run."""
        self._try(lambda client, run: client.log_image(run, pixels, artifact_file=name))

    @rank_zero_only
    def keep(self, name: str, write: Callable[[Path], None]) -> None:
        """Keep the folder that ``write`` writes as artifacts of the run."""
        self._try(lambda client, run: keep_folder(client, run, name, write))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send what waits; a training that failed is marked so. One that succeeded is closed by :meth:`close`."""
        self._send()
        if status == "failed":
            self._end("FAILED")

    @rank_zero_only
    def close(self) -> None:
        """Mark the run as finished."""
        self._send()
        self._end("FINISHED")

    def _send(self) -> None:
        if self._dead:  # without a store not even the import of MLflow is paid
            return
        from mlflow.entities import Metric

        self._watch_system()
        metrics, self._waiting = [Metric(*row) for row in self._waiting], []
        self._sent = time.monotonic()
        for first in range(0, len(metrics), 1000):
            self._try(lambda client, run, first=first: client.log_batch(run, metrics[first : first + 1000]))

    def _watch_system(self) -> None:
        """Add how busy processor, memory, disk and GPUs are to what waits."""
        if self._system is None:
            return
        self._system.collect_metrics()
        now, step = int(time.time() * 1000), max((row[3] for row in self._waiting), default=0)
        self._waiting += [
            (f"system/{name}", float(v), now, step) for name, v in self._system.aggregate_metrics().items()
        ]

    def _end(self, status: str) -> None:
        if self._run_id is not None:
            self._try(lambda client, run: client.set_terminated(run, status))

    def _try(self, call: Callable) -> None:
        if self._dead:
            return
        try:
            if self._client is None:
                self._open()
            call(self._client, self._run_id)
        except Exception as error:  # whatever a store raises, a training is worth more than its diary
            self._dead = True
            reason = " ".join(str(error).split())[:200]
            logger.warning("tracking store %s does not answer, going on without it: %s", self._tracking.uri, reason)

    def _open(self) -> None:
        # a server that is down is noticed in seconds, not after MLflow's minutes of retries
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        for chatty in ("alembic", "mlflow.system_metrics"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        database = database_of(self._tracking.uri)
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(self._tracking.uri)
        number = experiment_in(client, self._tracking.uri, self.name)
        self._run_id = client.create_run(number, run_name=self._run).info.run_id
        self._client = client
        self._system = SystemMetricsMonitor(self._run_id, tracking_uri=self._tracking.uri)


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names: ``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def keep_folder(client: Any, run_id: str, name: str, write: Callable[[Path], None]) -> None:
    """Keep the folder that ``write`` writes as artifacts of a run."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        write(folder)
        client.log_artifacts(run_id, str(folder), name)


def experiment_in(client: Any, uri: str, name: str) -> str:
    """The number of an experiment in a store, made if it is not there; artifacts of an SQLite store lie beside it."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return experiment.experiment_id
    database = database_of(uri)
    beside = None if database is None else (database.parent / "mlflow_artifacts").resolve().as_uri()
    return client.create_experiment(name, artifact_location=beside)


def database_of(uri: str) -> Path | None:
    """The file of an SQLite store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
