"""Train networks in memory: the ``train`` command as an object."""

import tempfile
from pathlib import Path
from typing import Any

from ..runtime.extras import names_extra
from .config import ConfigManager
from .data import PtychoDataLoader, loader_of
from .model import PtychoModel


class Trainer:
    """Train a network on scans.

    Args:
        data: a :class:`PtychoDataLoader`, or what it takes.
        config: sections ``network``, ``training``, ``runtime`` and ``tracking``; those of the loader without it.
    """

    def __init__(self, data: "PtychoDataLoader | Any", config: ConfigManager | None = None) -> None:
        self.loader = loader_of(data, config)
        self.config = self.loader.config

    @names_extra
    def train(self, output: Path | str | None = None) -> PtychoModel:
        """Train the network.

        Args:
            output: checkpoint to write, beside it its record; an interrupted training then resumes. Nothing is kept on
                disk without it.

        Raises:
            ValueError: if the scans do not suit each other or the settings, the training collapses, or something
                else than a checkpoint stands at the output.
        """
        from ..commands.train import train
        from ..io.output_guard import check_outputs
        from ..io.product_kinds import CHECKPOINT, TRAINING_LOG

        with tempfile.TemporaryDirectory() as scratch, self.loader.folders() as folders:
            path = Path(output) if output is not None else Path(scratch) / "networks" / "model.ckpt"
            check_outputs([(path, CHECKPOINT), (path.with_suffix(".json"), TRAINING_LOG)], folders)
            config = self.config
            train(folders, path, config.network, config.training, config.runtime, config.tracking)
            return PtychoModel.load(path)
