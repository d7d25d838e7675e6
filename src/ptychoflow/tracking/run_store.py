"""Runs in MLflow stores: found, copied whole, given a model; through the client alone, whatever the store.

The store is always named. The global tracking URI of MLflow is neither read nor set, so a program that uses MLflow for
something else is not disturbed.
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
from urllib.parse import unquote, urlparse

from ..io.atomic import read_json
from ..models.checkpoint import Model
from ..models.model_folder import read_model_folder
from .logger import database_of, experiment_in, flatten

logger = logging.getLogger(__name__)

RECORD = "training.json"
"""Artifact of a run that says how a training went."""
MODEL = "model"
"""Artifact folder of a run that holds its model."""
ANSWERS_WITHIN_S = 5
METRICS_AT_ONCE, PARAMETERS_AT_ONCE = 1000, 100


def open_store(uri: str, make: bool = False) -> Any:
    """A client of an MLflow store.

    Args:
        uri: ``sqlite:///FILE``, ``file:///FOLDER`` or a path, ``http://SERVER``.
        make: whether to make a store of files that is not there; otherwise that is an error.

    Raises:
        FileNotFoundError: if there is no such store.
        ConnectionError: if the server does not answer.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    place = database_of(uri) or _folder_of(uri)
    if _folder_of(uri) is not None:
        # MLflow opens a folder only for those who say that they mean it; naming one is to mean it
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    if place is not None and make:
        (place.parent if uri.startswith("sqlite:") else place).mkdir(parents=True, exist_ok=True)
    elif place is not None and not place.exists():
        raise FileNotFoundError(f"there is no tracking store {uri}")
    elif place is None:
        _check_answers(uri)
    return MlflowClient(uri)


def find_run(client: Any, uri: str, run_id: str) -> Any:
    """A run by its id.

    Raises:
        FileNotFoundError: if the store has none of that id.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(f"there is no run {run_id} in {uri} ({reason})") from None


def new_run(client: Any, uri: str, experiment: str, name: str, parameters: Mapping[str, Any]) -> str:
    """The id of a fresh, finished run that holds nested parameters under dotted names."""
    run_id = client.create_run(experiment_in(client, uri, experiment), run_name=name).info.run_id
    _log_parameters(client, run_id, flatten(dict(parameters)))
    client.set_terminated(run_id)
    return run_id


def copy_run(source: str, run_id: str, destination: str, experiment: str | None = None, but: str | None = None) -> str:
    """Copy a run whole: name, parameters, tags, the full history of every metric, artifacts, status and times.

    Args:
        source: store that holds it.
        run_id: the run.
        destination: store to copy to; made if it is one of files and not there.
        experiment: name of the experiment there; the same as in the source without it.
        but: artifact folder to leave out.

    Returns:
        The id of the copy.

    Raises:
        FileNotFoundError: if there is no such store or run.
        ConnectionError: if a server does not answer.
    """
    here, there = open_store(source), open_store(destination, make=True)
    run = find_run(here, source, run_id)
    name = experiment or here.get_experiment(run.info.experiment_id).name
    number = experiment_in(there, destination, name)
    copy = there.create_run(number, run.info.start_time, dict(run.data.tags), run.info.run_name).info.run_id
    _log_parameters(there, copy, run.data.params)
    for metric in run.data.metrics:
        history = here.get_metric_history(run_id, metric)
        for first in range(0, len(history), METRICS_AT_ONCE):
            there.log_batch(copy, metrics=history[first : first + METRICS_AT_ONCE])
    with artifacts(here, source, run_id) as folder:
        if but is not None:
            shutil.rmtree(folder / but, ignore_errors=True)
        if any(folder.iterdir()):
            there.log_artifacts(copy, str(folder))
    there.set_terminated(copy, run.info.status, run.info.end_time)
    logger.info("copied run %s of %s to %s as %s", run_id, source, destination, copy)
    return copy


def model_of_run(uri: str, run_id: str) -> Model:
    """The model that a run keeps.

    Raises:
        FileNotFoundError: if there is no such store or run, or the run keeps no model.
        ConnectionError: if the server does not answer.
        ValueError: if the model was altered, a newer version wrote it, or it is damaged.
    """
    client = open_store(uri)
    find_run(client, uri, run_id)
    with artifacts(client, uri, run_id, MODEL) as folder:
        found = sorted(folder.rglob("checksums.json"))
        if not found:
            raise FileNotFoundError(f"run {run_id} in {uri} keeps no model of ptychoflow")
        return read_model_folder(found[0].parent)


def recorded_config(uri: str, run_id: str) -> dict[str, dict[str, Any]]:
    """The settings a run was trained with, by section: from the model it keeps, or from its record.

    Raises:
        FileNotFoundError: if there is no such store or run, or the run holds neither.
        ConnectionError: if the server does not answer.
    """
    client = open_store(uri)
    find_run(client, uri, run_id)
    kept = {item.path for item in client.list_artifacts(run_id)}
    if MODEL in kept or RECORD not in kept:
        return model_of_run(uri, run_id).metadata.get("config", {})
    with tempfile.TemporaryDirectory() as scratch:
        return read_json(Path(client.download_artifacts(run_id, RECORD, scratch)))["config"]


def register(uri: str, run_id: str, name: str) -> str:
    """Enter the model of a run into the registry of its store; returns the version.

    Raises:
        ValueError: if the store is one of files, for which MLflow would open the global one, or refuses the name.
    """
    from mlflow.exceptions import MlflowException

    if _folder_of(uri) is not None:
        raise ValueError(f"{uri} is a store of files and has no registry of its own: name a database or a server")
    client = open_store(uri)
    source = f"{find_run(client, uri, run_id).info.artifact_uri}/{MODEL}"
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise ValueError(f"{uri} does not register {name}: {str(error).splitlines()[0]}") from None
    return str(client.create_model_version(name, source, run_id).version)


def run_of_version(uri: str, name: str, version: str | int) -> str:
    """The run whose model was registered under a name and version.

    Raises:
        FileNotFoundError: if the registry has none.
    """
    from mlflow.exceptions import MlflowException

    try:
        return open_store(uri).get_model_version(name, str(version)).run_id
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(f"there is no model {name} version {version} in {uri} ({reason})") from None


@contextmanager
def artifacts(client: Any, uri: str, run_id: str, path: str = "") -> Iterator[Path]:
    """A folder with a run's artifacts below ``path``, gone when the block ends; empty where there are none.

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


def _folder_of(uri: str) -> Path | None:
    """The folder of a store of files."""
    parts = urlparse(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _check_answers(uri: str) -> None:
    """Ask a server for its health, so that one that is down is told in seconds, not after minutes of retries."""
    if urlparse(uri).scheme not in ("http", "https"):
        return
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWERS_WITHIN_S).close()
    except urllib.error.HTTPError:
        return  # it answers, if only to ask who we are
    except OSError as error:
        raise ConnectionError(f"tracking server {uri} does not answer ({error}): start it, or name another") from None
