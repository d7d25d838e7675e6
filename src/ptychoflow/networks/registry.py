"""The networks by their names in the config."""

from torch import nn

from ..config import Network
from .cnn import TwoDecoderCNN
from .fno import FNO
from .unet import UNet

ARCHITECTURES = {"unet": UNet, "fno": FNO, "cnn": TwoDecoderCNN}
"""Each is called with ``in_channels, out_channels, width, levels`` and the settings that act on it alone, and maps
``(B, in, S, S)`` to ``(B, out, S, S)``; ``stride(levels)`` divides S, ``encoder()`` is what fine-tuning keeps."""


def build(settings: Network, in_channels: int, out_channels: int) -> nn.Module:
    """The architecture that the settings name, as large as they say."""
    own = {name: getattr(settings, name) for name in settings.acting_on(settings.architecture)}
    return ARCHITECTURES[settings.architecture](
        in_channels, out_channels, settings.base_channels, settings.depth, **own
    )
