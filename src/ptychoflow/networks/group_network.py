"""The network of a group: from its patterns to one complex image of the object under all of them."""

import torch
from torch import Tensor

from ..config import Network
from ..physics.back_projection import Estimate, backproject
from ..physics.forward_model import intensity
from ..physics.propagation import FAR_FIELD, Propagator
from .base import MultiBackbone
from .heads import HEADS
from .patch_merging import merge, translate
from .registry import ARCHITECTURES


class GroupReconstructor(MultiBackbone):
    """Alternate physics and learning: in each cascade back-projection improves a canvas, then a network corrects it.

    A group has one canvas: each pattern is later diffracted from it with its own shifted probe, so overlapping patterns
    agree by construction. The probe enters with the back-projection, so one network serves many probes. A network that
    sees patterns alone corrects a uniform canvas, once.

    ASSUME the illumination of a group lies within the field of one pattern: a probe that is moved past the edge wraps
    around to the other side.

    Args:
        settings: architecture, size, cascades, input and output.
        window: side of the central square that the networks see and change, px; outside it the back-projection stands.
    """

    def __init__(self, settings: Network, window: int) -> None:
        sees_estimate = settings.input == "backprojection"
        channels = 3 + 3 * settings.group_size if sees_estimate else settings.group_size
        patches = settings.group_size if settings.output == "patches" else 1
        cascades = settings.cascades if sees_estimate else 1
        super().__init__(settings, window, channels, 2 * patches, cascades)

    def forward(
        self,
        counts: Tensor,
        probes: Tensor,
        mask: Tensor | None = None,
        relative: Tensor | None = None,
        propagate: Propagator = FAR_FIELD,
    ) -> tuple[list[Tensor], Estimate | None]:
        """Reconstruct the object under each group, cascade by cascade.

        No gradient flows from one cascade to the one before: each learns to correct its own input.

        Args:
            counts: photons, ``(B, C, N, N)``, zero frequency at the corner.
            probes: modes shifted to each pattern, sqrt(photons), ``(B, C, M, N, N)``.
            mask: 1 for valid detector pixels, broadcastable to ``counts``; None where all are valid.
            relative: position of each pattern on the canvas, px, ``(B, C, 2)``; needed where patches of amplitudes
                are merged.
            propagate: from the exit waves of these probes to the detector.

        Returns:
            Canvases after each cascade, complex, ``(B, N, N)``, the last the best; and the back-projection that the
            first cascade started from, None where the network sees patterns alone.
        """
        canvases: list[Tensor] = []
        estimates: list[Estimate | None] = []
        for backbone in self.backbones:
            start = canvases[-1].detach() if canvases else None
            before, features, estimate = self._features(counts, probes, mask, start, propagate)
            change = backbone(features * self.input_scale[:, None, None])
            canvases.append(self._apply_change(before, change, probes, relative))
            estimates.append(estimate)
        return canvases, estimates[0]

    def patches(self, patterns: Tensor) -> Tensor:
        """Return the patch that a network which sees patterns alone makes of each, ``(B, C, N, N)``, not merged.

        Args:
            patterns: input of the network as it is, scaled by the caller, ``(B, C, N, N)``, zero frequency in the
                middle.

        Raises:
            ValueError: if the network sees more than patterns, or they are of another shape.
        """
        expected = (self.settings.group_size, self.window, self.window)
        if not self.settings.sees_patterns:
            raise ValueError(f"the network sees {self.settings.input}, not patterns alone: use predict")
        if tuple(patterns.shape[1:]) != expected:
            raise ValueError(f"expected patterns (B, {', '.join(map(str, expected))}), got {tuple(patterns.shape)}")
        parts = self.backbones[0](patterns).float().unflatten(1, (2, -1))
        uniform = torch.ones_like(parts[:, 0], dtype=torch.complex64)
        return HEADS[self.settings.head](uniform, parts[:, 0], parts[:, 1])

    def normalise(
        self, counts: Tensor, probes: Tensor, mask: Tensor | None = None, propagate: Propagator = FAR_FIELD
    ) -> None:
        """Scale the input channels to a mean square of 1 over these groups, at the first cascade.

        Args:
            counts: photons, ``(B, C, N, N)``, zero frequency at the corner.
            probes: modes shifted to each pattern, ``(B, C, M, N, N)``.
            mask: 1 for valid detector pixels.
            propagate: from the exit waves of these probes to the detector.
        """
        _, features, _ = self._features(counts, probes, mask, None, propagate)
        self.input_scale.copy_(features.square().mean((0, 2, 3)).clamp_min(1e-12).rsqrt())

    def _features(
        self, counts: Tensor, probes: Tensor, mask: Tensor | None, start: Tensor | None, propagate: Propagator
    ) -> tuple[Tensor, Tensor, Estimate | None]:
        """Return the canvas to correct ``(B, N, N)``, the network's input ``(B, channels, S, S)``, the estimate."""
        if self.settings.sees_patterns:
            patterns = counts if self.settings.input == "counts" else counts.sqrt()
            return torch.ones_like(probes[:, 0, 0]), self._crop_window(normalised(patterns, mask)), None
        estimate = backproject(counts.sqrt(), probes, mask, self.settings.physics_iterations, start, propagate)
        return estimate.canvas, self._crop_window(estimate.channels()), estimate

    def _apply_change(self, before: Tensor, change: Tensor, probes: Tensor, relative: Tensor | None) -> Tensor:
        """Return the canvas ``(B, N, N)`` with the output of a network ``(B, 2 P, S, S)`` applied, in float32."""
        first, parts = self._window_start(before.shape[-1]), change.float().unflatten(1, (2, -1))
        inside = HEADS[self.settings.head](self._crop_window(before)[:, None], parts[:, 0], parts[:, 1])
        patches = before[:, None].repeat(1, parts.shape[2], 1, 1)
        patches[..., first : first + self.window, first : first + self.window] = inside
        if self.settings.output == "canvas":
            return patches[:, 0]
        # back-projected patterns lie at their positions already; patterns hold no position
        shift = relative if self.settings.sees_patterns else None
        return merge(patches, self._patch_weights(probes, relative), shift)

    def _patch_weights(self, probes: Tensor, relative: Tensor | None) -> Tensor:
        """Return the weights of the patches of a group, where they lie on the canvas, ``(B, C, N, N)``.

        Raises:
            ValueError: if a mask has to be placed and positions are missing.
        """
        if self.settings.patch_weighting == "illumination":
            return intensity(probes).sum(2)
        if relative is None:
            raise ValueError(f"patch_weighting {self.settings.patch_weighting} needs positions: give relative")
        size = probes.shape[-1]
        side = size // 2 if self.settings.patch_weighting == "central" else size
        mask, first = torch.zeros_like(probes[:, :, 0]), (size - side) // 2
        mask[..., first : first + side, first : first + side] = 1
        return translate(mask, relative)[0].real

    def _crop_window(self, channels: Tensor) -> Tensor:
        first = self._window_start(channels.shape[-1])
        return channels[..., first : first + self.window, first : first + self.window]

    def _window_start(self, size: int) -> int:
        """Return the first pixel of the window in patterns of ``size`` px."""
        return size // 2 - self.window // 2


