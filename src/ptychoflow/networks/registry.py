"""The architectures by their names in the config."""

from typing import Any

from ..config import Network
from .backbone import Backbone
from .cnn import TwoDecoderCNN
from .fno import FNO
from .unet import UNet

ARCHITECTURES: dict[str, type[Backbone]] = {"unet": UNet, "fno": FNO, "cnn": TwoDecoderCNN}
"""Each is made with ``in_channels, out_channels, base_channels, depth`` and the settings that act on it alone."""


def build(settings: Network, in_channels: int, out_channels: int) -> Backbone:
    """Build the architecture that the settings name, with fresh weights from the global random generator.

    Args:
        settings: architecture and size.
        in_channels: channels of the input.
        out_channels: channels of the output.
    """
    make: Any = ARCHITECTURES[settings.architecture]  # arguments beyond nn.Module's are those of each architecture
    specific = {name: getattr(settings, name) for name in settings.acting_on(settings.architecture)}
    if settings.architecture == "cnn":  # the only one whose layers depend on the head
        specific["head"] = settings.head
    return make(in_channels, out_channels, base_channels=settings.base_channels, depth=settings.depth, **specific)
