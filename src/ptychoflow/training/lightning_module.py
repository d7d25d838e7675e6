"""The training step and the validation step of networks, as a LightningModule."""

import math
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..config import Regularisation, Training
from ..data.batch import Batch
from ..networks.group_network import GroupReconstructor
from ..networks.object_network import ObjectCorrector, illumination_of
from ..physics.back_projection import backproject
from ..physics.data_fidelity import amplitude_error
from ..physics.forward_model import intensity, shift_probe
from ..physics.propagation import FAR_FIELD, Propagator
from .losses import diffract, ground_truth_error, patch_error, physics_loss, scale_free_error, supervised_loss
from .regularisation import regularisation
from .schedule import lr_factor, physics_weight, stage_at

SMALL_ERROR = 1e-4
"""Ground-truth error of an input object below which it no longer raises the weight of its group."""
ERROR = "validation/error"
"""Metric that validations are compared by: the patch error where there is a ground truth, else the data error."""


class GroupPrediction(NamedTuple):
    """The prediction of a network for a batch.

    Attributes:
        canvases: object under each group after each cascade, ``(B, N, N)``.
        estimate: object that the first cascade corrected, ``(B, N, N)``; None where the network sees amplitudes.
        probes: modes shifted to each pattern, held-out neighbours included, ``(B, C + W, M, N, N)``.
        illumination: by the patterns that the network saw, photons, ``(B, N, N)``.
        propagate: from exit waves of these probes to the detector.
    """

    canvases: list[Tensor]
    estimate: Tensor | None
    probes: Tensor
    illumination: Tensor
    propagate: Propagator = FAR_FIELD

    @property
    def canvas(self) -> Tensor:
        """Object under each group after the last cascade, ``(B, N, N)``."""
        return self.canvases[-1]


def predict_groups(network: GroupReconstructor | ObjectCorrector, batch: Batch) -> GroupPrediction:
    """Run the network on the groups of a batch; it does not see their held-out neighbours.

    Args:
        network: the network.
        batch: groups; with ``features`` for an :class:`ObjectCorrector`.
    """
    probes, seen = shift_probe(batch.probe[:, None], batch.relative), network.settings.group_size
    propagate = batch.propagators()
    if batch.features is not None:
        corrected = network(batch.features, batch.rotation if network.training else 0)
        return GroupPrediction([corrected], batch.features[:, 0], probes, illumination_of(batch.features), propagate)
    canvases, estimate = network(
        batch.counts[:, :seen],
        probes[:, :seen],
        batch.mask,
        batch.relative[:, :seen],
        propagate.members(slice(seen)),
    )
    start = None if estimate is None else estimate.canvas
    return GroupPrediction(canvases, start, probes, intensity(probes[:, :seen]).sum((1, 2)), propagate)


