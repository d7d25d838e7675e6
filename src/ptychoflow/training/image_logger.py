"""Pictures of what a network makes of the first groups it is validated on, for the diary of its training."""

import numpy as np
import torch
from lightning import Callback, Trainer
from torch import Tensor

from ..data.batch import Batch
from ..physics.back_projection import backproject
from .lightning_module import GroupPrediction, GroupTask, predict_groups

GROUPS = 4
"""Groups in a picture."""
GAP = 2
"""Black between two pictures, px."""


class ValidationImages(Callback):
    """After each validation, amplitude and phase as the network found them beside the truth, or the back-projection."""

    def __init__(self) -> None:
        self._first: Batch | None = None

    def on_validation_batch_end(self, trainer: Trainer, task: GroupTask, outputs, batch: Batch, index: int) -> None:
        """Draw the first groups of the first batch."""
        if index == 0 and trainer.is_global_zero:
            few = batch.part(slice(GROUPS))
            with torch.no_grad():
                pixels = picture(predict_groups(task.network, few), few)
            trainer.logger.log_picture(pixels, f"validation/epoch_{trainer.current_epoch + 1:04d}.png")


def picture(solution: GroupPrediction, batch: Batch) -> np.ndarray:
    """Grey values ``(H, W)``: a column for each group; amplitude found and known, then phase found and known.

    What is known is the truth where the scan has one, else the back-projection alone. Both lie on one scale, which the
    known one fills; dark is where no light falls.
    """
    known = solution.estimate
    if known is None:
        known = backproject(batch.counts.sqrt(), solution.probes, batch.mask).canvas
    if batch.truth is not None:
        known = torch.where(batch.labelled[:, None, None], batch.truth, known)
    lit = solution.light > 1e-3 * solution.light.amax((-2, -1), keepdim=True)
    overlap = (solution.light * known * solution.canvas.conj()).sum((-2, -1), keepdim=True)
    found = solution.canvas * torch.polar(torch.ones_like(overlap.real), overlap.angle())
    reference = (solution.light * known).sum((-2, -1), keepdim=True).conj()
    rows = []
    for part in (torch.abs, lambda field: (field * reference).angle()):
        rows += _on_one_scale(part(found), part(known), lit)
    return torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=0).cpu().numpy()


def _on_one_scale(found: Tensor, known: Tensor, lit: Tensor) -> list[Tensor]:
    """Both as bytes, ``(B, N + GAP, N + GAP)``."""
    low, high = torch.quantile(known[lit].float(), torch.tensor([0.01, 0.99], device=known.device))
    scaled = ((torch.stack([found, known]) - low) / (high - low).clamp_min(1e-6) * 255).clamp(0, 255)
    framed = torch.nn.functional.pad(torch.where(lit, scaled, 0.0), (0, GAP, 0, GAP))
    return list(framed.to(torch.uint8))
