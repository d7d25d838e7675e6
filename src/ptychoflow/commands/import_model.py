"""Import a network that another program has trained."""

import logging
from pathlib import Path

from ..interop.ptychopinn.checkpoint import read_reference_model
from ..models.checkpoint import write_model

logger = logging.getLogger(__name__)


def import_model(source: Path, output: Path) -> None:
    """Import a network of PtychoPINN.

    Reads a checkpoint of its torch backend, or the folder of an MLflow run, without running code from it. Makes a
    checkpoint that ``infer`` and ``reconstruct`` take, whose patches are those that PtychoPINN predicts.

    Args:
        source: the Lightning checkpoint (``.ckpt``), or the folder of a run that holds one.
        output: the checkpoint, ``.ckpt``.

    Raises:
        FileNotFoundError: if no checkpoint is found.
        ValueError: if it is damaged, holds pickled objects, or a network that cannot be predicted with.

    Example:
        ptychoflow import best-checkpoint.ckpt imported.ckpt
    """
    model = read_reference_model(source)
    write_model(output, model)
    settings = model.network.settings
    weights = sum(weight.numel() for weight in model.network.parameters())
    logger.info(
        "imported %s to %s: %d weights, patterns of %d px in groups of %d, %s as input",
        *(source, output, weights, model.size, settings.group_size, settings.input),
    )
