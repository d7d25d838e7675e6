"""The schedule of training, as pure functions of the epoch: stages, physics weight, learning rate."""

import math
from collections.abc import Sequence

from ..config import Stage

RAMPS = {
    "linear": lambda p: p,
    "cosine": lambda p: (1 - math.cos(math.pi * p)) / 2,
    "exponential": lambda p: p**2,
}
"""Value of a ramp from 0 to 1 after a share ``p`` of its stage."""


def total_epochs(stages: Sequence[Stage]) -> int:
    """Return the number of epochs of a training."""
    return sum(stage.epochs for stage in stages)


def stage_at(stages: Sequence[Stage], epoch: float) -> tuple[int, float]:
    """Return the index of the stage of an epoch and the share of it that has passed.

    Epochs after the last stage give its end.
    """
    begin = 0
    for index, stage in enumerate(stages):
        if epoch < begin + stage.epochs:
            return index, (epoch - begin) / stage.epochs
        begin += stage.epochs
    return len(stages) - 1, 1.0


def physics_weight(stages: Sequence[Stage], epoch: float) -> float:
    """Return w of ``(1 - w) L_supervised + w L_physics``: the stage's own, or its ramp from 0 to 1."""
    index, passed = stage_at(stages, epoch)
    weight = stages[index].physics_weight
    return RAMPS[weight](passed) if isinstance(weight, str) else weight


def lr_factor(stages: Sequence[Stage], epoch: float, warmup_fraction: float, final_lr_fraction: float) -> float:
    """Return the learning rate over its peak.

    It rises linearly over the first share ``warmup_fraction`` of all epochs, then falls as a cosine to
    ``final_lr_fraction``. Each stage multiplies it by its own factor; a stage with a ramp reaches its factor from that
    of the stage before along the same ramp.
    """
    index, passed = stage_at(stages, epoch)
    stage, before = stages[index], stages[index - 1] if index else None
    factor = stage.lr_factor
    if isinstance(stage.physics_weight, str):
        start = before.lr_factor if before else 1.0
        factor = start + (stage.lr_factor - start) * RAMPS[stage.physics_weight](passed)
    progress = min(epoch / total_epochs(stages), 1.0)
    if progress < warmup_fraction:
        return factor * progress / warmup_fraction
    fall = (progress - warmup_fraction) / (1 - warmup_fraction)
    return factor * (final_lr_fraction + (1 - final_lr_fraction) * (1 + math.cos(math.pi * fall)) / 2)
