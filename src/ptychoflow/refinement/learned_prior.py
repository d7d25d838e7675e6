"""The learned prior between the epochs of a refinement."""

import math

from torch import Tensor

from ..config import Refinement
from ..networks.object_network import object_features
from ..networks.object_prior import ObjectPrior, pretrained_prior
from .engine import RefinementEngine
from .held_out import NOISY, pixel_noise

BRIGHT_FRACTION = 0.75
"""Part of the epochs in which an object with less noise is corrected: the rest belongs to the measurement alone."""


class LearnedPrior:
    """Correction of the object by a learned prior, after some of the epochs of a refinement.

    The last epoch is never followed by a correction. Where counting leaves little noise, the last quarter of the epochs
    has none: there the measurement knows better. Where it leaves much, epochs without corrections would fit noise.

    Args:
        settings: of the refinement, with a prior.
        noise: median noise level of a pixel, ``1 / (2 sqrt(illumination))``, relative to an amplitude of 1.
    """

    def __init__(self, settings: Refinement, noise: float) -> None:
        self._interval = settings.prior_interval
        # above NOISY, corrections continue to the end
        self._last = settings.epochs - 1 if noise > NOISY else math.floor(BRIGHT_FRACTION * settings.epochs)
        self._network: ObjectPrior = pretrained_prior()

    @staticmethod
    def of(engine: RefinementEngine) -> "LearnedPrior | None":
        """Return the prior that the settings of an engine, newly made, ask for."""
        if engine.settings.prior == "none":
            return None
        return LearnedPrior(engine.settings, pixel_noise(engine.illumination()))

    def follows(self, epoch: int) -> bool:
        """Return True if the object is corrected after this epoch, counted from 1."""
        return epoch % self._interval == 0 and epoch <= self._last

    def correct(self, engine: RefinementEngine, before: Tensor) -> None:
        """Correct the object of an engine.

        Args:
            engine: after an epoch; its object is replaced.
            before: its object before that epoch, ``(H, W)``.
        """
        network = self._network.to(engine.object.device)
        engine.object = network.correct(
            object_features(engine.object, before, engine.preconditioned_gradient(), engine.illumination())
        )
