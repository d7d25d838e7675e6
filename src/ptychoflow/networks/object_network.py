"""From the object of a whole scan, on its way through a fit, to a better one."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..config import Network
from .base import MultiBackbone
from .heads import HEADS

TILE, MARGIN = 512, 32
"""Side of the squares in which a large object is corrected, and what is seen around each, px."""


class ObjectCorrector(MultiBackbone):
    """Corrects the object of a fit between two epochs: convolutions over all of it, however many patterns it has.

    It sees the object, how the last epoch changed it, where the counts would take it next, and how noisy they are:
    what a good step would be made of, at the cost of one more look at the patterns.

    Args:
        settings: architecture, size, how it says what to change.
        window: side of the squares that it is trained on, px.
    """

    CHANNELS = 7

    def __init__(self, settings: Network, window: int) -> None:
        super().__init__(settings, window, self.CHANNELS, 2, 1)

    def forward(self, view: Tensor, turn: int = 0) -> Tensor:
        """The corrected object, ``(B, H, W)``.

        Args:
            view: complex, ``(B, 4, H, W)``: the object, the same before the last epoch, the slope of the counts, noise.
            turn: 1 to 7 shows the network what comes of quarter turns, from 4 on of the mirror image, and turns its
                answer back: there is no up in an object, and so there is more to learn from.
        """
        height, width = view.shape[-2:]
        seen = pad(
            channels(view) * self.input_scale[:, None, None],
            (0, -width % self.stride, 0, -height % self.stride),
            mode="replicate",
        )
        seen = (seen.mT if turn > 3 else seen).rot90(turn, (2, 3))
        change = self.backbones[0](seen).rot90(-turn, (2, 3))
        change = (change.mT if turn > 3 else change)[..., :height, :width].float()
        return HEADS[self.settings.head](view[:, 0], change[:, 0], change[:, 1])

    def normalise(self, view: Tensor) -> None:
        """Scale the input channels so that those of these views have a mean square of 1."""
        self.input_scale.copy_(channels(view).square().mean((0, 2, 3)).clamp_min(1e-12).rsqrt())

    def correct(self, view: Tensor) -> Tensor:
        """The corrected object of a whole scan, ``(H, W)``, from its view ``(4, H, W)``, square by square."""
        found = torch.empty_like(view[0])
        for top in range(0, found.shape[0], TILE):
            for left in range(0, found.shape[1], TILE):
                square, inside, here = _square(found.shape, top, left)
                found[here] = self(view[(slice(None), *square)][None])[(0, *inside)]
        return found


def channels(view: Tensor) -> Tensor:
    """A view ``(B, 4, H, W)`` as real channels ``(B, 7, H, W)``."""
    image, before, slope, noise = view.unbind(1)
    parts = [part for field in (image - 1, image - before, slope) for part in (field.real, field.imag)]
    return torch.stack([*parts, noise.real], dim=1)


def object_features(image: Tensor, before: Tensor, slope: Tensor, light: Tensor) -> Tensor:
    """A view of a fit, ``(4, H, W)``: blind to the phase offset of the object.

    Noise is what counting leaves on a pixel that so many photons passed, ``1 / (2 sqrt(light))``, half at most.

    Args:
        image: the object, ``(H, W)``.
        before: the same before the last epoch.
        slope: where the counts would take it.
        light: photons on each pixel.
    """
    even = light.clamp(max=light[light > 0.05 * light.max()].median())
    turns = [(even * field).sum().conj().sgn() for field in (image, before)]
    noise = (4 * light.clamp_min(1)).rsqrt()
    return torch.stack([image * turns[0], before * turns[1], slope * turns[0], noise.to(image.dtype)])


def light_of(view: Tensor) -> Tensor:
    """The light behind the noise of views ``(B, 4, H, W)``, photons, at least 1, ``(B, H, W)``."""
    return view[:, 3].real.square().reciprocal() / 4


def _square(shape: torch.Size, top: int, left: int) -> tuple[tuple[slice, slice], ...]:
    """What is seen, what of that is kept, and where it goes, of the square at a corner."""
    seen, inside, here = [], [], []
    for first, side in zip((top, left), shape, strict=True):
        begin, last = max(first - MARGIN, 0), min(first + TILE, side)
        seen.append(slice(begin, min(last + MARGIN, side)))
        inside.append(slice(first - begin, last - begin))
        here.append(slice(first, last))
    return tuple(seen), tuple(inside), tuple(here)