class GroupTask(lightning.LightningModule):
    """Train a network on groups in stages.

    Args:
        network: to train.
        training: stages, losses, learning rate.
        labelled: True if every scan has a ground truth, False if none has, None if some have.
        steps_per_epoch: unit of the schedule.
        parts: batches whose gradients are accumulated for a step.
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
        self.network: GroupReconstructor | ObjectCorrector = network
        self.training_settings = training
        self.labelled, self.steps_per_epoch, self.parts = labelled, steps_per_epoch, parts
        self._validation_sums: Tensor | None = None
        self._validation_is_logged = False

    def training_step(self, batch: Batch, index: int) -> dict[str, Tensor]:
        """Return the loss of a batch; and, as means over the ranks, itself and the parts of it at the last cascade."""
        settings = self.training_settings
        weight = physics_weight(settings.stages, self.epoch_after(index))
        prediction = predict_groups(self.network, batch)
        cascades = [self._losses(batch, prediction, canvas, weight) for canvas in prediction.canvases]
        # each cascade has parameters of its own, so the sum trains each on its own loss
        loss: Any = sum(
            (1 - weight) * parts.get("supervised", 0.0) + weight * parts.get("physics", 0.0) for parts in cascades
        )
        if (penalised := settings.regularisation) != Regularisation():
            penalties = [regularisation(canvas, prediction.illumination, penalised) for canvas in prediction.canvases]
            loss, cascades[-1]["regularisation"] = loss + sum(penalties), penalties[-1]
        last = {name: part.detach() for name, part in cascades[-1].items()}
        stage = float(stage_at(settings.stages, self.epoch_after(index))[0])
        # as tensors: Lightning copies plain numbers to the device, which waits for everything before
        schedule = {"physics_weight": torch.tensor(weight), "stage": torch.tensor(stage)}
        recorded = self._mean_over_ranks({"recorded_loss": loss.detach()} | last)
        means = {name: value for name, value in recorded.items() if name != "recorded_loss"}
        self.log_dict({"loss": recorded["recorded_loss"] / len(cascades)} | means | schedule)
        return {"loss": loss, **recorded}

    def configure_gradient_clipping(self, optimizer: Optimizer, *_limits: object, **_settings: object) -> None:
        """Clip the norm of the gradient to ``training.gradient_clip``, if set, and log the norm before."""
        largest = self.training_settings.gradient_clip
        self.log("gradient_norm", clip_grad_norm_(self.parameters(), math.inf if largest is None else largest))

    def on_after_backward(self) -> None:
        """Drop the gradients of the encoder in a stage with ``freeze_encoder``: the optimiser then skips it."""
        stages = self.training_settings.stages
        if stages[stage_at(stages, self.current_epoch)[0]].freeze_encoder:
            for parameter in self.network.encoder_parameters():
                parameter.grad = None

    def validation_step(self, batch: Batch, index: int) -> None:
        """Add data error, contrast, correlation and, with a ground truth, patch error of a batch to those before."""
        prediction = predict_groups(self.network, batch)
        counts, expected, mask = self._compare(batch, prediction, prediction.canvas)
        estimate = (
            self._back_projection(batch, prediction.probes) if prediction.estimate is None else prediction.estimate
        )
        metrics = {
            "data_error": amplitude_error(counts, expected, mask),
            **contrast_and_correlation(prediction.canvas, estimate, prediction.illumination),
        }
        if self.labelled and batch.truth is not None:
            metrics["patch_error"] = patch_error(prediction.canvas, batch.truth, prediction.illumination).mean()
        metrics["error"] = metrics.get("patch_error", metrics["data_error"])
        groups = len(batch.counts)
        weighted = torch.stack([groups * metrics[name].double() for name in self.validation_metrics()])
        sums = torch.cat([weighted, torch.full_like(weighted[:1], groups)])
        self._validation_sums = sums if self._validation_sums is None else self._validation_sums + sums
        if self._trainer is not None and [index + 1] == self._trainer.num_val_batches:
            self._log_validation()  # with the last batch: callbacks read it at the end of the epoch, before this module

    def on_validation_epoch_start(self) -> None:
        """Forget the groups of the validation before."""
        self._validation_sums, self._validation_is_logged = None, False

    def on_validation_epoch_end(self) -> None:
        """Log the metrics where no batch of this rank was the last, as in a sanity check."""
        if not self._validation_is_logged:
            self._log_validation()

    def _log_validation(self) -> None:
        """Log the mean of each metric over all groups of all ranks, each group once."""
        self._validation_is_logged = True
        sums, names = self._validation_sums, self.validation_metrics()
        if sums is None:
            sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=self.device)
        if self._trainer is not None and self._trainer.world_size > 1:
            sums = self._trainer.strategy.reduce(sums, reduce_op="sum")
        means = (sums[:-1] / sums[-1]).float()
        self.log_dict({f"validation/{name}": mean for name, mean in zip(names, means.unbind(), strict=True)})

    def validation_metrics(self) -> list[str]:
        """Return the names of the metrics of a validation, the same in every rank."""
        return ["data_error", "contrast", "correlation", *(["patch_error"] if self.labelled else []), "error"]

    def _mean_over_ranks(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the means of numbers over the ranks, whose batches are of one size."""
        if self._trainer is None or self._trainer.world_size == 1:
            return values
        means = self._trainer.strategy.reduce(torch.stack([*values.values()]), reduce_op="mean")
        return dict(zip(values, means.unbind(), strict=True))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser and the learning-rate schedule of the stages."""
        settings = self.training_settings
        optimizer = make_optimizer(list(self.parameters()), settings)

        def factor(step: int) -> float:
            return lr_factor(
                settings.stages, (step + 1) / self.steps_per_epoch, settings.warmup_fraction, settings.final_lr_fraction
            )

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "name": "learning_rate"},
        }

    def epoch_after(self, batches: int) -> float:
        """Return the epoch, as a fraction, after some batches of the current one."""
        return self.current_epoch + batches / (self.steps_per_epoch * self.parts)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Forget the accumulated parts of an incomplete step: resuming repeats the whole step."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        begun = progress["current"]["processed"] % self.parts
        for count in (progress["current"], progress["total"]):
            count.update({name: done - begun for name, done in count.items()})

    def _back_projection(self, batch: Batch, probes: Tensor) -> Tensor:
        """Return the back-projection ``(B, N, N)`` that a network which sees amplitudes is compared with."""
        seen = self.network.settings.group_size
        return backproject(
            batch.counts[:, :seen].sqrt(),
            probes[:, :seen],
            batch.mask,
            self.network.settings.physics_iterations,
            propagate=batch.propagators().members(slice(seen)),
        ).canvas

    def _compared_patterns(self, batch: Batch) -> tuple[slice, Tensor | None]:
        """Return the members in the data error, held-out neighbours where there are any, and their mask."""
        if not self.training_settings.held_out_neighbours:
            return slice(None), batch.mask
        if batch.held_out is not None:
            held_out = batch.held_out[:, :, None, None].float()
            return slice(None), held_out if batch.mask is None else held_out * batch.mask
        return slice(self.network.settings.group_size, None), batch.mask

    def _compare(
        self, batch: Batch, prediction: GroupPrediction, canvas: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return measured and expected counts, ``(B, C, N, N)``, and mask of the patterns in the data error."""
        members, mask = self._compared_patterns(batch)
        expected = diffract(canvas, prediction.probes[:, members], prediction.propagate.members(members))
        return batch.counts[:, members], expected, mask

    def _losses(self, batch: Batch, prediction: GroupPrediction, canvas: Tensor, weight: float) -> dict[str, Tensor]:
        """Return the supervised and the physics loss of the canvases of one cascade, those whose weight is not 0."""
        losses: dict[str, Tensor] = {}
        counts = expected = mask = None
        if weight > 0 or self.labelled is not True:
            counts, expected, mask = self._compare(batch, prediction, canvas)
        if weight < 1:
            to_truth = to_counts = None
            if self.labelled is not False and batch.truth is not None:
                to_truth = ground_truth_error(canvas, batch.truth, prediction.illumination)
                if batch.features is not None and prediction.estimate is not None:
                    # geometric mean of the error and its ratio to the input's: weighs scans of any dose alike
                    before = ground_truth_error(prediction.estimate, batch.truth, prediction.illumination)
                    to_truth = to_truth * (before + SMALL_ERROR).rsqrt()
            if self.labelled is not True and counts is not None and expected is not None:
                to_counts = scale_free_error(counts, expected, mask)
            losses["supervised"] = supervised_loss(to_truth, to_counts, batch.labelled)
        if weight > 0 and counts is not None and expected is not None:
            losses["physics"] = physics_loss(self.training_settings.physics_loss, counts, expected, mask)
        return losses


