"""Short annealing schedule of the rPIE epochs of a learned refinement, the same in training and inference."""

from torch import Tensor

from .engine import RefinementEngine

EPOCHS = 6
"""Epochs over which step size and alpha are annealed; a network is trained on objects after as many."""


def run_epoch(engine: RefinementEngine, epoch: int) -> tuple[Tensor, float]:
    """Run one epoch of rPIE on the object alone, and apply the low-order phase.

    Args:
        engine: of the scan; its object is updated.
        epoch: counted from 0.

    Returns:
        Object before the epoch, ``(H, W)``, and the R-factor.
    """
    before = engine.object.clone()
    stats = engine.epoch(progress=min(epoch / EPOCHS, 1.0))
    engine.apply_low_order_phase()
    return before, stats.error
