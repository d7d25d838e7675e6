"""Images of the objects predicted at each validation, for the tracking of a training."""

from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ..data.batch import Batch
from ..physics.back_projection import backproject
from .lightning_module import GroupPrediction, GroupTask, predict_groups

GROUPS = 4
"""Groups in an image."""
GAP = 2
"""Black margin between two panels, px."""


class ImageLogger(Protocol):
    """A logger of Lightning that keeps images."""

    def log_picture(self, pixels: np.ndarray, name: str) -> None:
        """Keep an image, uint8, ``(H, W)``, under a name."""


class ValidationImages(Callback):
    """Log, after each validation, predicted amplitude and phase beside the ground truth, or the back-projection.

    The trainer needs an :class:`ImageLogger`.
    """

    def on_validation_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Batch, index: int, loader: int = 0
    ) -> None:
        """Draw the first groups of the first batch."""
        if index == 0 and trainer.is_global_zero:
            few = batch.part(slice(GROUPS))
            with torch.no_grad():
                pixels = draw_groups(predict_groups(cast(GroupTask, task).network, few), few)
            cast(ImageLogger, trainer.logger).log_picture(
                pixels, f"validation/epoch_{trainer.current_epoch + 1:04d}.png"
            )


def draw_groups(prediction: GroupPrediction, batch: Batch) -> np.ndarray:
    """Draw a column for each group: amplitude predicted and known, then phase predicted and known.

    The known object is the ground truth where the scan has one, else the back-projection. Both share one grey scale,
    which the known object fills; pixels without illumination are black.

    Args:
        prediction: of the batch.
        batch: a few groups.

    Returns:
        Grey values, uint8, ``(4 (N + GAP), B (N + GAP))``.
    """
    known = prediction.estimate
    if known is None:
        known = backproject(batch.counts.sqrt(), prediction.probes, batch.mask, propagate=prediction.propagate).canvas
    if batch.truth is not None:
        known = torch.where(batch.labelled[:, None, None], batch.truth, known)
    illumination = prediction.illumination
    illuminated = illumination > 1e-3 * illumination.amax((-2, -1), keepdim=True)
    overlap = (illumination * known * prediction.canvas.conj()).sum((-2, -1), keepdim=True)
    predicted = prediction.canvas * torch.polar(torch.ones_like(overlap.real), overlap.angle())
    reference = (illumination * known).sum((-2, -1), keepdim=True).conj()
    rows = _scale_to_known(predicted.abs(), known.abs(), illuminated)
    rows += _scale_to_known((predicted * reference).angle(), (known * reference).angle(), illuminated)
    return torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=0).cpu().numpy()


def _scale_to_known(predicted: Tensor, known: Tensor, illuminated: Tensor) -> list[Tensor]:
    """Return both as bytes on the scale of the known, ``(B, N + GAP, N + GAP)``."""
    low, high = torch.quantile(known[illuminated].float(), torch.tensor([0.01, 0.99], device=known.device))
    scaled = ((torch.stack([predicted, known]) - low) / (high - low).clamp_min(1e-6) * 255).clamp(0, 255)
    framed = torch.nn.functional.pad(torch.where(illuminated, scaled, 0.0), (0, GAP, 0, GAP))
    return list(framed.to(torch.uint8))
