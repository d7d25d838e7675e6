"""The networks by their names in the config."""

from .unet import UNet

ARCHITECTURES = {"unet": UNet}
"""Each is called with ``in_channels, out_channels, width, levels`` and maps ``(B, in, S, S)`` to ``(B, out, S, S)``;
``stride(levels)`` divides S."""
