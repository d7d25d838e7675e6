"""MLflow logger that never delays a training: an unreachable server causes one warning."""

import json
import logging
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
from filelock import FileLock, Timeout
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from ..config import Tracking
from ..io.atomic import write_json

logger = logging.getLogger(__name__)

LOCK_WAIT_S = 120
"""Longest time that another process may take to create a store, s."""


class Tracker(Logger):
    """Lightning logger that sends parameters, metrics and artifacts of one training to an MLflow run.

    Metrics are buffered and sent every ``SEND_INTERVAL_S``, so that a slow store does not slow the training.

    Args:
        tracking: store and experiment.
        run: name of the run.
    """

    SEND_INTERVAL_S = 10.0

    def __init__(self, tracking: Tracking, run: str) -> None:
        super().__init__()
        self._tracking, self._run = tracking, run
        self._client: Any = None
        self._system: Any = None
        self._run_id: str | None = None
        self._disabled = tracking.uri is None
        self._buffer: list[tuple[str, float, int, int]] = []
        self._sent = time.monotonic()
        self._memory: Path | None = None
        self._resumed = False

    def remember_in(self, path: Path) -> None:
        """Keep the id of the run in a file, from which an interrupted training that resumes continues the run.

        Args:
            path: JSON file beside the state of the training.
        """
        self._memory = path

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self._tracking.experiment

    @property
    def version(self) -> str | None:
        """Id of the run; None before the first record."""
        return self._run_id

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Send settings, nested ones under dotted names."""
        settings = flatten(vars(params) if isinstance(params, Namespace) else params)

        def send(client: Any, run: str) -> None:
            # a run that goes on has its settings; MLflow refuses to change them
            if not self._resumed:
                for name, value in settings.items():
                    client.log_param(run, name, value)

        self._try(send)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Buffer metrics, and send them when ``SEND_INTERVAL_S`` have passed."""
        if self._disabled:
            return
        now = int(time.time() * 1000)
        self._buffer += [(name, float(value), now, step or 0) for name, value in metrics.items()]
        if time.monotonic() - self._sent > self.SEND_INTERVAL_S:
            self._send()

    @rank_zero_only
    def log_record(self, record: dict, name: str) -> None:
        """Log plain data as a JSON artifact of the run."""
        self._try(lambda client, run: client.log_dict(run, record, name))

    @rank_zero_only
    def log_picture(self, pixels: np.ndarray, name: str) -> None:
        """Log an image, ``(H, W)`` of 8 bits, as an artifact of the run."""
        self._try(lambda client, run: client.log_image(run, pixels, artifact_file=name))

    @rank_zero_only
    def keep(self, name: str, write: Callable[[Path], None]) -> None:
        """Log the folder that ``write`` writes as artifacts of the run."""
        self._try(lambda client, run: keep_folder(client, run, name, write))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Send buffered metrics and mark a failed training; :meth:`close` marks one that succeeded."""
        self._send()
        if status == "failed":
            self._end("FAILED")

    @rank_zero_only
    def close(self) -> None:
        """Send buffered metrics and mark the run as finished."""
        self._send()
        self._end("FINISHED")

    def _send(self) -> None:
        if self._disabled:  # without a store MLflow is not even imported
            return
        from mlflow.entities import Metric

        self._add_system_metrics()
        metrics, self._buffer = [Metric(*row) for row in self._buffer], []
        self._sent = time.monotonic()
        for first in range(0, len(metrics), 1000):
            self._try(lambda client, run, first=first: client.log_batch(run, metrics[first : first + 1000]))

    def _add_system_metrics(self) -> None:
        """Add the load of processor, memory, disk and GPUs to the buffer."""
        if self._system is None:
            return
        self._system.collect_metrics()
        now, step = int(time.time() * 1000), max((row[3] for row in self._buffer), default=0)
        self._buffer += [
            (f"system/{name}", float(v), now, step) for name, v in self._system.aggregate_metrics().items()
        ]

    def _end(self, status: str) -> None:
        if self._run_id is not None:
            self._try(lambda client, run: client.set_terminated(run, status))

    def _try(self, call: Callable) -> None:
        """Call with client and run id; any error disables tracking for the rest of the training."""
        if self._disabled or self._tracking.uri is None:
            return
        try:
            if self._client is None:
                self._open(self._tracking.uri)
            call(self._client, self._run_id)
        except Exception as error:  # whatever a store raises, the training goes on
            self._disabled = True
            reason = " ".join(str(error).split())[:200]
            logger.warning(
                "tracking store %s does not answer, training continues without it: %s", self._tracking.uri, reason
            )

    def _open(self, uri: str) -> None:
        # an unreachable server is noticed in seconds, not after minutes of MLflow's retries
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        for name in ("alembic", "mlflow.system_metrics"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with store_lock(uri):
            client = MlflowClient(uri)
            number = experiment_in(client, uri, self.name)
        run = self._remembered_run(client, uri)
        self._resumed = run is not None
        if run is None:
            run = client.create_run(number, run_name=self._run)
            if self._memory is not None:
                self._memory.parent.mkdir(parents=True, exist_ok=True)
                write_json(self._memory, {"uri": uri, "run": run.info.run_id})
        check_artifact_place(run.info.artifact_uri, uri)
        self._run_id = run.info.run_id
        self._client = client
        self._system = SystemMetricsMonitor(self._run_id, tracking_uri=uri)

    def _remembered_run(self, client: Any, uri: str) -> Any | None:
        """Return the run of the interrupted training, running again; None without one in this store."""
        from mlflow.exceptions import MlflowException

        if self._memory is None or not self._memory.is_file():
            return None
        try:
            remembered = json.loads(self._memory.read_text())
            if remembered["uri"] != uri:
                return None
            client.update_run(remembered["run"], status="RUNNING")
            return client.get_run(remembered["run"])
        except (MlflowException, ValueError, KeyError, TypeError):  # removed from the store, or damaged
            return None


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names: ``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def keep_folder(client: Any, run_id: str, name: str, write: Callable[[Path], None]) -> None:
    """Log the folder that ``write`` writes as artifacts of a run.

    Args:
        client: MLflow client.
        run_id: id of the run.
        name: name of the artifact folder.
        write: function that writes the folder at a path.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        write(folder)
        client.log_artifacts(run_id, str(folder), name)


