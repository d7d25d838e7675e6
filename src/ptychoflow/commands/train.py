"""Train a network on datasets; write its weights and the log of its training."""

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import lightning

from ..config import Network, Runtime, Tracking, Training
from ..io.atomic import write_json
from ..io.provenance import sha256
from ..models.checkpoint import write_model
from ..tracking.logged_model import write_mlflow_model
from ..tracking.logger import Tracker
from ..training.image_logger import ValidationImages
from ..training.run import TrainingRun, UnusableStateError

logger = logging.getLogger(__name__)


def train(
    datasets: Sequence[Path],
    output: Path,
    network: Network = Network(),
    training: Training = Training(),
    runtime: Runtime = Runtime(),
    tracking: Tracking = Tracking(),
    callbacks: Sequence[lightning.Callback] = (),
    start: Path | None = None,
) -> None:
    """Train a network on datasets.

    Reads datasets. Makes a checkpoint and, beside it under the same stem, a JSON file with loss curves and timings.

    An interrupted training resumes from ``checkpoints/`` beside the output's folder; other settings start afresh.

    Args:
        datasets: dataset folders to train on, with probes of their own but patterns of one size.
        output: the checkpoint, ``.ckpt``.
        network: architecture; that of ``start`` where it is given.
        training: stages, losses, learning rate, groups.
        runtime: devices and workers.
        tracking: MLflow's store.
        callbacks: further callbacks of Lightning.
        start: a checkpoint to fine-tune, instead of a network with random weights.

    Raises:
        FileNotFoundError: if a dataset or ``start`` is missing.
        ValueError: if the datasets do not suit each other or the settings, the output is not a ``.ckpt``, or the
            training collapses.
        OSError: if the output cannot be written.
        SystemExit: with 143 after SIGTERM; the state of the training is kept.

    Example:
        ptychoflow train datasets/leaves pinn.ckpt --set training.stages='[{epochs: 3}]'
    """
    began = time.perf_counter()
    tracker = Tracker(tracking, Path(output).stem)
    images = [] if tracking.uri is None else [ValidationImages()]
    prepare = partial(TrainingRun, datasets, output, network, training, runtime, tracker, [*callbacks, *images], start)
    run = prepare()
    tracker.remember_in(run.checkpoints / "mlflow_run.json")
    tracker.log_hyperparams(run.origin["config"])
    try:
        is_first = run.fit()
    except UnusableStateError:
        if runtime.devices * runtime.nodes > 1:
            raise  # the other processes have to begin anew as well
        run = prepare()
        is_first = run.fit()
    if not is_first:
        return
    model, training_log = run.result()
    record = {"method": Path(output).stem, "seconds": time.perf_counter() - began, **training_log}
    record["tracking"] = {"uri": tracking.uri, "run": tracker.version}
    write_model(output, model)
    record["checkpoint_sha256"] = sha256(output)
    write_json(Path(output).with_suffix(".json"), record)
    tracker.log_record(record, "training.json")
    tracker.keep("model", lambda folder: write_mlflow_model(folder, model))
    tracker.close()
    run.remove_checkpoints()
    metrics = [f"{name} {column[-1]:.3g}" for name, column in record["validation"].items() if name != "epoch"]
    logger.info(
        "trained %s: %d steps in %.0f s, %.0f patterns/s, waited %.1f %% for data; validation: %s",
        output,
        record["steps"],
        record["seconds"],
        record["patterns_per_second"],
        100 * record["data_wait_share"],
        ", ".join(metrics) or "none",
    )
