"""Attention over channels and places, after CBAM (Woo et al. 2018): optional, because it makes training less sure."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Weighs each channel by what it holds anywhere, then each place by what all channels hold there.

    Args:
        channels: of the features.
        share: hidden channels of the first gate are this part of them, at least 4.
        reach: side of the second gate's kernel, px.
    """

    def __init__(self, channels: int, share: int = 16, reach: int = 7) -> None:
        super().__init__()
        hidden = max(4, channels // share)
        self.of_channels = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.of_places = nn.Conv2d(2, 1, reach, padding=reach // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape, each times a number between 0 and 1."""
        pooled = self.of_channels(x.mean((-2, -1), keepdim=True)) + self.of_channels(x.amax((-2, -1), keepdim=True))
        x = x * torch.sigmoid(pooled)
        places = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.of_places(places))


def attend(channels: int, wanted: bool) -> nn.Module:
    """Attention where it is wanted, else nothing."""
    return Attention(channels) if wanted else nn.Identity()
