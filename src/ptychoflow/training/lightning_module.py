"""Networks meet physics: one training step, one validation step."""

from typing import Any, NamedTuple

import lightning
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..config import Regularisation, Training
from ..data.batch import Batch
from ..networks.group_network import GroupReconstructor
from ..networks.object_network import ObjectCorrector, illumination_of
from ..physics.back_projection import backproject
from ..physics.data_fidelity import amplitude_error
from ..physics.forward_model import intensity, shift_probe
from .losses import diffract, ground_truth_error, patch_error, physics_loss, scale_free_error, supervised_loss
from .regularisation import regularisation
from .schedule import lr_factor, physics_weight, stage_at

SMALL_ERROR = 1e-4
"""Error against the truth below which a fit that is shown counts no more."""
ERROR = "validation/error"
"""What a validation is judged by: the patch error where there is a truth, else the data error."""


class GroupPrediction(NamedTuple):
    """What the network makes of a batch.

    Attributes:
        canvases: the object under each group after each pass, ``(B, N, N)``.
        estimate: the object that the first pass corrected, ``(B, N, N)``; None where the network sees amplitudes.
        probes: modes moved to each pattern, held_out_neighbours too, ``(B, C + W, M, N, N)``.
        light: illumination by the patterns that the network saw, ``(B, N, N)``.
    """

    canvases: list[Tensor]
    estimate: Tensor | None
    probes: Tensor
    light: Tensor

    @property
    def canvas(self) -> Tensor:
        """The object under each group, after the last pass."""
        return self.canvases[-1]


def predict_groups(network: GroupReconstructor | ObjectCorrector, batch: Batch) -> GroupPrediction:
    """Run the network on the groups of a batch; their held_out_neighbours it does not see."""
    probes, seen = shift_probe(batch.probe[:, None], batch.relative), network.settings.group_size
    if batch.view is not None:
        turned = network(batch.view, batch.turn if network.training else 0)
        return GroupPrediction([turned], batch.view[:, 0], probes, illumination_of(batch.view))
    canvases, estimate = network(batch.counts[:, :seen], probes[:, :seen], batch.mask, batch.relative[:, :seen])
    start = None if estimate is None else estimate.canvas
    return GroupPrediction(canvases, start, probes, intensity(probes[:, :seen]).sum((1, 2)))