def make_optimizer(parameters: list[Parameter], settings: Training) -> Optimizer:
    """Return the optimiser that the settings name.

    Args:
        parameters: of the network.
        settings: optimiser, learning rate, weight decay, precision.
    """
    fused = settings.precision != "16-mixed"  # its gradients are scaled until they have been clipped
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return SGD(parameters, rate, settings.momentum, weight_decay=decay, fused=fused)
    adam = AdamW if settings.optimizer == "adamw" else Adam
    return adam(parameters, rate, settings.adam_betas, weight_decay=decay, fused=fused)


def contrast_and_correlation(canvas: Tensor, estimate: Tensor, illumination: Tensor) -> dict[str, Tensor]:
    """Compare canvases with their back-projections: a uniform object has neither contrast nor correlation.

    The amplitude error alone does not detect a uniform object.

    Args:
        canvas: object under each group, ``(B, N, N)``.
        estimate: the same by back-projection alone, ``(B, N, N)``.
        illumination: of each group, photons, ``(B, N, N)``.

    Returns:
        ``contrast``, illumination-weighted standard deviation over that of the back-projection, and ``correlation``
        with it; means over the groups.
    """
    share = illumination / illumination.sum((-2, -1), keepdim=True)
    canvas, estimate = (_without_mean(field, share) for field in (canvas, estimate))
    power, reference = ((share * intensity(field)).sum((-2, -1)) for field in (canvas, estimate))
    product = intensity((share * canvas.conj() * estimate).sum((-2, -1)))
    return {
        "contrast": (power / reference.clamp_min(1e-12)).sqrt().mean(),
        "correlation": (product / (power * reference).clamp_min(1e-24)).sqrt().mean(),
    }


def _without_mean(field: Tensor, share: Tensor) -> Tensor:
    return field - (share * field).sum((-2, -1), keepdim=True)
