"""The network, as far as ptychodus handles it itself."""

from pathlib import Path
from typing import Any

from ptychoflow.api import PtychoModel as Network
from ptychoflow.plugins.ptychodus.backend import TRAINING_LOSS, VALIDATION_LOSS


class PtychoPINN_Lightning:
    """A network of ours; None before it is trained.

    Attributes:
        loss_name: what its training loss is called among Lightning's metrics.
        val_loss_name: the same of its validation.
    """

    loss_name, val_loss_name = TRAINING_LOSS, VALIDATION_LOSS

    def __init__(self, network: Network | None = None) -> None:
        self.network = network

    @classmethod
    def load_from_checkpoint(cls, path: Path, **configs: Any) -> "PtychoPINN_Lightning":
        """The network in a checkpoint; its settings are in it, those that are handed along came from there."""
        return cls(Network.load(path))
