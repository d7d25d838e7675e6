"""Verify that a packed dataset is unchanged."""

import logging
from pathlib import Path

from ..io.dataset import verify_dataset

logger = logging.getLogger(__name__)


def verify(dataset: Path) -> None:
    """Verify that a dataset is unchanged since it was packed.

    Reads a dataset and compares each array with its checksum. Makes nothing.

    Args:
        dataset: the dataset folder.

    Raises:
        FileNotFoundError: if the dataset does not exist.
        ValueError: if an array changed or is damaged.

    Example:
        ptychoflow dataset verify datasets/star
    """
    for name, checksum in verify_dataset(dataset).items():
        logger.info("%s/%s.npy is unchanged, XXH3-64 %s", dataset, name, checksum)