def experiment_in(client: Any, uri: str, name: str) -> str:
    """Return the id of an experiment, created if missing; artifacts of an SQLite store are kept beside it."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return experiment.experiment_id
    database = database_of(uri)
    beside = None if database is None else (database.parent / "mlflow_artifacts").resolve().as_uri()
    try:
        return client.create_experiment(name, artifact_location=beside)
    except Exception:  # another process may have been faster, on a server without our lock
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return experiment.experiment_id


@contextmanager
def store_lock(uri: str) -> Iterator[None]:
    """Hold the lock of a store of files in the block, in which the store is created: MLflow's migrations cannot race.

    Args:
        uri: address of the store; a server has locks of its own.

    Raises:
        OSError: if another process holds the lock for longer than :data:`LOCK_WAIT_S`.
    """
    database, folder = database_of(uri), folder_of(uri)
    place = folder / ".lock" if database is None and folder is not None else None
    place = database.with_name(f".{database.name}.lock") if database is not None else place
    if place is None:
        yield
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place, timeout=LOCK_WAIT_S)
    try:
        lock.acquire()
    except Timeout:
        raise OSError(f"{place} is locked by another process for {LOCK_WAIT_S} s: end that process") from None
    try:
        yield
    finally:
        lock.release()


def check_artifact_place(artifact_uri: str, store: str) -> None:
    """Refuse artifacts of a run that lie on this machine, but outside the folder of their store or linked from there.

    Args:
        artifact_uri: where the store says that they are.
        store: its address. A server names no files of this machine.

    Raises:
        ValueError: if they lie elsewhere.
    """
    place = folder_of(artifact_uri)
    if place is None:
        return
    database, folder = database_of(store), folder_of(store)
    home = database.parent if database is not None else folder
    if home is None or not place.resolve().is_relative_to(home.resolve()):
        raise ValueError(
            f"the store {store} keeps artifacts in {place}, outside its folder, which is refused: name another "
            "experiment, or move the artifacts beside the store"
        )
    for path in place.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(home.resolve()):
            raise ValueError(f"{path} is a link out of the store {store}, which is refused: replace it by the file")


def folder_of(uri: str) -> Path | None:
    """Return the folder of a store of files, None of another store."""
    parts = urlparse(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def database_of(uri: str) -> Path | None:
    """Return the file of an SQLite store, None of another store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
