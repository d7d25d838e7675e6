"""From the patterns of a group to one complex picture of the object under all of them."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..config import Network
from ..physics.back_projection import Estimate, backproject
from ..physics.forward_model import intensity
from .base import MultiBackbone
from .heads import HEADS
from .patch_merging import merge
from .registry import ARCHITECTURES


class GroupReconstructor(MultiBackbone):
    """Alternates physics and learning: back-projection improves a canvas, then a network of that pass corrects it.

    One canvas for the group: each pattern is later diffracted from it with its own moved probe, so overlapping patterns
    agree by construction. Which probe it was enters with the back-projection, so one network serves many. A network
    that sees amplitudes alone corrects an empty canvas, once.

    ASSUME the light of a group lies within the field of one pattern: a probe that is moved past the edge comes in again
    at the other side.

    Args:
        settings: architecture, size, passes, what it sees and says.
        window: side of the central square that the networks see and change, px; outside it the back-projection stands.
    """

    def __init__(self, settings: Network, window: int) -> None:
        sees_estimate = settings.input == "backprojection"
        channels = 3 + 3 * settings.group_size if sees_estimate else settings.group_size
        patches = settings.group_size if settings.output == "patches" else 1
        passes = settings.cascades if sees_estimate else 1
        super().__init__(settings, window, channels, 2 * patches, passes)

    def forward(
        self, counts: Tensor, probes: Tensor, mask: Tensor | None = None, relative: Tensor | None = None
    ) -> tuple[list[Tensor], Estimate | None]:
        """The object under the group after each pass, and the back-projection that the first pass started from.

        No gradient flows from one pass to the one before: each learns to correct what it is given.

        Args:
            counts: photons, ``(B, C, N, N)``, zero frequency at the corner.
            probes: modes moved to each pattern, ``(B, C, M, N, N)``.
            mask: 1 where a pixel counts, broadcastable to ``counts``; None where all do.
            relative: where each pattern lies on the canvas, px, ``(B, C, 2)``; asked for where patches of amplitudes
                are merged.

        Returns:
            Canvases ``(B, N, N)``, complex, the last one the best, and the first estimate; None where the network sees
            amplitudes.
        """
        canvases, estimates = [], []
        for backbone in self.backbones:
            start = canvases[-1].detach() if canvases else None
            before, seen, estimate = self._seen(counts, probes, mask, start)
            change = backbone(seen * self.input_scale[:, None, None])
            canvases.append(self._changed(before, change, probes, relative))
            estimates.append(estimate)
        return canvases, estimates[0]

    def normalise(self, counts: Tensor, probes: Tensor, mask: Tensor | None = None) -> None:
        """Scale the input channels so that those of these groups, before the first pass, have a mean square of 1."""
        _, seen, _ = self._seen(counts, probes, mask, None)
        self.input_scale.copy_(seen.square().mean((0, 2, 3)).clamp_min(1e-12).rsqrt())

    def _seen(
        self, counts: Tensor, probes: Tensor, mask: Tensor | None, start: Tensor | None
    ) -> tuple[Tensor, Tensor, Estimate | None]:
        """The canvas to correct, ``(B, N, N)``, what the network sees, ``(B, channels, S, S)``, and the estimate."""
        amplitude = counts.sqrt()
        if self.settings.input == "amplitude":
            return torch.ones_like(probes[:, 0, 0]), self._in_window(normalised(amplitude, mask)), None
        estimate = backproject(amplitude, probes, mask, self.settings.physics_iterations, start)
        return estimate.canvas, self._in_window(estimate.channels()), estimate

    def _changed(self, before: Tensor, change: Tensor, probes: Tensor, relative: Tensor | None) -> Tensor:
        """The canvas ``(B, N, N)`` after what a network says of its window, ``(B, 2 P, S, S)``, in float32."""
        first = self._first(before.shape[-1])
        rest = before.shape[-1] - self.window - first
        parts = pad(change.float(), (first, rest, first, rest)).unflatten(1, (2, -1))
        patches = HEADS[self.settings.head](before[:, None], parts[:, 0], parts[:, 1])
        if self.settings.output == "canvas":
            return patches[:, 0]
        # back-projected patterns lie where they belong already; amplitudes do not know where they were taken
        shift = relative if self.settings.input == "amplitude" else None
        return merge(patches, intensity(probes).sum(2), shift)

    def _in_window(self, channels: Tensor) -> Tensor:
        first = self._first(channels.shape[-1])
        return channels[..., first : first + self.window, first : first + self.window]

    def _first(self, size: int) -> int:
        """First pixel of the window in patterns of ``size`` px."""
        return size // 2 - self.window // 2


def normalised(amplitude: Tensor, mask: Tensor | None = None) -> Tensor:
    """Amplitudes of each group over their own root mean square, zero frequency in the middle: blind to the dose.

    Args:
        amplitude: ``(B, C, N, N)``, zero frequency at the corner.
        mask: 1 where a pixel counts; others are 0.
    """
    if mask is not None:
        amplitude = amplitude * mask
    power = amplitude.square().mean((-3, -2, -1), keepdim=True)
    return torch.fft.fftshift(amplitude * power.clamp_min(1e-12).rsqrt(), dim=(-2, -1))


def window_side(settings: Network, illumination: Tensor) -> int:
    """Side of the central square that a network of these settings works on, px.

    Where the light of the groups lies; a network that sees amplitudes needs the whole pattern.

    Args:
        settings: of the network.
        illumination: light on each group's canvas, ``(B, N, N)``.

    Raises:
        ValueError: if patterns are too small for the network.
    """
    size, stride = illumination.shape[-1], ARCHITECTURES[settings.architecture].stride(settings.depth)
    if size < stride:
        raise ValueError(
            f"network.depth {settings.depth} halves patterns down from {stride} px, these have {size}: lower it"
        )
    return size // stride * stride if settings.input == "amplitude" else lit_side(illumination, stride)


def lit_side(illumination: Tensor, stride: int, share: float = 0.97) -> int:
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
