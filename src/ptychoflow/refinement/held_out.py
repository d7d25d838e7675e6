"""Held-out detector pixels of a refinement: no update sees them, and their residual says when noise is fitted."""

import torch
from torch import Tensor

from ..runtime.distributed import DistributedContext

LIT = 0.05
"""Least illumination of a pixel that counts in the median noise, relative to the greatest."""
NOISY = 0.035
"""Median noise level of a pixel, relative to its amplitude, above which a refinement soon fits noise."""
FRACTION = 0.02
"""Fraction of the valid pixels of each pattern that are held out."""
SETS = 61
"""Sets of pixels, which patterns take in turn: a prime, so that neighbours in a raster have different ones."""
TOLERANCE = 0.004
"""Relative rise of the held-out R-factor that is not taken as noise being fitted: phase that varies slowly goes on
converging while counts hardly show it."""


def pixel_noise(illumination: Tensor) -> float:
    """Return the median noise level of a pixel of the object, ``1 / (2 sqrt(illumination))``, relative to 1.

    Args:
        illumination: photons on each pixel, ``(H, W)``.
    """
    median = illumination[illumination > LIT * illumination.max()].median()
    return float((4 * median).rsqrt())


class HeldOutPixels:
    """Some pixels of each pattern, taken out of the residual before an update sees it.

    An object that follows the noise of the other pixels predicts these worse: their R-factor falls with the true error
    and rises again where more epochs fit noise only.

    Args:
        mask: True where a detector pixel is valid, corner layout, ``(N, N)``; None where all are.
        size: side N of a pattern, px.
        seed: of the choice.
        ctx: device, and the ranks that share each batch.
    """

    def __init__(self, mask: Tensor | None, size: int, seed: int, ctx: DistributedContext) -> None:
        self._ctx = ctx
        valid = torch.arange(size * size) if mask is None else mask.cpu().flatten().nonzero()[:, 0]
        count = max(1, round(FRACTION * len(valid)))
        generator = torch.Generator().manual_seed(seed)
        chosen = [valid[torch.randperm(len(valid), generator=generator)[:count]] for _ in range(SETS)]
        self._pixels = torch.stack(chosen).to(ctx.device)
        self._photons: float | None = None
        self.begin()

    def begin(self) -> None:
        """Begin a pass over all patterns."""
        self._squares = torch.zeros((), device=self._ctx.device)
        self._measured = torch.zeros((), dtype=torch.float64, device=self._ctx.device)

    def take_from_(self, residual: Tensor, batch: Tensor, amplitude: Tensor, rows: Tensor) -> None:
        """Set the residual of the held-out pixels to 0, in place, after adding it to that of the pass.

        Args:
            residual: measured less expected amplitudes, ``(b, N, N)``.
            batch: numbers of the patterns, int64, ``(b,)``.
            amplitude: measured amplitudes, ``(n, N, N)``.
            rows: row in it of each pattern, int64, ``(b,)``.
        """
        pixels, flat = self._pixels.index_select(0, batch % SETS), residual.view(len(residual), -1)
        held_out = flat.gather(1, pixels).view(-1)
        self._squares += held_out.dot(held_out)
        if self._photons is None:  # the same in every pass
            self._measured += amplitude.view(len(amplitude), -1)[rows[:, None], pixels].square().sum()
        flat.scatter_(1, pixels, 0)

    def clear_(self, residual: Tensor, batch: Tensor) -> None:
        """Set the residual ``(b, N, N)`` of the held-out pixels of a batch to 0, in place."""
        residual.view(len(residual), -1).scatter_(1, self._pixels[batch % SETS], 0)

    def end(self) -> tuple[float, float]:
        """End a pass: return the sum of squared residuals of the held-out pixels of all ranks, and their photons."""
        if self._photons is None:
            self._photons = float(self._ctx.sum(self._measured))
        return float(self._ctx.sum(self._squares)), self._photons


class KeptEpoch:
    """Choice of the epoch whose state is kept: the latest whose held-out R-factor is about the least.

    Attributes:
        epoch: the choice so far; 0 before the first.
        state: engine state at its end; None where it is that of the last epoch.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.state: dict[str, Tensor] | None = None
        self._least = float("inf")

    def add(self, epoch: int, error: float, state_before: dict[str, Tensor] | None) -> None:
        """Take in the next epoch.

        Args:
            epoch: counted from 1.
            error: its held-out R-factor.
            state_before: engine state at the end of the epoch before it.
        """
        if self.epoch == epoch - 1:
            self.state = state_before
        self._least = min(self._least, error)
        if error <= (1 + TOLERANCE) * self._least:
            self.epoch, self.state = epoch, None
