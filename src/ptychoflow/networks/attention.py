"""Channel and spatial attention after CBAM (Woo et al. 2018); optional, because it makes training less reliable."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Weigh each channel by its pooled values, then each pixel by those of all channels (CBAM).

    Args:
        channels: number of feature channels.
        hidden: hidden channels of the channel gate; a sixteenth of ``channels``, at least 4, without it.
        kernel_size: side of the spatial gate's kernel, px.
        spatial_bias: give the spatial gate a bias.
    """

    def __init__(
        self, channels: int, hidden: int | None = None, kernel_size: int = 7, spatial_bias: bool = True
    ) -> None:
        super().__init__()
        hidden = hidden or max(4, channels // 16)
        self.channel_gate = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.spatial_gate = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=spatial_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features ``(B, channels, S, S)``, each multiplied by a weight between 0 and 1."""
        pooled = self.channel_gate(x.mean((-2, -1), keepdim=True)) + self.channel_gate(x.amax((-2, -1), keepdim=True))
        x = x * torch.sigmoid(pooled)
        extremes = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial_gate(extremes))


def attention_or_identity(channels: int, attention: bool) -> nn.Module:
    """Return an :class:`Attention` layer if ``attention`` is set, else the identity."""
    return Attention(channels) if attention else nn.Identity()
