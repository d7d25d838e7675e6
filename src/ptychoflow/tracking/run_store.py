"""Runs in MLflow stores: search, copy, models and registry, through the client alone.

The store is always an argument. The global tracking URI of MLflow is neither read nor set, so that a program that uses
MLflow for something else is not disturbed.
"""

import logging
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ..io.json_file import read_json
from ..models.checkpoint import Model
from ..models.model_folder import read_model_folder
from .logger import check_artifact_place, database_of, experiment_in, flatten, folder_of, store_lock

logger = logging.getLogger(__name__)

TRAINING_LOG = "training.json"
"""Artifact of a run with the training log."""
MODEL = "model"
"""Artifact folder of a run with its model."""
HEALTH_TIMEOUT_S = 5
METRICS_AT_ONCE, PARAMETERS_AT_ONCE = 1000, 100


def open_store(uri: str, make: bool = False) -> Any:
    """Return a client of an MLflow store.

    Args:
        uri: ``sqlite:///FILE``, ``file:///FOLDER`` or a path, ``http://SERVER``.
        make: create a missing store of files instead of raising an error.

    Raises:
        FileNotFoundError: if the store does not exist.
        ConnectionError: if the server does not answer.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    place = database_of(uri) or folder_of(uri)
    if folder_of(uri) is not None:
        # MLflow opens a folder only on request; naming one is the request
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    if place is not None and make:
        (place.parent if uri.startswith("sqlite:") else place).mkdir(parents=True, exist_ok=True)
    elif place is not None and not place.exists():
        raise FileNotFoundError(f"tracking store not found: {uri}")
    elif place is None:
        _check_answers(uri)
    with store_lock(uri):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)  # creates the tables of a new database
    return client


def find_run(client: Any, uri: str, run_id: str) -> Any:
    """Return the run of this id.

    Raises:
        FileNotFoundError: if the store has no run of this id.
        ValueError: if its artifacts lie outside the store.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(f"run {run_id} not found in {uri} ({reason})") from None
    check_artifact_place(run.info.artifact_uri, uri)
    return run


def new_run(client: Any, uri: str, experiment: str, name: str, parameters: Mapping[str, Any]) -> str:
    """Create a finished run with nested parameters under dotted names and return its id."""
    run = client.create_run(experiment_in(client, uri, experiment), run_name=name)
    check_artifact_place(run.info.artifact_uri, uri)
    run_id = run.info.run_id
    _log_parameters(client, run_id, flatten(dict(parameters)))
    client.set_terminated(run_id)
    return run_id


def copy_run(source: str, run_id: str, destination: str, experiment: str | None = None, but: str | None = None) -> str:
    """Copy a run: name, parameters, tags, the full history of every metric, artifacts, status and times.

    Args:
        source: store that holds the run.
        run_id: id of the run.
        destination: store to copy to; a missing store of files is created.
        experiment: name of the experiment in ``destination``; None keeps that of the source.
        but: artifact folder to leave out.

    Returns:
        The id of the copy.

    Raises:
        FileNotFoundError: if the store or the run does not exist.
        ConnectionError: if a server does not answer.
    """
    origin, target = open_store(source), open_store(destination, make=True)
    run = find_run(origin, source, run_id)
    name = experiment or origin.get_experiment(run.info.experiment_id).name
    number = experiment_in(target, destination, name)
    copied = target.create_run(number, run.info.start_time, dict(run.data.tags), run.info.run_name)
    check_artifact_place(copied.info.artifact_uri, destination)
    copy = copied.info.run_id
    _log_parameters(target, copy, run.data.params)
    for metric in run.data.metrics:
        history = origin.get_metric_history(run_id, metric)
        for first in range(0, len(history), METRICS_AT_ONCE):
            target.log_batch(copy, metrics=history[first : first + METRICS_AT_ONCE])
    with artifacts(origin, source, run_id) as folder:
        if but is not None:
            shutil.rmtree(folder / but, ignore_errors=True)
        if any(folder.iterdir()):
            target.log_artifacts(copy, str(folder))
    target.set_terminated(copy, run.info.status, run.info.end_time)
    logger.info("copied run %s of %s to %s as %s", run_id, source, destination, copy)
    return copy