class GroupTask(lightning.LightningModule):
    """Trains a network on groups in stages.

    Args:
        network: what is trained.
        training: stages, loss, rates.
        labelled: True if every scan has a truth, False if none has, None if some have.
        steps_per_epoch: the unit of the schedule.
        parts: batches whose gradients make a step.
    """

    def __init__(
        self,
        network: GroupReconstructor | ObjectCorrector,
        training: Training,
        labelled: bool | None,
        steps_per_epoch: int,
        parts: int = 1,
    ) -> None:
        super().__init__()
        self.network, self.training_settings = network, training
        self.labelled, self.steps_per_epoch, self.parts = labelled, steps_per_epoch, parts

    def training_step(self, batch: Batch, index: int) -> dict[str, Tensor]:
        settings = self.training_settings
        weight = physics_weight(settings.stages, self.epoch_after(index))
        solution = predict_groups(self.network, batch)
        passes = [self._losses(batch, solution, canvas, weight) for canvas in solution.canvases]
        # each pass has parameters of its own, so that a sum trains each on its own loss
        loss = sum((1 - weight) * parts.get("supervised", 0.0) + weight * parts.get("physics", 0.0) for parts in passes)
        if (kept := settings.regularisation) != Regularisation():
            penalties = [regularisation(canvas, solution.light, kept) for canvas in solution.canvases]
            loss, passes[-1]["regularisation"] = loss + sum(penalties), penalties[-1]
        last = {name: part.detach() for name, part in passes[-1].items()}
        stage = float(stage_at(settings.stages, self.epoch_after(index))[0])
        # as tensors, because Lightning brings plain numbers to the device, and waits until it has done all before
        schedule = {"physics_weight": torch.tensor(weight), "stage": torch.tensor(stage)}
        self.log_dict({"loss": loss.detach() / len(passes)} | last | schedule)
        return {"loss": loss, **last}

    def configure_gradient_clipping(self, optimizer: Optimizer, *asked: object, **settings: object) -> None:
        """Clip the norm of the gradient, and tell what it was."""
        self.log("gradient_norm", clip_grad_norm_(self.parameters(), self.training_settings.gradient_clip))

    def on_after_backward(self) -> None:
        """In a stage that keeps the encoder, forget what it was asked to change: the optimiser then passes it over."""
        stages = self.training_settings.stages
        if stages[stage_at(stages, self.current_epoch)[0]].freeze_encoder:
            for parameter in self.network.encoder_parameters():
                parameter.grad = None

    def validation_step(self, batch: Batch, index: int) -> None:
        solution = predict_groups(self.network, batch)
        counts, probes, mask = self._judged(batch, solution)
        estimate = self._estimate(batch, solution.probes) if solution.estimate is None else solution.estimate
        measures = {
            "data_error": amplitude_error(counts, diffract(solution.canvas, probes), mask),
            **flatness(solution.canvas, estimate, solution.light),
        }
        if self.labelled:
            measures["patch_error"] = patch_error(solution.canvas, batch.truth, solution.light).mean()
        measures["error"] = measures.get("patch_error", measures["data_error"])
        named = {f"validation/{name}": value for name, value in measures.items()}
        self.log_dict(named, batch_size=len(batch.counts), sync_dist=True)

    def configure_optimizers(self) -> dict:
        settings = self.training_settings
        optimizer = AdamW(
            self.parameters(),
            settings.learning_rate,
            (0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=settings.precision != "16-mixed",  # its gradients are scaled until they have been clipped
        )

        def factor(step: int) -> float:
            return lr_factor(
                settings.stages, (step + 1) / self.steps_per_epoch, settings.warmup_fraction, settings.final_lr_fraction
            )

        rate = {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "name": "learning_rate"}
        return {"optimizer": optimizer, "lr_scheduler": rate}

    def epoch_after(self, batches: int) -> float:
        """The epoch, as a fraction, after some batches of the current one."""
        return self.current_epoch + batches / (self.steps_per_epoch * self.parts)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Of a step that is under way in parts, keep nothing: resuming does it again, all of it."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        begun = progress["current"]["processed"] % self.parts
        for count in (progress["current"], progress["total"]):
            count.update({name: done - begun for name, done in count.items()})

    def _estimate(self, batch: Batch, probes: Tensor) -> Tensor:
        """What a network that sees amplitudes is not told, to judge it by."""
        seen = self.network.settings.group_size
        return backproject(
            batch.counts[:, :seen].sqrt(), probes[:, :seen], batch.mask, self.network.settings.physics_iterations
        ).canvas

    def _judged(self, batch: Batch, solution: GroupPrediction) -> tuple[Tensor, Tensor, Tensor | None]:
        """Counts of the patterns that canvases are held against, their probes and mask: held_out_neighbours, where there are."""
        if not self.training_settings.held_out_neighbours:
            return batch.counts, solution.probes, batch.mask
        if batch.held_out is not None:
            held_out = batch.held_out[:, :, None, None].float()
            return batch.counts, solution.probes, held_out if batch.mask is None else held_out * batch.mask
        first = self.network.settings.group_size
        return batch.counts[:, first:], solution.probes[:, first:], batch.mask

    def _losses(self, batch: Batch, solution: GroupPrediction, canvas: Tensor, weight: float) -> dict[str, Tensor]:
        """Guide and physics loss of the canvases of one pass, those that count."""
        losses, expected = {}, None
        counts, probes, mask = self._judged(batch, solution)
        if weight > 0 or self.labelled is not True:
            expected = diffract(canvas, probes)
        if weight < 1:
            to_truth = to_counts = None
            if self.labelled is not False:
                to_truth = ground_truth_error(canvas, batch.truth, solution.light)
                if batch.view is not None:  # half way to the share that is left: bright scans count beside dim ones
                    shown = ground_truth_error(solution.estimate, batch.truth, solution.light)
                    to_truth = to_truth * (shown + SMALL_ERROR).rsqrt()
            if self.labelled is not True:
                to_counts = scale_free_error(counts, expected, mask)
            losses["supervised"] = supervised_loss(to_truth, to_counts, batch.labelled)
        if weight > 0:
            losses["physics"] = physics_loss(self.training_settings.physics_loss, counts, expected, mask)
        return losses


def flatness(canvas: Tensor, estimate: Tensor, light: Tensor) -> dict[str, Tensor]:
    """How far canvases are from empty: what the amplitude error alone cannot see.

    Args:
        canvas: the object under each group, ``(B, N, N)``.
        estimate: the same by back-projection alone.
        light: illumination of each group, ``(B, N, N)``.

    Returns:
        ``spread``, standard deviation under the light over that of the back-projected estimate, and ``correlation``
        with it; means over the groups.
    """
    share = light / light.sum((-2, -1), keepdim=True)
    canvas, estimate = (_centred(field, share) for field in (canvas, estimate))
    power, reference = ((share * intensity(field)).sum((-2, -1)) for field in (canvas, estimate))
    product = intensity((share * canvas.conj() * estimate).sum((-2, -1)))
    return {
        "spread": (power / reference.clamp_min(1e-12)).sqrt().mean(),
        "correlation": (product / (power * reference).clamp_min(1e-24)).sqrt().mean(),
    }


def _centred(field: Tensor, share: Tensor) -> Tensor:
    return field - (share * field).sum((-2, -1), keepdim=True)
