"""The network of a whole object: it corrects the object between two epochs of refinement."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..config import Network
from .base import MultiBackbone
from .heads import HEADS

TILE, MARGIN = 512, 32
"""Side of the tiles in which a large object is corrected, and the margin that is seen around each, px."""


class ObjectCorrector(MultiBackbone):
    """Correct the object between two epochs of refinement: convolutions over all of it, for any number of patterns.

    The input is the object, its change in the last epoch, its preconditioned gradient and its noise level: the
    ingredients of a good update, at the cost of one more forward pass.

    Args:
        settings: architecture, size, head.
        window: side of the squares that it is trained on, px.
    """

    CHANNELS = 7

    def __init__(self, settings: Network, window: int) -> None:
        super().__init__(settings, window, self.CHANNELS, 2, 1)

    def forward(self, features: Tensor, rotation: int = 0) -> Tensor:
        """Return the corrected object, ``(B, H, W)``.

        Args:
            features: complex, ``(B, 4, H, W)``, of :func:`object_features`: the object, the object before the last
                epoch, its preconditioned gradient, its noise.
            rotation: data augmentation, 0 to 7: the network sees the input after this many quarter turns, from 4 on of
                the mirror image, and its output is rotated back. Objects have no preferred orientation.
        """
        height, width = features.shape[-2:]
        padded = pad(
            real_channels(features) * self.input_scale[:, None, None],
            (0, -width % self.stride, 0, -height % self.stride),
            mode="replicate",
        )
        rotated = (padded.mT if rotation > 3 else padded).rot90(rotation, (2, 3))
        change = self.backbones[0](rotated).rot90(-rotation, (2, 3))
        change = (change.mT if rotation > 3 else change)[..., :height, :width].float()
        return HEADS[self.settings.head](features[:, 0], change[:, 0], change[:, 1])

    def normalise(self, features: Tensor) -> None:
        """Scale the input channels to a mean square of 1 over these features, ``(B, 4, H, W)``."""
        self.input_scale.copy_(real_channels(features).square().mean((0, 2, 3)).clamp_min(1e-12).rsqrt())

    def correct(self, features: Tensor) -> Tensor:
        """Return the corrected object of a whole scan, ``(H, W)``, computed tile by tile.

        Args:
            features: of the whole object, ``(4, H, W)``.
        """
        corrected = torch.empty_like(features[0])
        height, width = corrected.shape
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                rows, columns = _tile(top, height), _tile(left, width)
                tile = self(features[:, rows[0], columns[0]][None])
                corrected[rows[2], columns[2]] = tile[0, rows[1], columns[1]]
        return corrected


def real_channels(features: Tensor) -> Tensor:
    """Return complex features ``(B, 4, H, W)`` as the real channels of a network, ``(B, 7, H, W)``."""
    image, before, gradient, noise = features.unbind(1)
    parts = [part for field in (image - 1, image - before, gradient) for part in (field.real, field.imag)]
    return torch.stack([*parts, noise.real], dim=1)


def object_features(image: Tensor, before: Tensor, preconditioned_gradient: Tensor, illumination: Tensor) -> Tensor:
    """Return the input of an :class:`ObjectCorrector`, ``(4, H, W)``, independent of the object's phase offset.

    Noise is the standard deviation that photon counting leaves on a pixel, ``1 / (2 sqrt(illumination))``, at most 0.5.

    Args:
        image: the object, ``(H, W)``.
        before: the object before the last epoch, ``(H, W)``.
        preconditioned_gradient: update of the object that the counts ask for, ``(H, W)``.
        illumination: photons on each pixel, ``(H, W)``.
    """
    weight = illumination.clamp(max=illumination[illumination > 0.05 * illumination.max()].median())
    offsets = [(weight * field).sum().conj().sgn() for field in (image, before)]
    noise = (4 * illumination.clamp_min(1)).rsqrt()
    gradient = preconditioned_gradient * offsets[0]
    return torch.stack([image * offsets[0], before * offsets[1], gradient, noise.to(image.dtype)])


def illumination_of(features: Tensor) -> Tensor:
    """Return the illumination behind the noise of features ``(B, 4, H, W)``: photons, at least 1, ``(B, H, W)``."""
    return features[:, 3].real.square().reciprocal() / 4


def _tile(first: int, side: int) -> tuple[slice, slice, slice]:
    """Return, along one axis, the pixels a tile is computed from, those of them that are kept, and where these go."""
    begin, last = max(first - MARGIN, 0), min(first + TILE, side)
    return slice(begin, min(last + MARGIN, side)), slice(first - begin, last - begin), slice(first, last)