def model_of_run(uri: str, run_id: str) -> Model:
    """Read the model that was logged with a run.

    Raises:
        FileNotFoundError: if the store, the run or its model does not exist.
        ConnectionError: if the server does not answer.
        ValueError: if the model was altered, a newer version wrote it, or it is damaged.
    """
    client = open_store(uri)
    find_run(client, uri, run_id)
    with artifacts(client, uri, run_id, MODEL) as folder:
        checksums = sorted(folder.rglob("checksums.json"))
        if not checksums:
            raise FileNotFoundError(f"ptychoflow model not found in run {run_id} of {uri}")
        return read_model_folder(checksums[0].parent)


def recorded_config(uri: str, run_id: str) -> dict[str, dict[str, Any]]:
    """Return the settings of a training by section, from its logged model or its training log.

    Raises:
        FileNotFoundError: if the store or the run does not exist, or the run holds neither.
        ConnectionError: if the server does not answer.
    """
    client = open_store(uri)
    find_run(client, uri, run_id)
    kept = {item.path for item in client.list_artifacts(run_id)}
    if MODEL in kept or TRAINING_LOG not in kept:
        return model_of_run(uri, run_id).metadata.get("config", {})
    with tempfile.TemporaryDirectory() as scratch:
        return read_json(Path(client.download_artifacts(run_id, TRAINING_LOG, scratch)))["config"]


def register(uri: str, run_id: str, name: str) -> str:
    """Register the model of a run in the registry of its store and return the version.

    Raises:
        ValueError: if the store is one of files, for which MLflow would open the global one, or refuses the name.
    """
    from mlflow.exceptions import MlflowException

    if folder_of(uri) is not None:
        raise ValueError(f"{uri} is a store of files, which has no registry: name a database or a server")
    client = open_store(uri)
    source = f"{find_run(client, uri, run_id).info.artifact_uri}/{MODEL}"
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise ValueError(f"{uri} does not register {name}: {str(error).splitlines()[0]}") from None
    return str(client.create_model_version(name, source, run_id).version)


def run_of_version(uri: str, name: str, version: str | int) -> str:
    """Return the id of the run whose model was registered under a name and version.

    Raises:
        FileNotFoundError: if the registry has no such version.
    """
    from mlflow.exceptions import MlflowException

    try:
        return open_store(uri).get_model_version(name, str(version)).run_id
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(f"model {name} version {version} not found in {uri} ({reason})") from None


@contextmanager
def artifacts(client: Any, uri: str, run_id: str, path: str = "") -> Iterator[Path]:
    """Yield a temporary folder with a run's artifacts below ``path``; it is empty if the run has none.

    Raises:
        ValueError: if the store names artifacts that cannot be fetched.
    """
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            if client.list_artifacts(run_id, path or None):
                client.download_artifacts(run_id, path, scratch)
        except (MlflowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"artifacts of run {run_id} in {uri} cannot be fetched ({reason})") from None
        yield folder


def _log_parameters(client: Any, run_id: str, parameters: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    rows = [Param(key, str(value)) for key, value in parameters.items()]
    for first in range(0, len(rows), PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=rows[first : first + PARAMETERS_AT_ONCE])


def _check_answers(uri: str) -> None:
    """Check the health of a server, so that an unreachable one is reported in seconds, not after minutes of retries."""
    if urlparse(uri).scheme not in ("http", "https"):
        return
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=HEALTH_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return  # it answers, although it may require a login
    except OSError as error:
        raise ConnectionError(f"tracking server {uri} does not answer ({error}): start it, or name another") from None
