"""Predict the object under groups that hold every pattern of a scan: patches on disk, ready to be stitched."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path

from ..config import Inference, Runtime
from ..inference.prediction import Prediction
from ..io.atomic import atomic_dir, write_json
from ..io.dataset import open_dataset
from ..io.patch_store import FILES, seal
from ..io.provenance import record_provenance
from ..models.checkpoint import read_model

logger = logging.getLogger(__name__)


def infer(
    model: Path, dataset: Path, output: Path, inference: Inference = Inference(), runtime: Runtime = Runtime()
) -> None:
    """Predict object patches of a scan with a network.

    Reads a checkpoint and a dataset. Makes a folder of patches, one part for each process; every pattern is in the
    group of at least one patch.

    Args:
        model: a checkpoint that ``train`` wrote.
        dataset: the scan, of patterns as large as those the network was trained on.
        output: the folder of patches.
        inference: groups, what to keep of each patch, precision.
        runtime: devices, workers, groups at once.

    Raises:
        FileNotFoundError: if the model or the dataset is missing.
        ValueError: if either is damaged, or they do not suit each other.

    Example:
        ptychoflow infer pinn.ckpt datasets/star patches/star --set runtime.devices=2
    """
    began = time.perf_counter()
    scan = open_dataset(dataset)
    prediction = Prediction(read_model(model), scan, inference, runtime)
    groups = len(prediction.data.rows)
    logger.info("read %s and %s: %d patterns in %d groups", model, dataset, len(scan), groups)
    with ExitStack() as stack:
        writer, first = prediction.run(lambda: stack.enter_context(atomic_dir(output, (*FILES, "timing.json"))))
        if not first or writer.folder is None:
            return
        seal(writer.folder, record_provenance(inference, model=model, dataset=dataset))
        timing = prediction.timing(time.perf_counter() - began)
        write_json(writer.folder / "timing.json", timing)
    spent = ", ".join(f"{name} {value:.2g}" for name, value in timing["seconds"].items())
    logger.info("predicted %s: %d patches of %d px (s: %s)", output, groups, prediction.size, spent)
