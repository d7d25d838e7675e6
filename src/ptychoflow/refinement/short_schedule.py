"""The few epochs of refinement between which a network corrects the object."""

from torch import Tensor

from .engine import RefinementEngine

EPOCHS = 6
"""Steps are annealed as if a fit that is corrected had so many epochs; a network learns from as many."""


def one_epoch(fit: RefinementEngine, epoch: int) -> tuple[Tensor, float]:
    """An epoch of a fit, counted from 0; gives the object before it and the R-factor that it met."""
    before = fit.object.clone()
    met = fit.epoch(done=min(epoch / EPOCHS, 1.0))
    fit.apply_low_order_phase()
    return before, met.error
