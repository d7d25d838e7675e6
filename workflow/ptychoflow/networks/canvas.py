"""From the patterns of a group to one complex picture of the object under all of them."""

import torch
from torch import Tensor, nn

from ..config import Network
from .architectures import ARCHITECTURES
from .estimate import Estimate, backproject


class CanvasNetwork(nn.Module):
    """Alternates physics and learning: back-projection improves a canvas, then a network of that pass corrects it.

    One canvas for the group: each pattern is later diffracted from it with its own moved probe, so overlapping patterns
    agree by construction. Which probe it was enters with the back-projection, so one network serves many.

    ASSUME the light of a group lies within the field of one pattern: a probe that is moved past the edge comes in again
    at the other side.

    Args:
        settings: architecture, size, passes.
        window: side of the central square that the networks see and change, px; outside it the back-projection stands.
    """

    def __init__(self, settings: Network, window: int) -> None:
        super().__init__()
        channels, architecture = 3 + 3 * settings.group_size, ARCHITECTURES[settings.architecture]
        self.settings = settings
        self.window = window
        self.backbones = nn.ModuleList(
            architecture(channels, 2, settings.width, settings.levels) for _ in range(settings.passes)
        )
        self.register_buffer("input_scale", torch.ones(channels))

    def forward(self, counts: Tensor, probes: Tensor, mask: Tensor | None = None) -> tuple[list[Tensor], Estimate]:
        """The object under the group after each pass, and the back-projection that the first pass started from.

        No gradient flows from one pass to the one before: each learns to correct what it is given.

        Args:
            counts: photons, ``(B, C, N, N)``, zero frequency at the corner.
            probes: modes moved to each pattern, ``(B, C, M, N, N)``.
            mask: 1 where a pixel counts, broadcastable to ``counts``; None where all do.

        Returns:
            Canvases ``(B, N, N)``, complex, the last one the best, and the first estimate.
        """
        amplitude, canvases, estimates = counts.sqrt(), [], []
        for backbone in self.backbones:
            start = canvases[-1].detach() if canvases else None
            estimates.append(backproject(amplitude, probes, mask, self.settings.iterations, start))
            canvases.append(self._corrected(estimates[-1], backbone))
        return canvases, estimates[0]

    def normalise(self, estimate: Estimate) -> None:
        """Scale the input channels so that those of ``estimate`` have a mean square of 1."""
        self.input_scale.fill_(1)
        self.input_scale.copy_(self._inputs(estimate).square().mean((0, 2, 3)).clamp_min(1e-12).rsqrt())

    def _corrected(self, estimate: Estimate, backbone: nn.Module) -> Tensor:
        change = backbone(self._inputs(estimate))
        change = torch.view_as_complex(change.movedim(1, -1).contiguous())
        before = self._first(estimate.canvas.shape[-1])
        after = estimate.canvas.shape[-1] - self.window - before
        return estimate.canvas + nn.functional.pad(change, (before, after, before, after))

    def _inputs(self, estimate: Estimate) -> Tensor:
        channels = estimate.channels()
        first = self._first(channels.shape[-1])
        seen = channels[..., first : first + self.window, first : first + self.window]
        return seen * self.input_scale[:, None, None]

    def _first(self, size: int) -> int:
        """First pixel of the window in patterns of ``size`` px."""
        return size // 2 - self.window // 2


def window_for(illumination: Tensor, stride: int, share: float = 0.97) -> int:
    """Side of the smallest central square, a multiple of ``stride``, that holds ``share`` of the light of every group.

    Args:
        illumination: light on each group's canvas, ``(B, N, N)``.
        stride: what the network divides by.
        share: of each group's light.
    """
    size = illumination.shape[-1]
    total = illumination.sum((-2, -1))
    for window in range(stride, size, stride):
        first = size // 2 - window // 2
        inside = illumination[:, first : first + window, first : first + window].sum((-2, -1))
        if bool((inside >= share * total).all()):
            return window
    return size // stride * stride