def normalised(patterns: Tensor, mask: Tensor | None = None) -> Tensor:
    """Divide the patterns of each group by their root mean square, which removes the dose.

    Args:
        patterns: amplitudes or counts, ``(B, C, N, N)``, zero frequency at the corner.
        mask: 1 for valid detector pixels; others are set to 0.

    Returns:
        The same shape, zero frequency in the middle.
    """
    if mask is not None:
        patterns = patterns * mask
    power = patterns.square().mean((-3, -2, -1), keepdim=True)
    return torch.fft.fftshift(patterns * power.clamp_min(1e-12).rsqrt(), dim=(-2, -1))


def window_side(settings: Network, illumination: Tensor) -> int:
    """Return the side of the central square that a network of these settings works on, px.

    It holds the illumination of the groups; a network that sees patterns alone needs the whole pattern.

    Args:
        settings: of the network.
        illumination: sum of probe intensities on each group's canvas, ``(B, N, N)``.

    Raises:
        ValueError: if patterns are too small for the network.
    """
    size, stride = illumination.shape[-1], ARCHITECTURES[settings.architecture].stride(settings.depth)
    if size < stride:
        raise ValueError(
            f"network.depth {settings.depth} needs patterns of at least {stride} px, got {size} px: lower network.depth"
        )
    return size // stride * stride if settings.sees_patterns else illuminated_side(illumination, stride)


def illuminated_side(illumination: Tensor, stride: int, share: float = 0.97) -> int:
    """Return the side of the smallest central square that holds ``share`` of the illumination of every group, px.

    Args:
        illumination: sum of probe intensities on each group's canvas, ``(B, N, N)``.
        stride: the side is a multiple of it.
        share: of each group's illumination.
    """
    size = illumination.shape[-1]
    total = illumination.sum((-2, -1))
    for window in range(stride, size, stride):
        first = size // 2 - window // 2
        inside = illumination[:, first : first + window, first : first + window].sum((-2, -1))
        if bool((inside >= share * total).all()):
            return window
    return size // stride * stride
